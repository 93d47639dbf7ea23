"""Whether what differs between two pictures looks like a line of text laid over one of them."""

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled
from curation.dedup.look_alike_rule import (
    OVERLAID,
    OVERLAY_BOX,
    OVERLAY_EVIDENCE,
    OVERLAY_HEIGHT,
    OVERLAY_WIDTH,
    Bounds,
)
from curation.dedup.registration import Floats

NOISE_STEPS = 20.0
"""Steps of luma that compression makes out of nothing."""

_AROUND = 8
_STROKES = 18.0
"""Mean steps of luma from cell to cell that a line of text has at least; shapes and shadows have less."""


@compiled
def _detail(picture: Floats, top: int, bottom: int, left: int, right: int) -> float:
    """Mean absolute step from cell to cell within a rectangle."""
    total, count = 0.0, 0
    for row in range(top, bottom - 1):
        for column in range(left, right - 1):
            total += abs(picture[row + 1, column] - picture[row, column]) + abs(picture[row, column + 1] - picture[row, column])
            count += 1
    return total / max(count, 1)


@compiled
def evidence(one: Floats, other: Floats, top: int, bottom: int, left: int, right: int) -> float:
    """How much what differs in a rectangle looks like text laid over one picture, and not like text in place of other text.

    A product: how many times the plainer picture's detail the other one has there (text has much); how far all that changed
    changed one way, to lighter or to darker (letters in place of letters do both); how far the plainer picture goes on around
    the rectangle as it is in it; and how far it is as detailed where cells changed as beside them, as other letters are not.
    """
    plain, laden = one, other
    detail, most = _detail(one, top, bottom, left, right), _detail(other, top, bottom, left, right)
    if detail > most:
        plain, laden, detail, most = other, one, most, detail
    if most < _STROKES:
        return 0.0
    side = one.shape[0]
    under, beside, around, sums, sizes = 0.0, 0.0, 0.0, 0.0, 0.0
    num_under, num_beside, num_around = 0, 0, 0
    for row in range(max(top - _AROUND, 0), min(bottom + _AROUND, side) - 1):
        for column in range(max(left - _AROUND, 0), min(right + _AROUND, side) - 1):
            step = abs(plain[row + 1, column] - plain[row, column]) + abs(plain[row, column + 1] - plain[row, column])
            if row < top or row >= bottom - 1 or column < left or column >= right - 1:
                around += step
                num_around += 1
                continue
            gap = laden[row, column] - plain[row, column]
            if abs(gap) > NOISE_STEPS:
                sums += gap
                sizes += abs(gap)
                under += step
                num_under += 1
            else:
                beside += step
                num_beside += 1
    if num_under == 0:
        return 0.0
    one_way = abs(sums) / sizes
    goes_on = min(np.sqrt((around / num_around + 1) / (detail + 1)), 1.0) if num_around else 1.0
    covers_letters = (under / num_under + 1) / (beside / max(num_beside, 1) + 1)
    return float(most / (detail + 1) * one_way * goes_on / covers_letters)


@compiled
def is_laid_on(one: Floats, other: Floats, marks: npt.NDArray[np.uint8], is_photo: bool, bounds: Bounds) -> bool:
    """Whether the marked cells are as those under a line of text."""
    side = one.shape[0]
    top, bottom, left, right, found = side, 0, side, 0, 0
    for row in range(side):
        for column in range(side):
            if marks[row, column]:
                found += 1
                top, bottom = min(top, row), max(bottom, row + 1)
                left, right = min(left, column), max(right, column + 1)
    height, width = bottom - top, right - left
    if found > bounds[OVERLAID] * side * side or height * width > bounds[OVERLAY_BOX] * side * side:
        return False
    if is_photo:
        return True
    if width < bounds[OVERLAY_WIDTH] * side or width < 1.4 * height or height > bounds[OVERLAY_HEIGHT] * side:
        return False
    return bool(evidence(one, other, top, bottom, left, right) >= bounds[OVERLAY_EVIDENCE])
