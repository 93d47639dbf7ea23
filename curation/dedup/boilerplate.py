"""Boilerplate: n-grams that a large part of a source's texts share, such as format prompts, option lists and fixed questions.

Document frequencies are counted over a fixed number of items chosen by their ids, so they cost the same for any source and
depend neither on files nor on order. An n-gram that is boilerplate in one source of a pool counts for nothing in all of them,
so that a sample compares the same way with samples of other sources.
"""

from collections.abc import Sequence

import numpy as np

from curation.dedup.minhash import Boilerplate
from curation.dedup.shingles import Places, ShingleSets, Values

SAMPLED_ITEMS = 4_096
MIN_ITEMS = 20
"""Fewer texts than this share an n-gram by chance, or because they are duplicates."""


def frequent_values(sets: Sequence[ShingleSets]) -> tuple[Values, Places]:
    """The n-grams in MIN_ITEMS items at least, and how many items hold each."""
    values = np.concatenate([np.zeros(0, np.uint32), *(piece.values for piece in sets)])
    distinct, counts = np.unique(values, return_counts=True)
    is_frequent = counts >= MIN_ITEMS
    return distinct[is_frequent], counts[is_frequent].astype(np.int64)


def boilerplate(values: Values, counts: Places, sampled: Places, share: float) -> Boilerplate:
    """Those of the frequent n-grams that more than `share` of the `sampled` items hold; none when `share` is 0."""
    return Boilerplate(values[counts > share * sampled] if share > 0 else values[:0])
