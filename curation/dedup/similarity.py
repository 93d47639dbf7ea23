"""The true Jaccard similarity of proposed pairs, over whole sets and over what is no boilerplate."""

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled
from curation.dedup.buckets import Labels
from curation.dedup.minhash import Boilerplate, is_boilerplate
from curation.dedup.shingles import Places, ShingleSets, Values
from curation.mixture.dedup import ANSWER_THRESHOLD, DedupSpec

Similarities = npt.NDArray[np.float32]

WHOLE, REMAINDER, QUESTIONS, ANSWERS = 0, 1, 2, 3
"""Columns of `similarities`: all n-grams; those that are no boilerplate; those of the human's turns; of the model's turns."""

PICTURES = REMAINDER
"""In rows of cosines, which have no WHOLE: that of the pictures."""

BOTH_EMPTY = np.float32(-1)
"""Where neither set has such an n-gram, so that they cannot be told apart by it, nor be called similar."""


def are_near(found: Similarities, spec: DedupSpec, same_answers: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which pairs say the same, given their `similarities` and whether their answers are equal as normalised.

    Both the whole and what is no boilerplate must reach the threshold; so samples are never near for their template alone, nor
    for the little that is left when it is taken away. Where nothing is left, only equal sets are near.
    """
    whole, remainder, answers = found[:, WHOLE], found[:, REMAINDER], found[:, ANSWERS]
    is_alike = np.where(remainder == BOTH_EMPTY, whole == 1, remainder >= np.float32(spec.threshold))
    agree = np.where(answers == BOTH_EMPTY, same_answers, answers >= np.float32(ANSWER_THRESHOLD))
    near: npt.NDArray[np.bool_] = (whole >= np.float32(spec.threshold)) & is_alike & agree
    return near


def similarities(sets: ShingleSets, first: Labels, second: Labels, boilerplate: Boilerplate) -> Similarities:
    """Jaccard similarities (pairs, 4) of items `first[i]` and `second[i]`, by the columns named above."""
    found = np.empty((len(first), 4), np.float32)
    _compare(sets.edges, sets.values, first, second, boilerplate.bitmap, boilerplate.values, found)
    return found


@compiled
def _compare(
    edges: Places, values: Values, first: Labels, second: Labels,
    bitmap: npt.NDArray[np.bool_], listed: Values, found: Similarities,
) -> None:  # fmt: skip
    shared = np.empty(4, np.int64)
    either = np.empty(4, np.int64)
    for pair in range(len(first)):
        shared[:] = 0
        either[:] = 0
        left, left_end = edges[first[pair]], edges[first[pair] + 1]
        right, right_end = edges[second[pair]], edges[second[pair] + 1]
        while left < left_end or right < right_end:
            if right == right_end or (left < left_end and values[left] < values[right]):
                value, is_shared = values[left], 0
                left += 1
            elif left == left_end or values[right] < values[left]:
                value, is_shared = values[right], 0
                right += 1
            else:
                value, is_shared = values[left], 1
                left += 1
                right += 1
            role = QUESTIONS + np.int64(value & np.uint32(1))
            either[WHOLE] += 1
            shared[WHOLE] += is_shared
            either[role] += 1
            shared[role] += is_shared
            if not is_boilerplate(value, bitmap, listed):
                either[REMAINDER] += 1
                shared[REMAINDER] += is_shared
        for column in range(4):
            found[pair, column] = shared[column] / either[column] if either[column] else BOTH_EMPTY
