"""The RFC 6962 tree as pure functions: hashes, growth, roots, proofs and their verifiers.

A complete subtree of ``2**level`` leaves is named by ``(leaf, level)``, where ``leaf`` is its last leaf: then
exactly the subtrees that leaf ``i`` completes have ``leaf == i``, and an append stores only those.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

EMPTY_ROOT = hashlib.sha256(b"").digest()


class Subtree(NamedTuple):
    """The name of a complete subtree: its last leaf, and the level above the leaves."""

    leaf: int
    level: int


class Node(NamedTuple):
    """A complete subtree with its hash."""

    leaf: int
    level: int
    hash: bytes


Nodes = Callable[[Subtree], bytes]


def leaf_hash(content: bytes) -> bytes:
    """Hash the content of one leaf."""
    return hashlib.sha256(b"\x00" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into the one above them."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def frontier(size: int) -> list[Subtree]:
    """Name the complete subtrees that a tree of this size consists of, from left to right."""
    names, start = [], 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            start += 1 << level
            names.append(Subtree(start - 1, level))
    return names


def grow(size: int, edge: Sequence[bytes], leaves: Iterable[bytes]) -> tuple[list[Node], list[bytes]]:
    """Append leaf hashes to a tree.

    Args:
        size: Leaves before.
        edge: The hashes of ``frontier(size)``.
        leaves: The new leaves' hashes.

    Returns:
        Every subtree that the new leaves complete, the leaves themselves included, and the new edge.
    """
    nodes, edge = [], list(edge)
    for index, leaf in enumerate(leaves, start=size):
        edge.append(leaf)
        nodes.append(Node(index, 0, leaf))
        level = 0
        while index >> level & 1:
            right, left = edge.pop(), edge.pop()
            level += 1
            edge.append(node_hash(left, right))
            nodes.append(Node(index, level, edge[-1]))
    return nodes, edge


def root_of(edge: Sequence[bytes]) -> bytes:
    """Give the root of the tree with this edge."""
    if not edge:
        return EMPTY_ROOT
    root = edge[-1]
    for left in reversed(edge[:-1]):
        root = node_hash(left, root)
    return root


def root(size: int, nodes: Nodes) -> bytes:
    """Give the root of the first ``size`` leaves."""
    return root_of([nodes(name) for name in frontier(size)])


def inclusion(index: int, size: int, nodes: Nodes) -> list[bytes]:
    """Prove that leaf ``index`` is in the tree of the first ``size`` leaves (RFC 6962, 2.1.1).

    Raises:
        ValueError: There is no such leaf in it.
    """
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    start, end, path = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range(middle, end, nodes))
            end = middle
        else:
            path.append(_range(start, middle, nodes))
            start = middle
    return path[::-1]


def consistency(old: int, new: int, nodes: Nodes) -> list[bytes]:
    """Prove that the first ``old`` leaves are a prefix of the first ``new`` (RFC 6962, 2.1.2).

    Raises:
        ValueError: ``old`` is not between 0 and ``new``.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} has no prefix of {old}")
    if old in (0, new):
        return []
    start, end, path = 0, new, []
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_range(middle, end, nodes))
            end = middle
        else:
            path.append(_range(start, middle, nodes))
            start = middle
    if start:
        path.append(_range(start, end, nodes))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Say whether the proof shows this leaf hash at ``index`` under this root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    position, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            computed = node_hash(sibling, computed)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and computed == root


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Say whether the proof shows that the old tree is a prefix of the new one (RFC 9162, 2.1.4.2)."""
    if not 0 <= old <= new:
        return False
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    if old == new:
        return not proof and old_root == new_root
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and before == old_root and after == new_root


def _split(count: int) -> int:
    """Give the largest power of two below ``count``."""
    return 1 << (count - 1).bit_length() - 1


def _range(start: int, end: int, nodes: Nodes) -> bytes:
    """Hash leaves ``start`` to ``end``, where ``start`` is aligned as the tree's own subtrees are."""
    return root_of([nodes(Subtree(start + leaf, level)) for leaf, level in frontier(end - start)])
