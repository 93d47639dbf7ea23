"""Sets of pictures that look alike, place by place: what the pair rule takes for the same pictures when asked to.

Looking alike does not carry over: of pictures a - b - c with a like b and b like c, a and c may differ. So what is reachable
through such chains only *proposes* (samples of one group are compared), and `differing_bits` disposes: it looks up the very
pictures of both samples, each of which must have been verified against the other's at its place.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.dedup.buckets import Labels, Pairs, join_pairs, split_pairs
from curation.dedup.shingles import Hashes
from curation.tables import Int64s, mix_bits

NOT_ALIKE = -1


@dataclass(frozen=True, slots=True)
class LookAlikes:
    """Which pictures look alike, and which samples show them.

    Sample i shows the pictures numbered `numbers[edges[i]:edges[i + 1]]`, in order; nothing is listed for samples none of whose
    pictures has a look-alike. `pairs` are verified pairs of numbers (the larger one in the upper half), sorted and distinct,
    and `bits` the bits in which their perceptual hashes differ.
    """

    edges: Int64s
    numbers: Labels
    pairs: Pairs
    bits: npt.NDArray[np.uint8]

    def groups(self, pictures: Hashes) -> Hashes:
        """Keys by sample, equal where pictures might be alike; `pictures` are those that are equal for the same pixels.

        Samples in one group need not be alike, but those that are, are in one group.
        """
        sizes = np.diff(self.edges)
        roots = chained(self.numbers, self.pairs)
        groups = pictures.copy()
        listed = np.flatnonzero(sizes)
        keys = mix_bits(sizes[listed].astype(np.uint64))
        for place in range(int(sizes.max(initial=0))):
            has_place = sizes[listed] > place
            shown = roots[self.edges[listed[has_place]] + place].astype(np.uint64)
            keys[has_place] = mix_bits(keys[has_place] * np.uint64(3) ^ shown)
        groups[listed] = np.maximum(keys, np.uint64(1))
        return groups

    def differing_bits(self, first: Int64s, second: Int64s) -> Int64s:
        """For samples `first[i]` and `second[i]` the most bits in which two of their pictures at one place differ: 0 for the
        same pixels, NOT_ALIKE where the pictures at some place do not look alike, their numbers differ, or none are listed."""
        sizes = np.diff(self.edges)
        found = np.full(len(first), NOT_ALIKE, np.int64)
        same_size = np.flatnonzero((sizes[first] == sizes[second]) & (sizes[first] > 0))
        if not len(same_size):
            return found
        counts = sizes[first[same_size]]
        starts = np.cumsum(counts) - counts
        within = np.arange(int(counts.sum())) - np.repeat(starts, counts)
        one = self.numbers[np.repeat(self.edges[first[same_size]], counts) + within]
        other = self.numbers[np.repeat(self.edges[second[same_size]], counts) + within]
        bits = self._bits(one, other)
        is_alike = np.minimum.reduceat(bits, starts) != NOT_ALIKE
        found[same_size[is_alike]] = np.maximum.reduceat(bits, starts)[is_alike]
        return found

    def _bits(self, one: Labels, other: Labels) -> Int64s:
        asked = join_pairs(np.maximum(one, other), np.minimum(one, other))
        bits = np.where(one == other, 0, NOT_ALIKE).astype(np.int64)
        if len(self.pairs):
            places = np.minimum(np.searchsorted(self.pairs, asked), len(self.pairs) - 1)
            is_pair = self.pairs[places] == asked
            bits[is_pair] = self.bits[places[is_pair]]
        return bits


def chained(numbers: Labels, pairs: Pairs) -> Labels:
    """For each of `numbers` the smallest number that a chain of `pairs` leads to."""
    known, places = np.unique(np.concatenate([numbers, *split_pairs(pairs)]), return_inverse=True)
    left, right = np.split(places[len(numbers) :], 2)
    roots: Int64s = np.arange(len(known), dtype=np.int64)
    while True:
        lowest = np.minimum(roots[left], roots[right])
        lower = roots.copy()
        for ends in (left, right):
            np.minimum.at(lower, roots[ends], lowest)
        lower = lower[lower]
        if np.array_equal(lower, roots):
            smallest: Labels = known[roots[places[: len(numbers)]]]
            return smallest
        roots = lower
