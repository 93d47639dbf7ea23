"""Which of many 64-bit hashes differ in few bits from given ones: an exact join, without holding all against all.

Hashes are cut in three bands. Of two that differ in at most 8 bits some band differs in at most 2 (pigeonhole), so looking up
every hash's bands, with up to 2 bits flipped, in tables ordered by band finds all; a pair found through several bands is taken
at the first. (Multi-index hashing: Norouzi, Punjani, Fleet, CVPR 2012.) Equal hashes are held once, with the list of who has
them, so a hash that a whole source shares costs one look-up, not one a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.uint32]
Masks = npt.NDArray[np.uint64]

BANDS = ((0, 21), (21, 21), (42, 22))
"""First bit and number of bits of each band."""

BYTES_PER_ENTRY = 60
"""While a table is built, for every hash that is entered."""

_DIRECT = 1 << 24
"""Up to so many comparisons looking at all is quicker than tables."""

_FLAT = 22


@dataclass(frozen=True, slots=True)
class HashTable:
    """The distinct `hashes` [d] of entries, in order; those with hash i are `entries[edges[i]:edges[i + 1]]`, in order.

    `starts` [3, 2^22 + 1] and `places` [3, d] list the places of hashes by the value of each band; [3, 0] where there are few.
    """

    hashes: Hashes
    edges: npt.NDArray[np.int64]
    entries: Places
    starts: Places
    places: Places

    @classmethod
    def of(cls, hashes: Hashes, entries: Places, *, num_asked: int) -> "HashTable":
        """A table of `entries[i]` with `hashes[i]`; without look-ups if `num_asked` times their number is small."""
        order = np.lexsort((entries, hashes))
        distinct, firsts = np.unique(hashes[order], return_index=True)
        edges = np.append(firsts, len(order)).astype(np.int64)
        if len(distinct) * num_asked <= _DIRECT:
            return cls(distinct, edges, entries[order], np.zeros((3, 0), np.uint32), np.zeros((3, 0), np.uint32))
        starts = np.zeros((len(BANDS), (1 << _FLAT) + 1), np.uint32)
        places = np.empty((len(BANDS), len(distinct)), np.uint32)
        for number, (first, size) in enumerate(BANDS):
            keys = (distinct >> np.uint64(first)) & np.uint64((1 << size) - 1)
            _order_by(keys, starts[number], places[number])
        return cls(distinct, edges, entries[order], starts, places)

    def save(self, folder: Path) -> None:
        """Write to `folder`, whence `load` maps it."""
        folder.mkdir(parents=True, exist_ok=True)
        for field in fields(self):
            np.save(folder / f"{field.name}.npy", getattr(self, field.name))

    @classmethod
    def load(cls, folder: Path) -> "HashTable":
        """The table in `folder`, mapped: processes on one machine share its memory."""
        # Mapped for copying on write: compiled code knows writable arrays only.
        return cls(*(np.asarray(np.load(folder / f"{field.name}.npy", mmap_mode="c")) for field in fields(cls)))

    def near(self, asked: Hashes, max_bits: int) -> tuple[npt.NDArray[np.int64], Places]:
        """Places of the hashes that differ from each of `asked` in at most `max_bits`, the nearest first.

        Returns edges [asked + 1] and places: those near to asked[i] are `places[edges[i]:edges[i + 1]]`.
        """
        edges = np.zeros(len(asked) + 1, np.int64)
        if not len(self.hashes):
            return edges, np.zeros(0, np.uint32)
        if not self.starts.size:
            return edges, _all_near(asked, self.hashes, max_bits, edges)
        masks, sizes = _flips(max_bits // len(BANDS))
        return edges, _near(asked, self.hashes, self.starts, self.places, masks, sizes, max_bits, edges)


def _flips(most: int) -> tuple[Masks, npt.NDArray[np.int64]]:
    """[3, f] masks with up to `most` bits of each band set, and how many there are of each band."""
    found: list[Sequence[int]] = [
        [sum(1 << bit for bit in bits) for number in range(most + 1) for bits in combinations(range(size), number)]
        for _, size in BANDS
    ]
    sizes = np.array([len(masks) for masks in found], np.int64)
    masks = np.zeros((len(BANDS), int(sizes.max())), np.uint64)
    for number, flips in enumerate(found):
        masks[number, : len(flips)] = flips
    return masks, sizes


@compiled
def _order_by(keys: Hashes, starts: Places, places: Places) -> None:
    """Counting sort: places of keys by value, and where each value starts."""
    for key in keys:
        starts[key + np.uint64(1)] += np.uint32(1)
    for value in range(1, len(starts)):
        starts[value] += starts[value - 1]
    filled = starts.copy()
    for place in range(len(keys)):
        key = keys[place]
        places[filled[key]] = np.uint32(place)
        filled[key] += np.uint32(1)


@compiled
def num_ones(value: np.uint64) -> int:
    """How many bits are set."""
    value = value - ((value >> np.uint64(1)) & np.uint64(0x5555555555555555))
    value = (value & np.uint64(0x3333333333333333)) + ((value >> np.uint64(2)) & np.uint64(0x3333333333333333))
    value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int((value * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled
def _nearest_first(found: Places, bits: npt.NDArray[np.uint8], count: int, max_bits: int, target: Places, start: int) -> None:
    filled = start
    for number in range(max_bits + 1):
        first = filled
        for place in range(count):
            if bits[place] == number:
                target[filled] = found[place]
                filled += 1
        target[first:filled].sort()


@compiled
def _all_near(asked: Hashes, held: Hashes, max_bits: int, edges: npt.NDArray[np.int64]) -> Places:
    found, bits = np.empty(len(held), np.uint32), np.empty(len(held), np.uint8)
    result = np.empty(1024, np.uint32)
    for number in range(len(asked)):
        count = 0
        for place in range(len(held)):
            differing = num_ones(asked[number] ^ held[place])
            if differing <= max_bits:
                found[count], bits[count] = np.uint32(place), np.uint8(differing)
                count += 1
        result = _with_room(result, edges[number], count)
        _nearest_first(found, bits, count, max_bits, result, edges[number])
        edges[number + 1] = edges[number] + count
    return result[: edges[-1]]


@compiled
def _near(
    asked: Hashes, held: Hashes, starts: Places, places: Places, masks: Masks, sizes: npt.NDArray[np.int64], max_bits: int,
    edges: npt.NDArray[np.int64],
) -> Places:  # fmt: skip
    most = max_bits // 3
    found, bits = np.empty(1024, np.uint32), np.empty(1024, np.uint8)
    result = np.empty(1024, np.uint32)
    low, middle = np.uint64((1 << 21) - 1), np.uint64(21)
    for number in range(len(asked)):
        count = 0
        for band in range(3):
            width = np.uint64(22 if band == 2 else 21)
            key = (asked[number] >> np.uint64(21 * band)) & np.uint64((np.uint64(1) << width) - np.uint64(1))
            for flip in range(sizes[band]):
                wanted = key ^ masks[band, flip]
                for place in range(starts[band, wanted], starts[band, wanted + np.uint64(1)]):
                    other = places[band, place]
                    gap = asked[number] ^ held[other]
                    differing = num_ones(gap)
                    if differing > max_bits:
                        continue
                    if band > 0 and num_ones(gap & low) <= most:
                        continue
                    if band > 1 and num_ones((gap >> middle) & low) <= most:
                        continue
                    if count == len(found):
                        found = _with_room(found, count, count)
                        longer = np.empty(len(found), np.uint8)
                        longer[:count] = bits[:count]
                        bits = longer
                    found[count], bits[count] = other, np.uint8(differing)
                    count += 1
        result = _with_room(result, edges[number], count)
        _nearest_first(found, bits, count, max_bits, result, edges[number])
        edges[number + 1] = edges[number] + count
    return result[: edges[-1]]


@compiled
def _with_room(values: Places, used: int, more: int) -> Places:
    """`values`, or a longer copy of the `used` first, with room for `more`."""
    if used + more <= len(values):
        return values
    longer = np.empty(max(used + more, 2 * len(values)), np.uint32)
    longer[:used] = values[:used]
    return longer
