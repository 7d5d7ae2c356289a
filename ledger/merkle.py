"""The RFC 6962 tree as pure functions: hashes, growth and roots.

A complete subtree of ``2**level`` leaves is named by ``(leaf, level)``, where ``leaf`` is its last leaf: then
exactly the subtrees that leaf ``i`` completes have ``leaf == i``, and an append stores only those.
"""

import hashlib
from collections.abc import Iterable, Sequence
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
