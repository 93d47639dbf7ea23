"""Laying one thumbnail on another: which rectangle of it the other shows, by least squares, coarse cells first.

A frame is top, bottom, left and right as shares of a picture's sides. Loops are compiled, one pair at a time: pairs that do not
fit at coarse cells, most of all proposals, never come to the fine ones.
"""

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled

Floats = npt.NDArray[np.float32]
Frame = npt.NDArray[np.float64]

MAX_CUT = 0.25
"""What at most may be cut off one side."""

_MAX_STEP, _MAX_OUTSIDE = 0.03, 0.02
_DAMPING = 1e-3
_FLAT = 16.0
"""Variance of luma that counts for nothing: that of compression."""


@compiled
def pooled(picture: Floats, cells: int) -> Floats:
    """Means over squares of `cells` by `cells`."""
    side = picture.shape[0] // cells
    small = np.zeros((side, side), np.float32)
    for row in range(side):
        sums = small[row]
        for within in range(row * cells, (row + 1) * cells):
            line = picture[within]
            for column in range(side):
                for place in range(column * cells, (column + 1) * cells):
                    sums[column] += line[place]
        for column in range(side):
            sums[column] /= np.float32(cells * cells)
    return small


@compiled
def warped(picture: Floats, frame: Frame) -> Floats:
    """[s, s] what the rectangle `frame` of the [s, s] `picture` shows, brought to as many cells linearly."""
    side = picture.shape[0]
    moved = np.empty((side, side), np.float32)
    places = np.empty((2, side), np.int64)
    shares = np.empty((2, side), np.float32)
    for axis in range(2):
        low, high = frame[2 * axis], frame[2 * axis + 1]
        for cell in range(side):
            place = (low + (high - low) * (cell + 0.5) / side) * side - 0.5
            place = min(max(place, 0.0), side - 1.0)
            first = min(int(place), side - 2)
            places[axis, cell] = first
            shares[axis, cell] = np.float32(place - first)
    for row in range(side):
        above, down = places[0, row], shares[0, row]
        for column in range(side):
            before, across = places[1, column], shares[1, column]
            upper = picture[above, before] + (picture[above, before + 1] - picture[above, before]) * across
            lower = picture[above + 1, before] + (picture[above + 1, before + 1] - picture[above + 1, before]) * across
            moved[row, column] = upper + (lower - upper) * down
    return moved


@compiled
def unlike(one: Floats, other: Floats) -> float:
    """Mean squared difference as a share of the lower variance: 0 for equal pictures, about 2 for unrelated ones."""
    count = one.size
    gaps, sums, others, squares, other_squares = 0.0, 0.0, 0.0, 0.0, 0.0
    for row in range(one.shape[0]):
        for column in range(one.shape[1]):
            left, right = float(one[row, column]), float(other[row, column])
            gaps += (left - right) ** 2
            sums += left
            squares += left * left
            others += right
            other_squares += right * right
    variance = squares / count - (sums / count) ** 2
    other_variance = other_squares / count - (others / count) ** 2
    return gaps / count / (min(variance, other_variance) + _FLAT)


@compiled
def improve(shown: Floats, picture: Floats, frame: Frame, steps: int) -> None:
    """Move `frame`, a rectangle of `picture`, towards what is nearest to `shown` by damped Gauss-Newton steps."""
    side = shown.shape[0]
    normal = np.empty((4, 5), np.float64)
    slopes = np.empty(4, np.float64)
    for _ in range(steps):
        moved = warped(picture, frame)
        height, width = frame[1] - frame[0], frame[3] - frame[2]
        normal[:] = 0
        for row in range(side):
            above, below = max(row - 1, 0), min(row + 1, side - 1)
            share_down = (row + 0.5) / side
            for column in range(side):
                before, after = max(column - 1, 0), min(column + 1, side - 1)
                down = float(moved[below, column] - moved[above, column]) / (below - above) * side / height
                across = float(moved[row, after] - moved[row, before]) / (after - before) * side / width
                gap = float(shown[row, column] - moved[row, column])
                share_across = (column + 0.5) / side
                slopes[0], slopes[1] = down * (1 - share_down), down * share_down
                slopes[2], slopes[3] = across * (1 - share_across), across * share_across
                for one in range(4):
                    for other in range(one, 4):
                        normal[one, other] += slopes[one] * slopes[other]
                    normal[one, 4] += slopes[one] * gap
        scale = (normal[0, 0] + normal[1, 1] + normal[2, 2] + normal[3, 3]) / 4
        for one in range(4):
            normal[one, one] += _DAMPING * (scale + 1)
            for other in range(one):
                normal[one, other] = normal[other, one]
        _solve(normal)
        for edge in range(4):
            moved_to = frame[edge] + min(max(normal[edge, 4], -_MAX_STEP), _MAX_STEP)
            low, high = (-_MAX_OUTSIDE, MAX_CUT) if edge % 2 == 0 else (1 - MAX_CUT, 1 + _MAX_OUTSIDE)
            frame[edge] = min(max(moved_to, low), high)


@compiled
def _solve(equations: npt.NDArray[np.float64]) -> None:
    """Solve [4, 4] positive definite equations in place; the right side and then the answer is the last column."""
    for pivot in range(4):
        for row in range(4):
            if row != pivot:
                factor = equations[row, pivot] / equations[pivot, pivot]
                for column in range(pivot, 5):
                    equations[row, column] -= factor * equations[pivot, column]
    for row in range(4):
        equations[row, 4] /= equations[row, row]
