"""Merkle trees of RFC 9162, section 2.1, with SHA-256."""

import hashlib


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def leaf_hash(entry):
    return sha256(b"\x00", entry)


def node_hash(left, right):
    return sha256(b"\x01", left, right)


def root(leaf_hashes):
    """The Merkle tree hash; a list of n is cut at the largest power of two below n."""
    if not leaf_hashes:
        return sha256(b"")
    if len(leaf_hashes) == 1:
        return leaf_hashes[0]
    left = 1 << (len(leaf_hashes) - 1).bit_length() - 1
    return node_hash(root(leaf_hashes[:left]), root(leaf_hashes[left:]))


def complete_nodes(leaf_hashes):
    """Every complete subtree: `{(level, index): hash}`."""
    nodes = {(0, index): value for index, value in enumerate(leaf_hashes)}
    level, width = 0, len(leaf_hashes)
    while width > 1:
        width //= 2
        for index in range(width):
            nodes[level + 1, index] = node_hash(nodes[level, 2 * index], nodes[level, 2 * index + 1])
        level += 1
    return nodes
