"""Perceptual hashes of pictures: the signs of the lowest cosine frequencies, of the whole picture, of windows and of halves.

Windows leave out some of the sides, so that a cropped copy meets the window it was cut from; halves are met by halves, so that
a line of text laid over a picture spoils only some of them. Sides are as shares, top, bottom, left, right.
"""

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]

_TENTHS = tuple((top, top + 0.9, left, left + 0.9) for top in (0.0, 0.05, 0.1) for left in (0.0, 0.05, 0.1))
_ONE_SIDE = tuple(
    frame
    for cut in (0.1, 0.05)
    for frame in ((cut, 1.0, 0.0, 1.0), (0.0, 1 - cut, 0.0, 1.0), (0.0, 1.0, cut, 1.0), (0.0, 1.0, 0.0, 1 - cut))
)
WINDOWS = ((0.0, 1.0, 0.0, 1.0), *_TENTHS, (0.025, 0.975, 0.025, 0.975), *_ONE_SIDE, (0.1, 0.9, 0.1, 0.9))
"""What a picture may be a crop of; the first is the whole picture."""

HALVES = ((0.0, 0.5, 0.0, 1.0), (0.5, 1.0, 0.0, 1.0), (0.0, 1.0, 0.0, 0.5), (0.0, 1.0, 0.5, 1.0))

MIN_CONTRAST = 4.0
"""Halves whose luma varies less (standard deviation) are blank, and their hashes noise."""

_FREQUENCIES = 8
_SIDE = 64
_BATCH = 1_024


def perceptual_hashes(luma: npt.NDArray[np.uint8], frames: tuple[tuple[float, float, float, float], ...] = WINDOWS) -> Hashes:
    """[n, frames] hashes of 64 bits of [n, s, s] luma: which of the lowest frequencies of each frame are above their median."""
    hashes = np.zeros((len(luma), len(frames)), np.uint64)
    waves = [(_cosines(top, bottom), _cosines(left, right).T) for top, bottom, left, right in frames]
    for start in range(0, len(luma), _BATCH):
        part = _reduced(luma[start : start + _BATCH])
        for number, (rows, columns) in enumerate(waves):
            spectrum = (rows @ part @ columns).reshape(len(part), -1)
            middle = np.median(spectrum[:, 1:], axis=1, keepdims=True)
            hashes[start : start + _BATCH, number] = np.packbits(spectrum > middle, axis=1).view(">u8")[:, 0]
    return hashes


def contrasts(luma: npt.NDArray[np.uint8], frames: tuple[tuple[float, float, float, float], ...] = HALVES) -> Floats:
    """[n, frames] standard deviations of luma."""
    found = np.zeros((len(luma), len(frames)), np.float32)
    for start in range(0, len(luma), _BATCH):
        part = _reduced(luma[start : start + _BATCH])
        for number, frame in enumerate(frames):
            top, bottom, left, right = (round(share * _SIDE) for share in frame)
            found[start : start + _BATCH, number] = part[:, top:bottom, left:right].std((1, 2))
    return found


def _reduced(luma: npt.NDArray[np.uint8]) -> Floats:
    cells = luma.shape[1] // _SIDE
    reduced: Floats = luma.reshape(-1, _SIDE, cells, _SIDE, cells).mean((2, 4), dtype=np.float32)
    return reduced


def _cosines(low: float, high: float) -> Floats:
    """[8, 64] the lowest cosines over the cells between `low` and `high`, 0 outside."""
    places = ((np.arange(_SIDE) + 0.5) / _SIDE - low) / (high - low)
    is_inside = (places > 0) & (places < 1)
    waves: Floats = (np.cos(np.pi * np.arange(_FREQUENCIES)[:, None] * places) * is_inside).astype(np.float32)
    return waves
