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

    assert merkle.root(size, grown).hex() == KNOWN_ROOTS[size]


@pytest.mark.parametrize("size", range(EXHAUSTIVE + 1))
def test_every_small_tree(tree: Tree, size: int) -> None:
    """Root, edge, and every inclusion and consistency proof hold at every size."""
    root = merkle.root(size, tree)

    assert root == definition(tree.leaves[:size])
    assert root == merkle.root_of(Tree(tree.leaves[:size]).edge)
    for index in range(size):
        proof = merkle.inclusion(index, size, tree)
        assert merkle.verify_inclusion(tree.hashes[index], index, size, proof, root)
    for old in range(size + 1):
        proof = merkle.consistency(old, size, tree)
        assert merkle.verify_consistency(old, size, merkle.root(old, tree), root, proof)


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


@given(st.data())
def test_forged_inclusion_is_refused(data: st.DataObject) -> None:
    """No other leaf, place, size, root or path passes for the proven one."""
    size = data.draw(st.integers(1, 200))
    index = data.draw(st.integers(0, size - 1))
    tree = Tree(contents(size))
    root, proof = merkle.root(size, tree), merkle.inclusion(index, size, tree)
    leaf, other = tree.hashes[index], data.draw(st.binary(min_size=32, max_size=32))
    bent = proof.copy()
    if bent:
        bent[data.draw(st.integers(0, len(bent) - 1))] = other

    assert merkle.verify_inclusion(leaf, index, size, proof, root)
    assert not merkle.verify_inclusion(other, index, size, proof, root)
    assert not merkle.verify_inclusion(leaf, index, size, proof, other)
    assert not merkle.verify_inclusion(leaf, index, size, [*proof, other], root)
    assert not proof or not merkle.verify_inclusion(leaf, index, size, proof[:-1], root)
    assert not proof or not merkle.verify_inclusion(leaf, index, size, bent, root)
    wrong = data.draw(st.integers(-1, size).filter(lambda number: number != index))
    assert not merkle.verify_inclusion(leaf, wrong, size, proof, root)


@given(st.data())
def test_forged_consistency_is_refused(data: st.DataObject) -> None:
    """A tree whose beginning was rewritten is consistent with no checkpoint of before."""
    new = data.draw(st.integers(1, 200))
    old = data.draw(st.integers(1, new))
    honest = Tree(contents(new))
    rewritten = contents(new)
    rewritten[data.draw(st.integers(0, old - 1))] = b"another"
    forged = Tree(rewritten)
    before, after = merkle.root(old, honest), merkle.root(new, forged)
    proof = merkle.consistency(old, new, forged)

    assert merkle.verify_consistency(old, new, merkle.root(old, forged), after, proof)
    assert not merkle.verify_consistency(old, new, before, after, proof)
    assert not merkle.verify_consistency(old, new, before, after, merkle.consistency(old, new, honest))
    assert not merkle.verify_consistency(old, new, merkle.root(old, forged), after, [*proof, before])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 5), (5, 5)])
def test_no_proof_of_what_is_not_there(tree: Tree, index: int, size: int) -> None:
    """A leaf outside of the tree has no proof."""
    with pytest.raises(ValueError, match=f"no leaf {index} in a tree of {size}"):
        merkle.inclusion(index, size, tree)


@pytest.mark.parametrize(("old", "new"), [(-1, 3), (4, 3)])
def test_no_prefix_longer_than_the_whole(tree: Tree, old: int, new: int) -> None:
    """A tree has no prefix that is longer than itself."""
    with pytest.raises(ValueError, match=f"a tree of {new} has no prefix of {old}"):
        merkle.consistency(old, new, tree)

    assert not merkle.verify_consistency(old, new, b"", b"", [])


def test_empty_proofs() -> None:
    """The empty tree is the beginning of every tree, and nothing else proves itself without a path."""
    root = definition(contents(4))

    assert merkle.verify_consistency(0, 4, merkle.EMPTY_ROOT, root, [])
    assert not merkle.verify_consistency(0, 4, root, root, [])
    assert not merkle.verify_consistency(3, 4, definition(contents(3)), root, [])
    assert not merkle.verify_consistency(4, 4, root, merkle.EMPTY_ROOT, [])
