"""The tree's functions against the definitions of RFC 6962, at every small size and some larger ones."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import merkle
from ledger.merkle import Subtree

# The inputs and roots of the tests of Certificate Transparency's reference implementation.
KNOWN_LEAVES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
KNOWN_ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
EXHAUSTIVE = 64


def definition(leaves: Sequence[bytes]) -> bytes:
    """Give the root as RFC 6962, 2.1 defines it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    middle = 1
    while middle * 2 < len(leaves):
        middle *= 2
    both = definition(leaves[:middle]) + definition(leaves[middle:])
    return hashlib.sha256(b"\x01" + both).digest()


class Tree:
    """A tree in memory that grows as the ledger's does."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.leaves = leaves
        self.hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
        nodes, self.edge = merkle.grow(0, [], self.hashes)
        self._nodes = {Subtree(node.leaf, node.level): node.hash for node in nodes}

    def __call__(self, name: Subtree) -> bytes:
        """Give a node."""
        return self._nodes[name]


def contents(count: int) -> list[bytes]:
    """Give different leaves."""
    return [str(number).encode() for number in range(count)]


@pytest.fixture(scope="module")
def tree() -> Tree:
    """Give the largest tree that is tried exhaustively."""
    return Tree(contents(EXHAUSTIVE))


@pytest.mark.parametrize("size", KNOWN_ROOTS)
def test_known_roots(size: int) -> None:
    """The roots are those of the reference implementation."""
    grown = Tree([bytes.fromhex(leaf) for leaf in KNOWN_LEAVES[:size]])

    assert merkle.root_of(grown.edge).hex() == KNOWN_ROOTS[size]


@pytest.mark.parametrize("size", range(EXHAUSTIVE + 1))
def test_every_small_tree(tree: Tree, size: int) -> None:
    """Root and edge are those of the definition at every size, also out of the nodes of a larger tree."""
    root = merkle.root_of([tree(name) for name in merkle.frontier(size)])

    assert root == definition(tree.leaves[:size])
    assert root == merkle.root_of(Tree(tree.leaves[:size]).edge)


@given(st.lists(st.integers(1, 40), max_size=8))
def test_growth_in_any_portions(portions: list[int]) -> None:
    """However many leaves come at once, the nodes and the edge are the same."""
    whole = Tree(contents(sum(portions)))
    size, edge, nodes = 0, list[bytes](), list[merkle.Node]()
    for portion in portions:
        fresh, edge = merkle.grow(size, edge, whole.hashes[size : size + portion])
        nodes += fresh
        size += portion

    assert edge == whole.edge
    assert (nodes, edge) == merkle.grow(0, [], whole.hashes)
    assert len(nodes) == 2 * size - size.bit_count()
