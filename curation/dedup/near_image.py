"""Pictures that show the same though their pixels differ: re-encoded, resized, recoloured to grey, or cropped a little.

A perceptual hash *proposes*, thumbnails *dispose*. The hash is the signs of the lowest cosine frequencies, taken of the whole
picture and of windows that leave out a tenth of a side, so that a cropped copy meets the window it was cut from. It cannot tell
two pages of formulas apart: of 1,197 such pages 847 share theirs with another. So every proposed pair is compared cell by
cell, by its *largest* difference, measured against how much contrast the fainter picture has: a formula is a few grey cells
on white and counts for as much as a bar of a chart. Copies that do not lie on each other are first registered (a
least-squares fit of the crop) and then compared after a small blur, since their cells cut pixels differently.

Nothing here knows the order of its input: pairs are judged one by one, and caps choose by hash.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from curation.dedup.registration import blurred, fit, warped
from curation.imaging import CHROMA_SIDE, LUMA_SIDE, THUMBNAIL_BYTES

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

WINDOWS: tuple[tuple[float, float, float, float], ...] = (
    (0.0, 1.0, 0.0, 1.0),
    *((top, top + 0.9, left, left + 0.9) for top in (0.0, 0.05, 0.1) for left in (0.0, 0.05, 0.1)),
    (0.025, 0.975, 0.025, 0.975),
)
"""Top, bottom, left and right of what is hashed, as shares of the sides; the first is the whole picture."""

_FREQUENCIES = 8
_NEUTRAL = 128
_BATCH = 2_048
_PROMISING = 0.25
_COARSE = 4
_VISIBLE, _PLAIN, _LIGHT = 24, 3, 216
_EXHAUSTIVE = 8_192
_CELLS_AT_ONCE = 1 << 24
_BANDS, _BAND_BITS = 16, 12
_SAMPLED_BITS = np.stack([np.random.default_rng(number).permutation(64)[:_BAND_BITS] for number in range(_BANDS)])


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAlikeRule:
    """What counts as looking alike.

    `max_bits`: most bits in which two of 64 hashed signs differ. The other bounds are on cells, and on luma where nothing else
    is said; those on differences are shares of the lower contrast (standard deviation of luma, plus 10).

    `difference`, `blurred_difference`: largest difference of two cells, and of two means of 3 x 3. `local_difference`: largest
    difference as a share of what both vary by among the cells around (plus 20), which finds what was added to plain ground.
    `colour`: largest difference of two cells' Cb or Cr, of 255; not asked where one picture is grey.
    `faint`: pictures of less contrast, mostly blank pages, may differ by `faint_difference` only; below `blank` nothing but
    equal pixels counts.

    `photo`, `paper`: at most these shares of a photograph's cells are plain (luma varies by 3 or less around), and as light as
    paper (216 or more); tables and charts have more of one or both. `overlaid`: the share of a photograph's cells that may
    differ if they lie together (in a rectangle of at most `overlay_box` of the picture), as under a line of text; in a
    drawing, a number in a few cells makes another picture.
    `crops`: cropped copies count, after fitting, of pictures of which at most `croppable` is plain or at least `busy` shows
    something (luma varies by more than 24 around), up to `cropped_colour` at the edges of colours.
    `mirrored`: whether mirror images count. `max_alike`: how many proposals a picture is compared with, the nearest first.
    """

    max_bits: int = 10
    difference: float = 0.85
    blurred_difference: float = 0.27
    local_difference: float = 0.8
    colour: float = 12.0
    faint: float = 6.0
    faint_difference: float = 0.45
    blank: float = 0.5
    photo: float = 0.4
    paper: float = 0.3
    overlaid: float = 0.15
    overlay_box: float = 0.25
    crops: bool = True
    croppable: float = 0.5
    busy: float = 0.3
    cropped_colour: float = 24.0
    mirrored: bool = False
    max_alike: int = 1_024


@dataclass(frozen=True)
class Thumbnails:
    """[n] pictures: `luma` [n, 64, 64] and `chroma` [n, 2, 16, 16] of 8 bits, `aspect` [n] (width / height)."""

    luma: npt.NDArray[np.uint8]
    chroma: npt.NDArray[np.uint8]
    aspect: Floats

    @classmethod
    def of(cls, packed: npt.NDArray[np.uint8], aspect: Floats) -> "Thumbnails":
        """From [n, THUMBNAIL_BYTES] bytes as `curation.imaging` packs them."""
        luma, chroma = packed[:, : LUMA_SIDE**2], packed[:, LUMA_SIDE**2 : THUMBNAIL_BYTES]
        return cls(luma.reshape(-1, LUMA_SIDE, LUMA_SIDE), chroma.reshape(-1, 2, CHROMA_SIDE, CHROMA_SIDE), aspect)

    def __len__(self) -> int:
        return len(self.luma)

    @cached_property
    def contrast(self) -> Floats:
        """[n] standard deviation of luma."""
        parts = [self.luma[start : start + _BATCH].std((1, 2), dtype=np.float32) for start in range(0, len(self), _BATCH)]
        return np.concatenate([np.zeros(0, np.float32), *parts])

    @cached_property
    def variation(self) -> npt.NDArray[np.uint8]:
        """[n, 64, 64] by how much luma varies over each cell and the eight around it."""
        return _variation(self.luma)

    @cached_property
    def detail(self) -> npt.NDArray[np.float64]:
        """[n] share of cells in which something is to be seen."""
        share: npt.NDArray[np.float64] = (self.variation > _VISIBLE).mean((1, 2))
        return share

    @cached_property
    def plain(self) -> npt.NDArray[np.float64]:
        """[n] share of cells in which nothing is to be seen: much of a drawing, little of a photograph."""
        share: npt.NDArray[np.float64] = (self.variation <= _PLAIN).mean((1, 2))
        return share

    @cached_property
    def light(self) -> npt.NDArray[np.float64]:
        """[n] share of cells that are as light as paper."""
        share: npt.NDArray[np.float64] = (self.luma >= _LIGHT).mean((1, 2))
        return share

    @cached_property
    def is_grey(self) -> npt.NDArray[np.bool_]:
        """[n] whether the picture has no colour to speak of."""
        grey: npt.NDArray[np.bool_] = np.abs(self.chroma.astype(np.int16) - _NEUTRAL).max((1, 2, 3), initial=0) <= 6
        return grey

    def mirrored(self) -> "Thumbnails":
        """The same pictures, left and right exchanged."""
        return Thumbnails(self.luma[..., ::-1], self.chroma[..., ::-1], self.aspect)


@dataclass(frozen=True, slots=True)
class Alike:
    """Verified pairs: place `left[i]` of one set and `right[i]` of the other; `bits` their hashes differ in.

    `unseen` counts proposals left out by `max_alike`: 0 says that every one was compared.
    """

    left: Ints
    right: Ints
    bits: Ints
    unseen: int = 0


@dataclass(slots=True)
class _Proposed:
    left: list[Ints] = field(default_factory=list)
    right: list[Ints] = field(default_factory=list)
    bits: list[Ints] = field(default_factory=list)
    window: list[Ints] = field(default_factory=list)


def perceptual_hashes(luma: npt.NDArray[np.uint8], windows: int = len(WINDOWS)) -> Hashes:
    """[n, windows] hashes of 64 bits: which of the lowest cosine frequencies of each window are above their median."""
    hashes = np.zeros((len(luma), windows), np.uint64)
    for number, (top, bottom, left, right) in enumerate(WINDOWS[:windows]):
        rows, columns = _cosines(top, bottom), _cosines(left, right)
        for start in range(0, len(luma), _BATCH):
            part = luma[start : start + _BATCH].astype(np.float32)
            spectrum = (rows @ part @ columns.T).reshape(len(part), -1)
            middle = np.median(spectrum[:, 1:], axis=1, keepdims=True)
            hashes[start : start + _BATCH, number] = np.packbits(spectrum > middle, axis=1).view(">u8")[:, 0]
    return hashes


def _cosines(low: float, high: float) -> Floats:
    """[8, 64] the lowest cosines over the cells between `low` and `high`, 0 outside."""
    places = ((np.arange(LUMA_SIDE) + 0.5) / LUMA_SIDE - low) / (high - low)
    is_inside = (places > 0) & (places < 1)
    waves: Floats = (np.cos(np.pi * np.arange(_FREQUENCIES)[:, None] * places) * is_inside).astype(np.float32)
    return waves


def alike_within(pictures: Thumbnails, rule: LookAlikeRule) -> Alike:
    """Pairs of `pictures` that look alike, each once, `left` before `right`."""
    found = alike_between(pictures, pictures, rule)
    low, high = np.minimum(found.left, found.right), np.maximum(found.left, found.right)
    return _distinct(low, high, found.bits, found.unseen, is_wanted=low < high)


def alike_between(left: Thumbnails, right: Thumbnails, rule: LookAlikeRule) -> Alike:
    """Pairs of one picture of `left` and one of `right` that look alike, sorted, each once."""
    found = [_verified(left, right, rule), _swapped(_verified(right, left, rule)) if left is not right else None]
    if rule.mirrored:
        found.append(_verified(left.mirrored(), right, rule))
        found.append(_swapped(_verified(right.mirrored(), left, rule)) if left is not right else None)
    given = [pairs for pairs in found if pairs is not None]
    lefts, rights, bits = (np.concatenate([getattr(pairs, name) for pairs in given]) for name in ("left", "right", "bits"))
    return _distinct(lefts, rights, bits, sum(pairs.unseen for pairs in given))


def _swapped(pairs: Alike) -> Alike:
    return Alike(pairs.right, pairs.left, pairs.bits, pairs.unseen)


def _distinct(left: Ints, right: Ints, bits: Ints, unseen: int, is_wanted: npt.NDArray[np.bool_] | None = None) -> Alike:
    if is_wanted is not None:
        left, right, bits = left[is_wanted], right[is_wanted], bits[is_wanted]
    order = np.lexsort((bits, right, left))
    left, right, bits = left[order], right[order], bits[order]
    is_first = np.ones(len(left), np.bool_)
    is_first[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    return Alike(left[is_first], right[is_first], bits[is_first], unseen)


def _verified(whole: Thumbnails, cut: Thumbnails, rule: LookAlikeRule) -> Alike:
    """Pairs in which a picture of `whole` shows all, or a window, of a picture of `cut`."""
    left, right, bits, window, unseen = _proposals(whole, cut, rule)
    keeps = np.zeros(len(left), np.bool_)
    for start in range(0, len(left), _BATCH):
        some = slice(start, start + _BATCH)
        keeps[some] = _is_alike(whole, cut, left[some], right[some], window[some], rule)
    return Alike(left[keeps], right[keeps], bits[keeps], unseen)


# --- Proposing ----------------------------------------------------------------------------------------------------------


def _proposals(whole: Thumbnails, cut: Thumbnails, rule: LookAlikeRule) -> tuple[Ints, Ints, Ints, Ints, int]:
    """Places in `whole` and `cut`, bits in which hashes differ, number of the nearest window; and how many were left out."""
    windows = len(WINDOWS) if rule.crops else 1
    asked = perceptual_hashes(whole.luma, 1)[:, 0]
    held = perceptual_hashes(cut.luma, windows)
    found = _Proposed()
    is_small = len(whole) * len(cut) <= _EXHAUSTIVE**2
    for chosen in [None] if is_small else list(_SAMPLED_BITS):
        for rows, columns in _buckets(asked, held, chosen):
            _near_in_hash(asked, held, rows, columns, rule.max_bits, found)
    none = [np.zeros(0, np.int64)]
    left, right, bits, window = (np.concatenate(none + part) for part in (found.left, found.right, found.bits, found.window))
    ratio = np.abs(np.log(whole.aspect[left] / cut.aspect[right]))
    fits = (ratio <= 0.25) & ~((left == right) & (whole is cut))
    left, right, bits, window = (part[fits] for part in (left, right, bits, window))
    order = np.lexsort((window, bits, right, left))
    left, right, bits, window = (part[order] for part in (left, right, bits, window))
    is_first = np.ones(len(left), np.bool_)
    is_first[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    left, right, bits, window = (part[is_first] for part in (left, right, bits, window))
    nearest = np.lexsort((held[right, 0], bits, left))
    left, right, bits, window = (part[nearest] for part in (left, right, bits, window))
    place = np.arange(len(left)) - np.searchsorted(left, left)
    keeps = place < rule.max_alike
    return left[keeps], right[keeps], bits[keeps], window[keeps], int((~keeps).sum())


def _buckets(asked: Hashes, held: Hashes, chosen: npt.NDArray[np.int64] | None) -> Iterator[tuple[Ints, Ints]]:
    """Rows of `asked` and flat places of `held` that agree in the `chosen` bits (None: all are held against all)."""
    if chosen is None:
        yield np.arange(len(asked)), np.arange(held.size)
        return
    row_keys, keys = _sampled(asked, chosen), _sampled(held.reshape(-1), chosen)
    rows, columns = np.argsort(row_keys, kind="stable"), np.argsort(keys, kind="stable")
    values = np.arange((1 << _BAND_BITS) + 1)
    row_edges, edges = np.searchsorted(row_keys[rows], values), np.searchsorted(keys[columns], values)
    for (first, last), (start, stop) in zip(pairwise(row_edges), pairwise(edges), strict=True):
        if last > first and stop > start:
            yield rows[first:last], columns[start:stop]


def _sampled(hashes: Hashes, bits: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    keys = np.zeros(len(hashes), np.int64)
    for number, bit in enumerate(bits):
        keys |= ((hashes >> np.uint64(bit)) & np.uint64(1)).astype(np.int64) << number
    return keys


def _near_in_hash(asked: Hashes, held: Hashes, rows: Ints, columns: Ints, max_bits: int, found: _Proposed) -> None:
    flat, windows = held.reshape(-1)[columns], held.shape[1]
    step = max(1, _CELLS_AT_ONCE // max(1, len(columns)))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        bits = np.bitwise_count(asked[some][:, None] ^ flat[None, :])
        near_row, near_column = np.nonzero(bits <= max_bits)
        places = columns[near_column]
        found.left.append(some[near_row])
        found.right.append(places // windows)
        found.window.append(places % windows)
        found.bits.append(bits[near_row, near_column].astype(np.int64))


# --- Disposing ----------------------------------------------------------------------------------------------------------


def _is_alike(
    whole: Thumbnails, cut: Thumbnails, left: Ints, right: Ints, window: Ints, rule: LookAlikeRule
) -> npt.NDArray[np.bool_]:
    """For each pair whether its pictures look alike: as they lie, or else as cropped copies."""
    contrast = np.minimum(whole.contrast[left], cut.contrast[right])
    plain = np.maximum(whole.plain[left], cut.plain[right])
    light = np.maximum(whole.light[left], cut.light[right])
    is_photo = (plain <= rule.photo) & (light <= rule.paper)
    may_differ = np.where(is_photo, rule.overlaid, 0.0)
    either_grey = whole.is_grey[left] | cut.is_grey[right]
    bound = np.where(contrast < rule.faint, rule.faint_difference, rule.difference) * (contrast + 10)
    far = np.abs(whole.luma[left].astype(np.int16) - cut.luma[right]) > bound[:, None, None]
    alike = np.zeros(len(left), np.bool_)
    lies = np.flatnonzero((far.mean((1, 2)) <= may_differ) & (contrast >= rule.blank))
    alike[lies] = _lies_on(whole, cut, left[lies], right[lies], may_differ[lies], rule)
    if rule.crops:
        start = np.array(WINDOWS)[window]
        is_busy = np.minimum(whole.detail[left], cut.detail[right]) >= rule.busy
        rest = np.flatnonzero(~alike & (contrast >= rule.faint) & (is_busy | (plain <= rule.croppable)))
        ours, theirs = whole.luma[left[rest]].astype(np.float32), cut.luma[right[rest]].astype(np.float32)
        promising = _is_promising(ours, theirs, start[rest], contrast[rest])
        ours, theirs, rest = ours[promising], theirs[promising], rest[promising]
        if len(rest):
            colours, others = _chroma(whole, left[rest]), _chroma(cut, right[rest])
            alike[rest] = _is_crop(ours, theirs, colours, others, start[rest], either_grey[rest], may_differ[rest], rule)
    return alike


def _lies_on(
    whole: Thumbnails, cut: Thumbnails, left: Ints, right: Ints, may_differ: npt.NDArray[np.float64], rule: LookAlikeRule
) -> npt.NDArray[np.bool_]:
    """Whether pairs agree cell by cell, but for the share of cells that `may_differ`."""
    gap = whole.luma[left].astype(np.float32) - cut.luma[right]
    contrast = np.minimum(whole.contrast[left], cut.contrast[right])
    varies = np.minimum(whole.variation[left], cut.variation[right]).astype(np.float32)
    share = np.where(contrast < rule.faint, rule.faint_difference, rule.difference)
    is_other = np.abs(gap) > np.minimum((share * (contrast + 10))[:, None, None], rule.local_difference * (varies + 20))
    is_other |= np.abs(blurred(gap)) > (rule.blurred_difference * (contrast + 10))[:, None, None]
    either_grey = whole.is_grey[left] | cut.is_grey[right]
    recoloured = np.abs(_chroma(whole, left) - _chroma(cut, right))
    same = ~is_other.any((1, 2)) & (either_grey | (recoloured.max((1, 2, 3)) <= rule.colour))
    overlaid: npt.NDArray[np.bool_] = _lies_together(is_other, may_differ, rule) & (either_grey | _mostly(recoloured, rule))
    return np.asarray(same | overlaid, np.bool_)


def _variation(luma: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """[n, 64, 64] by how much each cell and the eight around it differ."""
    padded = np.pad(luma, ((0, 0), (1, 1), (1, 1)), mode="edge")
    high = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    low = np.minimum(np.minimum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    high = np.maximum(np.maximum(high[..., :-2], high[..., 1:-1]), high[..., 2:])
    low = np.minimum(np.minimum(low[..., :-2], low[..., 1:-1]), low[..., 2:])
    varies: npt.NDArray[np.uint8] = high - low
    return varies


def _lies_together(
    is_other: npt.NDArray[np.bool_], may_differ: npt.NDArray[np.float64], rule: LookAlikeRule
) -> npt.NDArray[np.bool_]:
    """Whether the cells that differ are few, and within one small rectangle."""
    sides = (np.asarray(is_other.any(axis), np.bool_) for axis in (2, 1))
    height, width = (LUMA_SIDE - side.argmax(1) - side[:, ::-1].argmax(1) for side in sides)
    together: npt.NDArray[np.bool_] = (is_other.mean((1, 2)) < may_differ) & (height * width <= rule.overlay_box * LUMA_SIDE**2)
    return together


def _mostly(gap: Floats, rule: LookAlikeRule) -> npt.NDArray[np.bool_]:
    """Whether the colours of most cells agree."""
    mostly: npt.NDArray[np.bool_] = (gap.max(1) > rule.cropped_colour).mean((1, 2)) < rule.overlaid
    return mostly


def _is_promising(ours: Floats, theirs: Floats, start: npt.NDArray[np.float64], contrast: Floats) -> npt.NDArray[np.bool_]:
    """Whether coarse cells agree well enough under the proposed window for fitting to be worth its time."""
    cells = LUMA_SIDE // _COARSE
    coarse = (len(ours), cells, _COARSE, cells, _COARSE)
    small, other = (part.reshape(coarse).mean((2, 4)) for part in (ours, theirs))
    gap = np.abs(small - warped(other, start))
    return np.asarray(gap.mean((1, 2)) <= _PROMISING * (contrast + 10), np.bool_)


def _is_crop(
    ours: Floats,
    theirs: Floats,
    colours: Floats,
    others: Floats,
    start: npt.NDArray[np.float64],
    either_grey: npt.NDArray[np.bool_],
    may_differ: npt.NDArray[np.float64],
    rule: LookAlikeRule,
) -> npt.NDArray[np.bool_]:
    frame = fit(ours, theirs, start)
    moved = warped(theirs, frame)
    contrast = np.minimum(ours.std((1, 2)), moved.std((1, 2)))
    is_other = np.abs(blurred(ours - moved)) > rule.blurred_difference * (contrast + 10)[:, None, None]
    recoloured = np.stack([warped(others[:, channel], frame) for channel in (0, 1)], axis=1)
    gap = np.abs(colours - recoloured).reshape(-1, CHROMA_SIDE, CHROMA_SIDE)
    off_colour = blurred(gap).reshape(len(ours), -1).max(1)
    same = ~is_other.any((1, 2)) & (either_grey | (off_colour <= rule.cropped_colour))
    overlaid = _lies_together(is_other, may_differ, rule) & (either_grey | _mostly(np.abs(colours - recoloured), rule))
    fits: npt.NDArray[np.bool_] = same | overlaid
    return fits


def _chroma(pictures: Thumbnails, places: Ints) -> Floats:
    centred: Floats = pictures.chroma[places].astype(np.float32) - _NEUTRAL
    return centred
