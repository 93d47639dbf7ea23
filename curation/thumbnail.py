"""What pictures are compared by: small copies of fixed size, made in one pass over all pixels.

A thumbnail is [128, 128] luma, then [16, 16] Cb and [16, 16] Cr (ITU-R BT.601, full range), 8 bits each, whatever the picture's
aspect. Luma is filtered by triangles that reach a little beyond the middles of the neighbouring cells, so that copies of other
sizes, and crops that begin between two cells, come out alike; colour is the mean of each cell. Sums are made in one fixed
order, without fused steps: the same pixels give the same bytes.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.compiled import compiled

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

LUMA_SIDE, CHROMA_SIDE = 128, 16
THUMBNAIL_BYTES = LUMA_SIDE**2 + 2 * CHROMA_SIDE**2
NEUTRAL = 128
"""Cb and Cr of grey."""

_MAX_WIDTH = 16_384
"""Wider pictures are averaged sideways first: [128, width] sums are held."""

_FILTERED_HEIGHT = 2 * LUMA_SIDE
"""Rows of higher pictures are first averaged down to about so many."""

_REACH = 1.1
_STRIPE = 16
_F = np.float32
_HALF = _F(0.5005)
"""Luma of a colour is a multiple of 0.001: no plain area is so near a half that its cells round differently."""


def thumbnail_of(shown: Bytes) -> bytes:
    """THUMBNAIL_BYTES of a picture, [H, W] grey or [H, W, 3] RGB."""
    if shown.shape[1] > _MAX_WIDTH:
        shown = np.asarray(Image.fromarray(shown).reduce((-(-shown.shape[1] // _MAX_WIDTH), 1)))
    height, width = shown.shape[:2]
    at_once = max(1, height // _FILTERED_HEIGHT)
    packed = np.full(THUMBNAIL_BYTES, NEUTRAL, np.uint8)
    luma, chroma = np.split(packed, [LUMA_SIDE**2])
    pixels = np.ascontiguousarray(shown).reshape(height, -1)
    pixels.setflags(write=False)  # as decoders give them: code is compiled for one kind of array only
    _average(pixels, width, at_once, luma.reshape(LUMA_SIDE, LUMA_SIDE), chroma.reshape(2, CHROMA_SIDE, CHROMA_SIDE))
    return packed.tobytes()


@compiled
def _average(pixels: Bytes, width: int, at_once: int, luma: Bytes, chroma: Bytes) -> None:
    """Fill `luma`, and `chroma` if there are three channels, from `pixels` [H, W * channels], `at_once` rows at a time."""
    is_grey = pixels.shape[1] == width
    down = len(pixels) / at_once
    luma_tops, luma_down = _taps(down, LUMA_SIDE, False)
    chroma_tops, chroma_down = _taps(down, CHROMA_SIDE, True)
    line = np.empty((3, width), np.float32)
    sums = np.zeros((LUMA_SIDE, width), np.float32)
    blue_sums, red_sums = np.zeros((CHROMA_SIDE, width), np.float32), np.zeros((CHROMA_SIDE, width), np.float32)
    total = np.empty(pixels.shape[1], np.float32)
    luma_row, chroma_row = 0, 0
    for cell in range((len(pixels) + at_once - 1) // at_once):
        first, last = cell * at_once, min((cell + 1) * at_once, len(pixels))
        if last - first == 1:
            _split(pixels[first], _F(1), is_grey, line)
        else:
            total[:] = 0
            for row in range(first, last):
                added = pixels[row]
                for place in range(len(total)):
                    total[place] += _F(added[place])
            _split(total, _F(1) / _F(last - first), is_grey, line)
        luma_row = _spread(line[0], cell, luma_row, luma_tops, luma_down, sums)
        if not is_grey:
            _spread(line[1], cell, chroma_row, chroma_tops, chroma_down, blue_sums)
            chroma_row = _spread(line[2], cell, chroma_row, chroma_tops, chroma_down, red_sums)
    _average_across(sums, *_taps(width, LUMA_SIDE, False), luma)
    if not is_grey:
        lefts, across = _taps(width, CHROMA_SIDE, True)
        _average_across(blue_sums, lefts, across, chroma[0])
        _average_across(red_sums, lefts, across, chroma[1])


@compiled
def _taps(size: float, results: int, is_box: bool) -> tuple[Places, Floats]:
    """How `size` cells, of which the last may be partly filled, make up `results`: [results] the first cell that counts for
    each, and [results, n] the weights of it and those after it, as a box or as a triangle."""
    scale = size / results
    reach = scale / 2 if is_box else max(1.0, _REACH * scale)
    cells = int(np.ceil(size))
    number = min(cells, int(np.ceil(2 * reach)) + 1)
    firsts, weights = np.zeros(results, np.int64), np.zeros((results, number), np.float32)
    shares = np.zeros(number)
    for result in range(results):
        middle = (result + 0.5) * scale
        low, high = middle - reach, middle + reach
        first = min(max(int(np.floor(low)), 0), cells - number)
        for tap in range(number):
            at = first + tap
            share = min(at + 1.0, high) - max(at + 0.0, low) if is_box else 1 - abs(at + 0.5 - middle) / reach
            shares[tap] = max(share, 0.0)
        firsts[result] = first
        weights[result] = shares / shares.sum()
    return firsts, weights


@compiled
def _split(pixels: npt.NDArray[np.uint8 | np.float32], share: np.float32, is_grey: bool, line: Floats) -> None:
    """[3, W] luma, Cb and Cr of a row, times `share`."""
    if is_grey:
        for column in range(line.shape[1]):
            line[0, column] = share * _F(pixels[column])
        return
    for column in range(line.shape[1]):
        red, green, blue = _F(pixels[3 * column]), _F(pixels[3 * column + 1]), _F(pixels[3 * column + 2])
        luma = share * (_F(0.299) * red + _F(0.587) * green + _F(0.114) * blue)
        line[0, column] = luma
        line[1, column] = _F(NEUTRAL) + _F(1 / 1.772) * (share * blue - luma)
        line[2, column] = _F(NEUTRAL) + _F(1 / 1.402) * (share * red - luma)


@compiled
def _spread(line: Floats, row: int, low: int, tops: Places, weights: Floats, sums: Floats) -> int:
    """Add a row to all results from `low` on that it counts for; returns the first of them that later rows may count for."""
    while low < len(tops) and tops[low] + weights.shape[1] <= row:
        low += 1
    for result in range(low, len(tops)):
        if tops[result] > row:
            break
        weight = weights[result, row - tops[result]]
        if weight > 0:
            total = sums[result]
            for column in range(len(line)):
                total[column] += weight * line[column]
    return low


@compiled
def _average_across(sums: Floats, lefts: Places, weights: Floats, means: Bytes) -> None:
    """From sums over rows to rounded means, a column of results at once: turned, so that they lie side by side."""
    side, width = sums.shape
    turned = np.empty((width, side), np.float32)
    for start in range(0, width, _STRIPE):  # a stripe of columns fits the nearest cache
        for row in range(side):
            for place in range(start, min(start + _STRIPE, width)):
                turned[place, row] = sums[row, place]
    results = np.empty(side, np.float32)
    for result in range(len(lefts)):
        results[:] = 0
        for tap in range(weights.shape[1]):
            weight = weights[result, tap]
            if weight > 0:
                column = turned[lefts[result] + tap]
                for row in range(side):
                    results[row] += weight * column[row]
        for row in range(side):
            means[row, result] = np.uint8(min(max(results[row] + _HALF, _F(0)), _F(255)))
