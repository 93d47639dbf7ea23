"""What means the same, by vectors of models: k-means cells propose, the cosines of the very two items decide.

An item has a vector for its question, one for its answer and maybe one for its picture; all must be near, so that a long
question in common does not make "yes" and "no" one sample. The mean of the cosines bounds the smallest one, so one product of
matrices proposes.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled
from curation.dedup.buckets import Capped, Labels, Pairs, join_pairs
from curation.dedup.similarity import ANSWERS, BOTH_EMPTY, PICTURES, QUESTIONS, Similarities

FloatT = TypeVar("FloatT", np.float16, np.float32)
Halves = npt.NDArray[np.float16]
Floats = npt.NDArray[np.float32]

_ROWS_AT_ONCE = 256
_SLACK = 4e-3
"""Stored vectors have 11 bits, and products of matrices round as their shapes have it; what is proposed is measured exactly."""

_ROUNDS = 12
SIDES = (QUESTIONS, ANSWERS, PICTURES)
"""Columns of cosines, as the sides of vectors follow one another."""

PICTURE_SIDE = 2


def side_by_side(parts: Sequence[npt.NDArray[FloatT]], axis: int = 0, width: int = 0) -> npt.NDArray[FloatT]:
    """The parts one behind the other along `axis`; those narrower than the widest, or than `width`, end in zeros."""
    widest = max(width, *(part.shape[-1] for part in parts))
    filled = [np.pad(part, [(0, 0)] * (part.ndim - 1) + [(0, widest - part.shape[-1])]) for part in parts]
    return np.concatenate(filled, axis=axis)


def flattened(vectors: Halves) -> Floats:
    """[n, width] vectors of length 1 (0 where all are) of [n, sides, width] vectors, each side of length 1 or 0."""
    return scaled(vectors.reshape(len(vectors), vectors.shape[1] * vectors.shape[2]).astype(np.float32))


def scaled(rows: Floats) -> Floats:
    """Rows brought to length 1; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Floats = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return found


def centroids(vectors: Floats, number: int) -> Floats:
    """`number` centres of [n, width] vectors by spherical k-means, from vectors at even distances; the order of rows counts."""
    centres = vectors[np.linspace(0, len(vectors) - 1, number).astype(np.int64)].copy()
    for _ in range(_ROUNDS):
        own = nearest(vectors, centres, 1)[:, 0]
        order = np.argsort(own, kind="stable")
        sizes = np.bincount(own, minlength=number)
        starts = np.cumsum(sizes) - sizes
        filled = np.flatnonzero(sizes)
        centres[filled] = scaled(np.add.reduceat(vectors[order], starts[filled], axis=0))
    return centres


def nearest(vectors: Floats, centres: Floats, number: int) -> npt.NDArray[np.int64]:
    """[n, number] the nearest centres of each vector, nearest first."""
    found = np.empty((len(vectors), number), np.int64)
    for start in range(0, len(vectors), _ROWS_AT_ONCE * 16):
        # Rounded, so that another shape of the product decides no tie.
        near = np.round(vectors[start : start + _ROWS_AT_ONCE * 16] @ centres.T, 5)
        found[start : start + len(near)] = np.argsort(-near, axis=1, kind="stable")[:, :number]
    return found


def near_within(vectors: Halves, labels: Labels, threshold: float, cap: int) -> tuple[Pairs, Similarities, Capped]:
    """The pairs of one cell whose sides are all near, sorted, with their similarities, and what was not looked at.

    `labels` ascend; `vectors` are [n, sides, width]. An item is compared with the `cap` best of those proposed for it.
    """
    flat = flattened(vectors)
    worse, better = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    left_out = busiest = 0
    for start in range(0, len(flat), _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, len(flat))
        alike = flat[start:stop] @ flat[:stop].T >= threshold - _SLACK
        alike &= np.arange(stop) < np.arange(start, stop)[:, None]
        sizes = alike.sum(axis=1)
        if sizes.max(initial=0) > cap:
            left_out += int(np.maximum(sizes - cap, 0).sum())
            busiest = max(busiest, int(sizes.max()) + 1)
            alike &= np.cumsum(alike, axis=1) <= cap
        rows, columns = np.nonzero(alike)
        worse.append(rows + start)
        better.append(columns)
    first, second = np.concatenate(worse), np.concatenate(better)
    found = cosines(vectors, first, second)
    sides = found[:, list(SIDES)]
    is_near = ((sides >= np.float32(threshold)) | (sides == BOTH_EMPTY)).all(axis=1) & (sides != BOTH_EMPTY).any(axis=1)
    pairs = join_pairs(labels[first[is_near]], labels[second[is_near]])
    order = np.argsort(pairs)
    return pairs[order], found[is_near][order], Capped(int(left_out > 0), busiest, left_out)


def cosines(vectors: Halves, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> Similarities:
    """Cosines (pairs, 4) of items `first[i]` and `second[i]`: each side in its column of `similarities` (BOTH_EMPTY where
    neither has any), the same whatever else is compared; WHOLE is BOTH_EMPTY."""
    found = np.full((len(first), 4), BOTH_EMPTY, np.float32)
    sides = vectors.astype(np.float32)
    for side, column in zip(range(vectors.shape[1]), SIDES, strict=False):
        _measure(np.ascontiguousarray(sides[:, side]), first, second, found[:, column])
    return found


@compiled
def _measure(
    vectors: Floats, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], found: npt.NDArray[np.float32]
) -> None:
    for pair in range(len(first)):
        product, one, other = 0.0, 0.0, 0.0
        for place in range(vectors.shape[1]):
            left, right = np.float64(vectors[first[pair], place]), np.float64(vectors[second[pair], place])
            product += left * right
            one += left * left
            other += right * right
        if one > 0 and other > 0:
            found[pair] = product / np.sqrt(one * other)
        elif one > 0 or other > 0:
            found[pair] = 0
