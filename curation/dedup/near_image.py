"""Pictures that show the same though their pixels differ: re-encoded, resized, turned grey, cropped a little, or written on.

Perceptual hashes *propose*, thumbnails *dispose*. Hashes cannot tell two pages of formulas apart: of 1,197 such pages 847 share
theirs with another. So every proposed pair is compared cell by cell (`picture_check`).

Nothing here knows the order of its input: pairs are judged one by one, and caps choose by hash.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled
from curation.dedup.hamming_join import HashTable, Places
from curation.dedup.look_alike_rule import LookAlikeRule
from curation.dedup.picture_check import ASPECT, CONTRAST, Traits, alike_pairs, traits_of
from curation.dedup.picture_hashes import HALVES, MIN_CONTRAST, WINDOWS, Hashes, contrasts, perceptual_hashes
from curation.thumbnail import CHROMA_SIDE, LUMA_SIDE, THUMBNAIL_BYTES

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_WINDOW_BITS = 5
_FRAMES = np.array(WINDOWS, np.float64)
_MAX_STRETCH = 0.25
"""Most by which the logarithms of two pictures' aspects differ."""


@dataclass(frozen=True)
class Thumbnails:
    """[n] pictures: `packed` [n, THUMBNAIL_BYTES] as `curation.imaging` packs them, `aspect` [n] (width / height)."""

    packed: Bytes
    aspect: Floats

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def luma(self) -> Bytes:
        """[n, 128, 128] brightness."""
        return self.packed[:, : LUMA_SIDE**2].reshape(-1, LUMA_SIDE, LUMA_SIDE)

    @property
    def chroma(self) -> Bytes:
        """[n, 2, 16, 16] Cb and Cr, 128 for grey."""
        return self.packed[:, LUMA_SIDE**2 : THUMBNAIL_BYTES].reshape(-1, 2, CHROMA_SIDE, CHROMA_SIDE)

    @cached_property
    def looks(self) -> "Looks":
        """What pictures are found by."""
        return Looks.of(self)

    def mirrored(self) -> "Thumbnails":
        """The same pictures, left and right exchanged."""
        flat = [np.ascontiguousarray(part[..., ::-1]).reshape(len(self), -1) for part in (self.luma, self.chroma)]
        return Thumbnails(np.concatenate(flat, axis=1), self.aspect)


@dataclass(frozen=True, slots=True)
class Looks:
    """What [n] pictures are found by: `hashes` [n, windows], `halves` [n, halves], `has_half` [n, halves], `traits` [n, 6]."""

    hashes: Hashes
    halves: Hashes
    has_half: npt.NDArray[np.bool_]
    traits: Traits

    @classmethod
    def of(cls, pictures: Thumbnails) -> "Looks":
        """Computed from thumbnails."""
        luma = pictures.luma
        return cls(
            perceptual_hashes(luma),
            perceptual_hashes(luma, HALVES),
            contrasts(luma) >= MIN_CONTRAST,
            traits_of(np.ascontiguousarray(pictures.packed), pictures.aspect),
        )

    def __len__(self) -> int:
        return len(self.hashes)

    def taken(self, chosen: slice) -> "Looks":
        """Those of some of the pictures."""
        return Looks(self.hashes[chosen], self.halves[chosen], self.has_half[chosen], self.traits[chosen])


@dataclass(frozen=True, slots=True)
class Alike:
    """Verified pairs: place `left[i]` of one set and `right[i]` of the other; `bits` their hashes differ in.

    `unseen` counts proposals left out by `max_alike`, of whole pictures and of every half by themselves: 0 says that every one
    was compared.
    """

    left: Ints
    right: Ints
    bits: Ints
    unseen: int = 0


@dataclass(frozen=True, slots=True)
class Tables:
    """Where the hashes of some pictures are looked up: those of their windows, and of each half."""

    windows: HashTable
    halves: Sequence[HashTable]

    @classmethod
    def of(cls, held: Looks, rule: LookAlikeRule, *, num_asked: int) -> "Tables":
        """The tables of all pictures that are not blank."""
        shows = held.traits[:, CONTRAST] >= rule.blank
        numbers = np.flatnonzero(shows).astype(np.uint32)
        used = len(WINDOWS) if rule.crops else 1
        entries = (numbers[:, None] << np.uint32(_WINDOW_BITS)) | np.arange(used, dtype=np.uint32)
        windows = HashTable.of(held.hashes[numbers, :used].ravel(), entries.ravel(), num_asked=num_asked)
        halves = []
        for half in range(len(HALVES) if rule.overlaid else 0):
            numbers = np.flatnonzero(shows & held.has_half[:, half]).astype(np.uint32)
            entries = numbers << np.uint32(_WINDOW_BITS)
            halves.append(HashTable.of(held.halves[numbers, half], entries, num_asked=num_asked))
        return cls(windows, halves)

    def save(self, folder: Path) -> None:
        """Write to `folder`, whence `load` maps them."""
        self.windows.save(folder / "windows")
        for half, table in enumerate(self.halves):
            table.save(folder / f"half-{half}")

    @classmethod
    def load(cls, folder: Path) -> "Tables":
        """The tables in `folder`, mapped."""
        halves = [HashTable.load(path) for path in sorted(folder.glob("half-*"))]
        return cls(HashTable.load(folder / "windows"), halves)


def alike_within(pictures: Thumbnails, rule: LookAlikeRule) -> Alike:
    """Pairs of `pictures` that look alike, each once, `left` before `right`."""
    looks = pictures.looks
    tables = Tables.of(looks, rule, num_asked=len(pictures))
    return distinct(alike_in(pictures, looks, pictures, looks, tables, rule, Block(0, 0, is_within=True)))


def alike_between(left: Thumbnails, right: Thumbnails, rule: LookAlikeRule) -> Alike:
    """Pairs of one picture of `left` and one of `right` that look alike, sorted, each once."""
    tables = [Tables.of(side.looks, rule, num_asked=len(other)) for side, other in ((right, left), (left, right))]
    block = Block(0, 0, is_within=False)
    found = alike_in(left, left.looks, right, right.looks, tables[0], rule, block)
    turned = alike_in(right, right.looks, left, left.looks, tables[1], rule, block)
    lefts, rights, bits = np.append(found[0], turned[1]), np.append(found[1], turned[0]), np.append(found[2], turned[2])
    return _sorted(lefts, rights, bits, found[3] + turned[3])


@dataclass(frozen=True, slots=True)
class Block:
    """Numbers of the first picture asked about and of the first held; whether both are of one set."""

    asked: int
    held: int
    is_within: bool


Found = tuple[Ints, Ints, Ints, int]
"""Places of those asked about, of those held, bits, and how many proposals were left out."""


def alike_in(
    asked: Thumbnails, looks: Looks, held: Thumbnails, held_looks: Looks, tables: Tables, rule: LookAlikeRule, block: Block
) -> Found:
    """Pairs of a picture of `asked` that shows all, or a window, of one of `held`; mirror images too where the rule asks."""
    found = [_alike(asked, looks, held, held_looks, tables, rule, block)]
    if rule.mirrored:
        turned = asked.mirrored()
        found.append(_alike(turned, turned.looks, held, held_looks, tables, rule, block))
    left, right, bits = (np.concatenate([part[number] for part in found]) for number in range(3))
    return left, right, bits, sum(part[3] for part in found)


def distinct(found: Found) -> Alike:
    """Pairs of places of one set, each once, `left` before `right`."""
    left, right, bits, unseen = found
    return _sorted(np.minimum(left, right), np.maximum(left, right), bits, unseen)


def _sorted(left: Ints, right: Ints, bits: Ints, unseen: int) -> Alike:
    order = np.lexsort((bits, right, left))
    left, right, bits = left[order], right[order], bits[order]
    is_first = np.ones(len(left), np.bool_)
    is_first[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    return Alike(left[is_first], right[is_first], bits[is_first], unseen)


def _alike(
    asked: Thumbnails, looks: Looks, held: Thumbnails, held_looks: Looks, tables: Tables, rule: LookAlikeRule, block: Block
) -> Found:
    shows = looks.traits[:, CONTRAST] >= rule.blank
    searches = [(tables.windows, looks.hashes[:, 0], shows, rule.max_bits, True)]
    for half, table in enumerate(tables.halves):
        searches.append((table, looks.halves[:, half], shows & looks.has_half[:, half], rule.max_half_bits, False))
    parts: list[Found] = []
    compared = np.zeros(0, np.int64)
    for table, hashes, is_asked, max_bits, is_window in searches:
        numbers = np.flatnonzero(is_asked)
        values, place = np.unique(hashes[numbers], return_inverse=True)
        edges, near = table.near(values, max_bits)
        left, right, windows, unseen = _expanded(
            numbers, place.astype(np.int64), edges, near, table.edges, table.entries,
            looks.traits, held_looks.traits, rule.max_alike, block.asked, block.held, block.is_within,
        )  # fmt: skip
        pairs = left * len(held) + right
        is_new = ~np.isin(pairs, compared)
        compared = np.concatenate([compared, pairs[is_new]])
        left, right, windows = left[is_new], right[is_new], windows[is_new]
        bounds = rule.bounds(crops=rule.crops and is_window)
        is_alike = alike_pairs(
            asked.packed, looks.traits, held.packed, held_looks.traits, left, right, _FRAMES[windows], bounds
        )
        left, right, windows = left[is_alike], right[is_alike], windows[is_alike]
        whole = looks.hashes[left, 0]
        bits = np.minimum(
            np.bitwise_count(whole ^ held_looks.hashes[right, windows]), np.bitwise_count(whole ^ held_looks.hashes[right, 0])
        )
        parts.append((left, right, bits.astype(np.int64), int(unseen)))
    left, right, bits = (np.concatenate([part[number] for part in parts]) for number in range(3))
    return left, right, bits, sum(part[3] for part in parts)


@compiled
def _expanded(
    numbers: Ints, place: Ints, edges: Ints, near: Places, groups: Ints, entries: Places, traits: Traits, other_traits: Traits,
    max_alike: int, first_asked: int, first_held: int, is_within: bool,
) -> tuple[Ints, Ints, Ints, int]:  # fmt: skip
    """From hashes that are near to pairs of pictures, nearest first, each once; at most `max_alike` for a picture asked about.

    Within one set a pair of whole pictures is asked about once, a picture and another one's window in both directions.
    """
    left, right = np.empty(1024, np.int64), np.empty(1024, np.int64)
    windows = np.empty(1024, np.int64)
    count, unseen = 0, 0
    seen_by = np.full(len(other_traits), -1, np.int64)
    for row in range(len(numbers)):
        one = numbers[row]
        taken = 0
        for at in range(edges[place[row]], edges[place[row] + 1]):
            group = near[at]
            for member in range(groups[group], groups[group + 1]):
                other, window = np.int64(entries[member] >> np.uint32(5)), np.int64(entries[member] & np.uint32(31))
                if seen_by[other] == one:
                    continue
                ahead = other + first_held - one - first_asked
                if is_within and (ahead == 0 or (window == 0 and ahead < 0)):
                    continue
                if abs(np.log(traits[one, ASPECT] / other_traits[other, ASPECT])) > _MAX_STRETCH:
                    continue
                seen_by[other] = one
                if taken == max_alike:
                    unseen += 1
                    continue
                taken += 1
                if count == len(left):
                    left, right, windows = _longer(left), _longer(right), _longer(windows)
                left[count], right[count], windows[count] = one, other, window
                count += 1
    return left[:count], right[:count], windows[:count], unseen


@compiled
def _longer(values: Ints) -> Ints:
    longer = np.empty(2 * len(values), np.int64)
    longer[: len(values)] = values
    return longer
