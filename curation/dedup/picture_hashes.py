"""Perceptual hashes of pictures: the signs of the lowest cosine frequencies, of the whole picture, of windows and of halves.

Windows leave out some of the sides, so that a cropped copy meets the window it was cut from; halves are met by halves, so that
a line of text laid over a picture spoils only some of them. Sides are as shares, top, bottom, left, right.
"""

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled

Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]
Frame = tuple[float, float, float, float]

_TENTHS = tuple((top, top + 0.9, left, left + 0.9) for top in (0.0, 0.05, 0.1) for left in (0.0, 0.05, 0.1))
_BETWEEN = tuple((top, top + 0.9, left, left + 0.9) for top in (0.025, 0.075) for left in (0.025, 0.075))
_ONE_SIDE = tuple(
    frame
    for cut in (0.1, 0.05)
    for frame in ((cut, 1.0, 0.0, 1.0), (0.0, 1 - cut, 0.0, 1.0), (0.0, 1.0, cut, 1.0), (0.0, 1.0, 0.0, 1 - cut))
)
WINDOWS = ((0.0, 1.0, 0.0, 1.0), *_TENTHS, *_BETWEEN, (0.025, 0.975, 0.025, 0.975), *_ONE_SIDE, (0.1, 0.9, 0.1, 0.9))
"""What a picture may be a crop of; the first is the whole picture."""

HALVES = ((0.0, 0.5, 0.0, 1.0), (0.5, 1.0, 0.0, 1.0), (0.0, 1.0, 0.0, 0.5), (0.0, 1.0, 0.5, 1.0))

MIN_CONTRAST = 4.0
"""Halves whose luma varies less (standard deviation) are blank, and their hashes noise."""

_FREQUENCIES = 8
HASHED_SIDE = 64
_BATCH = 1_024


def perceptual_hashes(luma: npt.NDArray[np.uint8], frames: tuple[Frame, ...] = WINDOWS) -> Hashes:
    """[n, frames] hashes of 64 bits of [n, s, s] luma: which of the lowest frequencies of each frame are above their median."""
    spans = sorted({span for top, bottom, left, right in frames for span in ((top, bottom), (left, right))})
    waves = np.stack([_cosines(*span) for span in spans])
    down = np.array([spans.index(frame[:2]) for frame in frames])
    across = np.array([spans.index(frame[2:]) for frame in frames])
    is_down = np.isin(np.arange(len(spans)), down)
    hashes = np.zeros((len(luma), len(frames)), np.uint64)
    for start in range(0, len(luma), _BATCH):
        part = _reduced(luma[start : start + _BATCH])
        _hash(part, waves, is_down, down, across, hashes[start : start + _BATCH])
    return hashes


@compiled
def _median(values: Floats) -> float:
    """Of an odd number of values, which lose their order: Hoare's selection, without a branch on what is compared."""
    low, high, half = 0, len(values) - 1, len(values) // 2
    while low < high:
        middle = (low + high) // 2
        pivot, values[middle] = values[middle], values[high]
        end = low
        for place in range(low, high):
            value = values[place]
            values[place], values[end] = values[end], value
            end += value < pivot
        values[high], values[end] = values[end], pivot
        if end == half:
            return float(pivot)
        if end < half:
            low = end + 1
        else:
            high = end - 1
    return float(values[half])


@compiled
def _hash(
    luma: Floats, waves: Floats, is_down: npt.NDArray[np.bool_], down: npt.NDArray[np.int64], across: npt.NDArray[np.int64],
    hashes: Hashes,
) -> None:  # fmt: skip
    """One picture after another, so that no hash depends on the pictures beside it, as sums in a batched product may."""
    num_waves = waves.shape[1]
    columns = np.empty((len(waves), num_waves, luma.shape[2]), np.float32)
    by_place = np.ascontiguousarray(waves.transpose(0, 2, 1))  # all waves of a place side by side: summed at once
    spectrum = np.empty((num_waves, num_waves), np.float32)
    for number in range(len(luma)):
        columns[:] = 0
        for span in range(len(waves)):
            if is_down[span]:
                for wave in range(num_waves):
                    _weigh(luma[number], waves[span, wave], columns[span, wave])
        for frame in range(len(down)):
            for wave in range(num_waves):
                spectrum[wave] = 0
                _weigh(by_place[across[frame]], columns[down[frame], wave], spectrum[wave])
            flat = spectrum.ravel()
            middle = _median(flat[1:].copy())
            bits = np.uint64(0)
            for value in flat:
                bits = (bits << np.uint64(1)) | np.uint64(value > middle)
            hashes[number, frame] = bits


@compiled
def _weigh(rows: Floats, shares: Floats, total: Floats) -> None:
    """Add all `rows` times their share to `total`."""
    for row in range(len(rows)):
        share, line = shares[row], rows[row]
        if share != 0:  # as most are outside of a window
            for place in range(len(total)):
                total[place] += share * line[place]


def contrasts(luma: npt.NDArray[np.uint8], frames: tuple[Frame, ...] = HALVES) -> Floats:
    """[n, frames] standard deviations of luma."""
    cells = np.rint(np.array(frames) * HASHED_SIDE).astype(np.int64)
    found = np.zeros((len(luma), len(frames)), np.float32)
    for start in range(0, len(luma), _BATCH):
        _vary(_reduced(luma[start : start + _BATCH]), cells, found[start : start + _BATCH])
    return found


@compiled
def _vary(luma: Floats, cells: npt.NDArray[np.int64], found: Floats) -> None:
    """Fill `found` [n, frames] with standard deviations, frames given as [frames, 4] rows and columns of cells."""
    for number in range(len(luma)):
        for frame in range(len(cells)):
            top, bottom, left, right = cells[frame]
            total, squares = 0.0, 0.0
            for row in range(top, bottom):
                line = luma[number, row]
                for column in range(left, right):
                    value = np.float64(line[column])
                    total += value
                    squares += value * value
            count = (bottom - top) * (right - left)
            found[number, frame] = np.sqrt(max(squares / count - (total / count) ** 2, 0.0))


@compiled
def _reduced(luma: npt.NDArray[np.uint8]) -> Floats:
    """[n, 64, 64] means over squares of cells."""
    cells = luma.shape[1] // HASHED_SIDE
    small = np.empty((len(luma), HASHED_SIDE, HASHED_SIDE), np.float32)
    sums = np.empty(HASHED_SIDE * cells, np.int32)
    for number in range(len(luma)):
        for row in range(HASHED_SIDE):
            sums[:] = 0
            for within in range(cells):
                for column in range(HASHED_SIDE * cells):
                    sums[column] += luma[number, row * cells + within, column]
            for column in range(HASHED_SIDE):
                total = np.int32(0)
                for within in range(cells):
                    total += sums[column * cells + within]
                small[number, row, column] = np.float32(total) / np.float32(cells * cells)
    return small


def _cosines(low: float, high: float) -> Floats:
    """[8, 64] the lowest cosines over the cells between `low` and `high`, 0 outside."""
    places = ((np.arange(HASHED_SIDE) + 0.5) / HASHED_SIDE - low) / (high - low)
    is_inside = (places > 0) & (places < 1)
    waves: Floats = (np.cos(np.pi * np.arange(_FREQUENCIES)[:, None] * places) * is_inside).astype(np.float32)
    return waves
