"""Laying one thumbnail on another: which rectangle of it the other shows, by least squares on whole batches of pairs."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Frames = npt.NDArray[np.float64]
"""[n, 4] top, bottom, left, right as shares of the sides."""

_LEVELS = ((2, 6), (1, 6))
"""Cells averaged to one, and steps taken: coarse first, where a wrong start still finds its way."""

_MAX_STEP, _MAX_OUTSIDE, _MAX_CUT = 0.03, 0.02, 0.2
_DAMPING = 1e-3


def warped(pictures: Floats, frames: Frames) -> Floats:
    """[n, s, s] what the rectangles `frames` of [n, s, s] `pictures` show, brought to [s, s] cells linearly."""
    side = pictures.shape[-1]
    rows, columns = _resampling(frames[:, 0], frames[:, 1], side), _resampling(frames[:, 2], frames[:, 3], side)
    moved = rows @ pictures @ columns.transpose(0, 2, 1)
    return np.asarray(moved, np.float32)


def _resampling(low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], side: int) -> Floats:
    """[n, side, side] weights with which cells between `low` and `high` are read."""
    shares = (np.arange(side) + 0.5) / side
    places = np.clip((low[:, None] + (high - low)[:, None] * shares) * side - 0.5, 0, side - 1)
    weights = np.maximum(0, 1 - np.abs(places[:, :, None] - np.arange(side)))
    return np.asarray(weights, np.float32)


def fit(shown: Floats, pictures: Floats, start: Frames) -> Frames:
    """The rectangles of `pictures` that are nearest to `shown`, searched from `start` by damped Gauss-Newton steps."""
    frames = start.astype(np.float64).copy()
    for cells, steps in _LEVELS:
        target, source = _averaged(shown, cells), _averaged(pictures, cells)
        for _ in range(steps):
            frames = _improved(target, source, frames)
    return frames


def _averaged(pictures: Floats, cells: int) -> Floats:
    side = pictures.shape[-1] // cells
    small: Floats = pictures.reshape(-1, side, cells, side, cells).mean((2, 4), dtype=np.float32)
    return small


def _improved(target: Floats, source: Floats, frames: Frames) -> Frames:
    side = target.shape[-1]
    share = ((np.arange(side) + 0.5) / side).astype(np.float32)
    moved = warped(source, frames)
    height, width = ((frames[:, high] - frames[:, low])[:, None, None].astype(np.float32) for low, high in ((0, 1), (2, 3)))
    down, across = np.gradient(moved, axis=1) * side / height, np.gradient(moved, axis=2) * side / width
    slopes = np.stack([down * (1 - share)[:, None], down * share[:, None], across * (1 - share), across * share], 1)
    slopes = slopes.reshape(len(target), 4, -1)
    gap = (target - moved).reshape(len(target), -1, 1)
    normal = (slopes @ slopes.transpose(0, 2, 1)).astype(np.float64)
    pull = (slopes @ gap).astype(np.float64)
    scale = np.trace(normal, axis1=1, axis2=2)[:, None, None] / 4
    step = np.linalg.solve(normal + np.eye(4) * _DAMPING * (scale + 1), pull)[..., 0]
    frames = frames + np.clip(step, -_MAX_STEP, _MAX_STEP)
    near, far = np.clip(frames[:, ::2], -_MAX_OUTSIDE, _MAX_CUT), np.clip(frames[:, 1::2], 1 - _MAX_CUT, 1 + _MAX_OUTSIDE)
    return np.stack([near[:, 0], far[:, 0], near[:, 1], far[:, 1]], axis=1)


def blurred(values: Floats) -> Floats:
    """[n, s, s] means over 3 x 3 cells; cells beyond the edge count as 0."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)))
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    means: Floats = (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 9
    return means
