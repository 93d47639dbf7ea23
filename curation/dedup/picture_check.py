"""Whether two pictures show the same, by their thumbnails: as they lie, or as one cropped out of the other; pair by pair.

Copies differ by what compression and resampling do, which is little *compared with what there is to see around*: every cell's
difference is held against how much either picture varies nearby, and every small block's against its own contrast. Another
number in a table or another bar differs by all of that, however small it is. A line of text laid over a picture differs so
too; it counts as a copy where what differs lies together and looks laid on (`overlay`).
"""

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled
from curation.dedup.look_alike_rule import (
    BLANK,
    BLOCKWISE,
    BRIGHT_DETAIL,
    BRIGHT_PAPER,
    COLOUR,
    CROPPABLE,
    CROPPED_COLOUR,
    CROPPED_DIFFERENCE,
    CROPS,
    DIFFERENCE,
    FAINT,
    FAINT_DIFFERENCE,
    LOCAL,
    OUTER,
    OUTLYING,
    OVERLAID,
    OVERLAY_BUSY,
    OVERLAY_HEIGHT,
    PAPER,
    PHOTO,
    Bounds,
)
from curation.dedup.overlay import NOISE_STEPS, is_laid_on
from curation.dedup.registration import Floats, Frame, improve, pooled, unlike, warped
from curation.thumbnail import CHROMA_SIDE, LUMA_SIDE

Bytes = npt.NDArray[np.uint8]
Traits = Floats
"""[n, 6] of each picture: contrast (standard deviation of luma), shares of cells that are plain, light and detailed, 1 if grey,
aspect (width / height)."""

CONTRAST, PLAIN, LIGHT, DETAIL, GREY, ASPECT = range(6)
_IS_PLAIN, _IS_LIGHT, _IS_DETAILED, _IS_COLOUR = 3, 216, 24, 6
_NEUTRAL = 128.0
_BLOCK, _STEP = 8, 4
_NOISE = 16.0
"""The variance of luma that compression makes out of nothing."""
_EDGE = 2
_COARSE = 4
_HOPELESS = 0.3
_UNREMARKABLE, _REST, _REST_NOISE = 0.15, 80, 0.03
MOST, ALL = 1, 2


@compiled
def _unpacked(packed: Bytes) -> Floats:
    """[s, s] luma of a packed thumbnail."""
    luma = np.empty(LUMA_SIDE * LUMA_SIDE, np.float32)
    for place in range(len(luma)):
        luma[place] = packed[place]
    return luma.reshape(LUMA_SIDE, LUMA_SIDE)


@compiled
def _chroma(packed: Bytes, channel: int) -> Floats:
    """[c, c] Cb or Cr of a packed thumbnail."""
    start = LUMA_SIDE * LUMA_SIDE + channel * CHROMA_SIDE * CHROMA_SIDE
    chroma = np.empty((CHROMA_SIDE, CHROMA_SIDE), np.float32)
    for row in range(CHROMA_SIDE):
        for column in range(CHROMA_SIDE):
            chroma[row, column] = packed[start + row * CHROMA_SIDE + column]
    return chroma


@compiled
def traits_of(packed: Bytes, aspects: Floats) -> Traits:
    """Traits of [n, THUMBNAIL_BYTES] thumbnails."""
    traits = np.zeros((len(packed), 6), np.float32)
    lows, highs = np.empty(66, np.float32), np.empty(66, np.float32)  # edges repeated
    for number in range(len(packed)):
        small = pooled(_unpacked(packed[number]), LUMA_SIDE // 64)
        side = small.shape[0]
        total, squares, plain, light, detailed = 0.0, 0.0, 0, 0, 0
        for row in range(side):
            above, line, below = small[max(row - 1, 0)], small[row], small[min(row + 1, side - 1)]
            for column in range(side):
                lows[column + 1] = min(above[column], line[column], below[column])
                highs[column + 1] = max(above[column], line[column], below[column])
            lows[0], lows[side + 1], highs[0], highs[side + 1] = lows[1], lows[side], highs[1], highs[side]
            for column in range(side):
                value = line[column]
                total += value
                squares += value * value
                low = min(lows[column], lows[column + 1], lows[column + 2])
                varies = max(highs[column], highs[column + 1], highs[column + 2]) - low
                plain += varies <= _IS_PLAIN
                detailed += varies > _IS_DETAILED
                light += value >= _IS_LIGHT
        count = side * side
        traits[number, CONTRAST] = np.sqrt(max(squares / count - (total / count) ** 2, 0.0))
        traits[number, PLAIN] = plain / count
        traits[number, LIGHT] = light / count
        traits[number, DETAIL] = detailed / count
        is_grey = True
        for place in range(LUMA_SIDE * LUMA_SIDE, packed.shape[1]):
            is_grey = is_grey and abs(float(packed[number, place]) - _NEUTRAL) <= _IS_COLOUR
        traits[number, GREY] = is_grey
        traits[number, ASPECT] = aspects[number]
    return traits


@compiled
def blurred(picture: Floats) -> Floats:
    """Means over 3 x 3 cells, edges repeated."""
    side = picture.shape[0]
    rows, means = np.empty_like(picture), np.empty_like(picture)
    for row in range(side):
        for column in range(side):
            before, after = max(column - 1, 0), min(column + 1, side - 1)
            rows[row, column] = picture[row, before] + picture[row, column] + picture[row, after]
    for row in range(side):
        above, below = max(row - 1, 0), min(row + 1, side - 1)
        for column in range(side):
            means[row, column] = (rows[above, column] + rows[row, column] + rows[below, column]) / np.float32(9)
    return means


@compiled
def _varying(picture: Floats) -> Floats:
    """By how much the cells within two of each differ."""
    side = picture.shape[0]
    high, low, varies = np.empty_like(picture), np.empty_like(picture), np.empty_like(picture)
    for row in range(side):
        for column in range(side):
            most, least = picture[row, column], picture[row, column]
            for beside in range(max(column - 2, 0), min(column + 3, side)):
                most, least = max(most, picture[row, beside]), min(least, picture[row, beside])
            high[row, column], low[row, column] = most, least
    for row in range(side):
        for column in range(side):
            most, least = high[row, column], low[row, column]
            for near in range(max(row - 2, 0), min(row + 3, side)):
                most, least = max(most, high[near, column]), min(least, low[near, column])
            varies[row, column] = most - least
    return varies


@compiled
def _differing(one: Floats, other: Floats, share: float, edge: int, bounds: Bounds, marks: Bytes, limit: int) -> int:
    """Mark the cells of two blurred pictures that differ too much by themselves; returns how many, or some beyond `limit`."""
    side = one.shape[0]
    allowed = share * (min(one.std(), other.std()) + 10)
    found = 0
    for row in range(edge, side - edge):
        for column in range(edge, side - edge):
            found += abs(one[row, column] - other[row, column]) > allowed
        if found > limit:
            return found
    varies, other_varies = _varying(one), _varying(other)
    found = 0
    for row in range(edge, side - edge):
        for column in range(edge, side - edge):
            gap = abs(one[row, column] - other[row, column])
            around = max(varies[row, column], other_varies[row, column]) + NOISE_STEPS
            marks[row, column] = gap > allowed or gap > bounds[LOCAL] * around
            found += marks[row, column]
    return found


@compiled
def _unlike_blocks(one: Floats, other: Floats, edge: int, bounds: Bounds, marks: Bytes, limit: int) -> int:
    """Mark blocks that differ too much as wholes; returns how many, but no more than one beyond `limit`."""
    side, count = one.shape[0], _BLOCK * _BLOCK
    found = 0
    for top in range(edge, side - edge - _BLOCK + 1, _STEP):
        for left in range(edge, side - edge - _BLOCK + 1, _STEP):
            total, other_total, squares, other_squares, gaps = 0.0, 0.0, 0.0, 0.0, 0.0
            for row in range(top, top + _BLOCK):
                for column in range(left, left + _BLOCK):
                    value, against = one[row, column], other[row, column]
                    total += value
                    other_total += against
                    squares += value * value
                    other_squares += against * against
                    gaps += (value - against) ** 2
            variance = squares / count - (total / count) ** 2
            other_variance = other_squares / count - (other_total / count) ** 2
            low, high = min(variance, other_variance) + _NOISE, max(variance, other_variance) + _NOISE
            if gaps / count > bounds[BLOCKWISE] * low or gaps / count > bounds[OUTER] * high:
                found += 1
                if found > limit:
                    return found
                marks[top + 2 : top + _BLOCK - 2, left + 2 : left + _BLOCK - 2] = 1
    return found


@compiled
def _recoloured(one: Bytes, other: Bytes, frame: Frame, is_cropped: bool, allowed: float) -> float:
    """The share of cells of chroma that differ by more than `allowed`."""
    side = CHROMA_SIDE
    is_off = np.zeros((side, side), np.uint8)
    for channel in range(2):
        ours, theirs = _chroma(one, channel), _chroma(other, channel)
        if is_cropped:
            ours, theirs = blurred(ours), blurred(warped(theirs, frame))
        for row in range(side):
            for column in range(side):
                is_off[row, column] |= abs(ours[row, column] - theirs[row, column]) > allowed
    return float(is_off.sum()) / (side * side)


@compiled
def _agrees(
    one: Floats,
    other: Floats,
    share: float,
    edge: int,
    is_photo: bool,
    may_differ: bool,
    bounds: Bounds,
) -> int:
    """ALL if two pictures agree in every cell and block, MOST if in all but where text is laid on, else 0."""
    marks = np.zeros(one.shape, np.uint8)
    ours, theirs = blurred(one), blurred(other)
    most = int(bounds[OVERLAID] * one.size) if may_differ else 0
    found = _differing(ours, theirs, share, edge, bounds, marks, most)
    if found > most:
        return 0
    blocks = _unlike_blocks(ours, theirs, edge, bounds, marks, most // 4)
    if blocks > most // 4:
        return 0
    if found + blocks == 0:
        return ALL
    return MOST if is_laid_on(one, other, marks, is_photo, bounds) else 0


@compiled
def _is_outlying(one: Floats, other: Floats, allowed: float) -> bool:
    """Whether a spot differs much more than the rest does."""
    around = np.maximum(_varying(one), _varying(other)) + np.float32(NOISE_STEPS)
    gaps = (np.abs(one - other) / around).ravel()
    most = gaps.max()
    if most <= _UNREMARKABLE:
        return False
    return bool(most > allowed * (np.partition(gaps, len(gaps) - _REST)[len(gaps) - _REST] + _REST_NOISE))


@compiled
def _far_apart(one: Floats, other: Floats, allowed: float) -> tuple[int, int]:
    """How many coarse cells differ by more than `allowed`, and over how many rows they lie."""
    far, top, bottom = 0, one.shape[0], 0
    for row in range(one.shape[0]):
        line, against, before = one[row], other[row], far
        for column in range(one.shape[1]):
            far += abs(line[column] - against[column]) > allowed
        if far > before:
            top, bottom = min(top, row), row + 1
    return far, max(bottom - top, 0)


@compiled
def is_alike(packed: Bytes, traits: Floats, others: Bytes, other_traits: Floats, start: Frame, bounds: Bounds) -> bool:
    """Whether a picture shows what another one does, all of it or about its window `start`.

    [THUMBNAIL_BYTES] and [6] traits of each; bounds as `LookAlikeRule.bounds` gives them.
    """
    contrast = min(traits[CONTRAST], other_traits[CONTRAST])
    if contrast < bounds[BLANK]:
        return False
    is_faint = contrast < bounds[FAINT]
    detail = min(traits[DETAIL], other_traits[DETAIL])
    is_photo = max(traits[PLAIN], other_traits[PLAIN]) <= bounds[PHOTO]
    light = max(traits[LIGHT], other_traits[LIGHT])
    is_photo = is_photo and (light <= bounds[PAPER] or (light <= bounds[BRIGHT_PAPER] and detail >= bounds[BRIGHT_DETAIL]))
    may_differ = bounds[OVERLAID] > 0 and (is_photo or detail >= bounds[OVERLAY_BUSY])
    share = bounds[FAINT_DIFFERENCE] if is_faint else bounds[DIFFERENCE]
    is_grey = traits[GREY] > 0 or other_traits[GREY] > 0
    one, other = _unpacked(packed), _unpacked(others)
    small, other_small = pooled(one, _COARSE), pooled(other, _COARSE)
    far, rows = _far_apart(small, other_small, share * (contrast + 10))
    # Coarse cells at both ends may be marked in one row of theirs only: what is higher than this is no line of text.
    may_differ = may_differ and (is_photo or (rows - 2) * _COARSE <= bounds[OVERLAY_HEIGHT] * LUMA_SIDE)
    if far <= (bounds[OVERLAID] * small.size if may_differ else 0.0):
        agrees = _agrees(one, other, share, 0, is_photo, may_differ, bounds)
        if agrees == ALL and not is_photo and _is_outlying(one, other, bounds[OUTLYING]):
            return False
        if agrees and _has_colours(packed, others, start, False, is_grey, agrees, bounds):
            return True
    if bounds[CROPS] == 0 or is_faint or detail < bounds[CROPPABLE]:
        return False
    frame = start.copy()
    improve(small, other_small, frame, 8)
    middle, other_middle = pooled(one, 2), pooled(other, 2)
    improve(middle, other_middle, frame, 5)
    if unlike(blurred(middle), blurred(warped(other_middle, frame))) > _HOPELESS:
        return False
    improve(one, other, frame, 2)
    agrees = _agrees(one, warped(other, frame), bounds[CROPPED_DIFFERENCE], _EDGE, is_photo, is_photo, bounds)
    return agrees > 0 and _has_colours(packed, others, frame, True, is_grey, agrees, bounds)


@compiled
def _has_colours(
    packed: Bytes, others: Bytes, frame: Frame, is_cropped: bool, is_grey: bool, agrees: int, bounds: Bounds
) -> bool:
    """Whether the colours agree too, but for those under what is laid on."""
    if is_grey:
        return True
    allowed = bounds[CROPPED_COLOUR] if is_cropped or agrees != ALL else bounds[COLOUR]
    off = _recoloured(packed, others, frame, is_cropped, allowed)
    return off == 0 if agrees == ALL else off < bounds[OVERLAID]


@compiled
def alike_pairs(
    packed: Bytes, traits: Traits, others: Bytes, other_traits: Traits, left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64], windows: npt.NDArray[np.float64], bounds: Bounds,
) -> npt.NDArray[np.bool_]:  # fmt: skip
    """For pairs `left[i]` of the first and `right[i]` of the other pictures, about its window `windows[i]`: are they alike?"""
    found = np.zeros(len(left), np.bool_)
    for number in range(len(left)):
        one, other = left[number], right[number]
        found[number] = is_alike(packed[one], traits[one], others[other], other_traits[other], windows[number], bounds)
    return found
