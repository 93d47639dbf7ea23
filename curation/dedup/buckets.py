"""From keys to candidate pairs: items with an equal key are in one bucket, and buckets are capped.

Items are numbered in the order in which they are rather kept. In a bucket of more than `cap` items each is paired with the
`cap` best of it only, so a bucket of n items proposes at most n * cap pairs however many it holds.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled
from curation.dedup.minhash import NO_KEY, Keys

Labels = npt.NDArray[np.uint32]
Pairs = npt.NDArray[np.uint64]
"""A pair as one number: the worse item in the upper 32 bits, the better one in the lower."""

_LOWER = np.uint64(0xFFFFFFFF)
_UPPER_BITS = np.uint64(32)


@dataclass(frozen=True, slots=True)
class Capped:
    """Buckets over the cap: how many, the largest's number of items, and the pairs that were left out."""

    buckets: int = 0
    largest: int = 0
    pairs: int = 0

    def __add__(self, other: "Capped") -> "Capped":
        return Capped(self.buckets + other.buckets, max(self.largest, other.largest), self.pairs + other.pairs)


def candidate_pairs(keys: Keys, labels: Labels, cap: int) -> tuple[Pairs, Capped]:
    """The pairs of labels with an equal key, sorted and distinct, and what the cap left out."""
    if len(keys) < 2:
        return np.zeros(0, np.uint64), Capped()
    order = _shared_first(keys)
    sorted_keys, sorted_labels = keys[order], labels[order]
    counts = np.zeros(4, np.int64)
    _count(sorted_keys, cap, counts)
    pairs = np.empty(counts[0], np.uint64)
    _fill(sorted_keys, sorted_labels, cap, pairs)
    return np.unique(pairs), Capped(int(counts[1]), int(counts[2]), int(counts[3]))


def split_pairs(pairs: Pairs) -> tuple[Labels, Labels]:
    """The worse and the better item of each pair."""
    return (pairs >> _UPPER_BITS).astype(np.uint32), (pairs & _LOWER).astype(np.uint32)


def join_pairs(worse: Labels, better: Labels) -> Pairs:
    """Pairs as single numbers; the inverse of `split_pairs`."""
    joined: Pairs = worse.astype(np.uint64) << _UPPER_BITS | better.astype(np.uint64)
    return joined


def _shared_first(keys: Keys) -> npt.NDArray[np.int64]:
    """Places of the keys that are not alone, ordered by key. Most are alone, which a small table of counts tells of most."""
    bits = min(27, max(8, len(keys).bit_length() + 3))
    slots = (keys >> np.uint64(64 - bits)).astype(np.uint32)
    seen = np.zeros(1 << bits, np.uint8)
    _note(slots, seen)
    places = np.flatnonzero((seen[slots] > 1) & (keys != NO_KEY))
    return places[np.argsort(keys[places], kind="stable")]


@compiled
def _note(slots: Labels, seen: npt.NDArray[np.uint8]) -> None:
    for slot in slots:
        if seen[slot] < 2:
            seen[slot] += 1


@compiled
def _count(keys: Keys, cap: int, counts: npt.NDArray[np.int64]) -> None:
    start = 0
    for stop in range(1, len(keys) + 1):
        if stop == len(keys) or keys[stop] != keys[start]:
            size = stop - start
            capped = min(size, cap)
            # Item i of a bucket meets the items before it, but no more than `cap` of them.
            num_pairs = capped * (capped - 1) // 2 + (size - capped) * capped
            counts[0] += num_pairs
            if size > cap + 1:
                counts[1] += 1
                counts[2] = max(counts[2], size)
                counts[3] += size * (size - 1) // 2 - num_pairs
            start = stop


@compiled
def _fill(keys: Keys, labels: Labels, cap: int, pairs: Pairs) -> None:
    filled = 0
    start = 0
    for stop in range(1, len(keys) + 1):
        if stop == len(keys) or keys[stop] != keys[start]:
            if stop - start > 1:
                members = np.sort(labels[start:stop])
                for worse in range(1, len(members)):
                    for better in range(min(worse, cap)):
                        pairs[filled] = np.uint64(members[worse]) << np.uint64(32) | np.uint64(members[better])
                        filled += 1
            start = stop
