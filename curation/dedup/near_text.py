"""Near duplicates among texts: shingles, MinHash, buckets, verified pairs, keepers, all in memory.

`curate build` does the same over partitions on disk (curation/near/texts.py), with the same parts.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.dedup.buckets import Capped, Labels, Pairs, candidate_pairs, split_pairs
from curation.dedup.keepers import NO_GROUP, Sweep
from curation.dedup.minhash import Boilerplate, Keys, band_keys
from curation.dedup.shingles import Hashes, ShingleSets, concatenated, whole_texts
from curation.dedup.similarity import WHOLE, are_near, similarities
from curation.mixture.dedup import DedupSpec

_TEXTS_AT_ONCE = 1 << 14
_PAIRS_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True)
class NearTexts:
    """For each text the number of the one it repeats (NOBODY where it is kept) and its similarity to that one (0 where kept).

    `num_pairs` were compared; `capped` says what was not.
    """

    keeper: Labels
    similarity: npt.NDArray[np.float32]
    num_pairs: int
    capped: Capped


def near_texts(
    texts: pa.StringArray, spec: DedupSpec, *, normalise: Callable[[pa.StringArray], pa.StringArray], num_threads: int = 1
) -> NearTexts:
    """Near duplicates among `texts`, as `normalise` gives them batch by batch; earlier ones are rather kept.

    Nothing counts as boilerplate.
    """

    def signed(batch: pa.StringArray) -> tuple[ShingleSets, Keys]:
        sets = whole_texts(normalise(batch), ngram=spec.ngram, sign_ngram=spec.sign_ngram)
        groups = sets.number_keys if spec.same_numbers else np.zeros(len(sets), np.uint64)
        return sets, item_keys(sets, groups, _nothing(), spec)

    with ThreadPoolExecutor(num_threads) as threads:
        batches = [texts.slice(start, _TEXTS_AT_ONCE) for start in range(0, len(texts), _TEXTS_AT_ONCE)]
        found = list(threads.map(signed, batches))
        keys = [own for _, own in found]
        sets = concatenated([own for own, _ in found])
        del found
        labels = np.arange(len(sets), dtype=np.uint32)

        def joined(band: int) -> tuple[Pairs, Capped]:
            column = np.concatenate([own[:, band] for own in keys] or [np.zeros(0, np.uint64)])
            return candidate_pairs(column, labels, spec.bucket_cap)

        proposed = list(threads.map(joined, range(spec.num_keys)))
        pairs = np.unique(np.concatenate([own for own, _ in proposed]))
        capped = sum((left_out for _, left_out in proposed), Capped())
        pieces = [pairs[start : start + _PAIRS_AT_ONCE] for start in range(0, len(pairs), _PAIRS_AT_ONCE)]
        compared = list(threads.map(partial(_near_pairs, sets=sets, spec=spec), pieces))
    matches = np.concatenate([*(near for near, _ in compared), np.zeros(0, np.uint64)])
    measured = np.concatenate([*(whole for _, whole in compared), np.zeros(0, np.float32)])
    worse, better = split_pairs(matches)
    sweep = Sweep(np.full(len(sets), NO_GROUP, np.uint32))
    used = sweep.advance(worse, better, len(sets))
    similarity = np.zeros(len(sets), np.float32)
    similarity[worse[used]] = measured[used]
    return NearTexts(sweep.keeper, similarity, len(pairs), capped)


def item_keys(sets: ShingleSets, groups: Hashes, boilerplate: Boilerplate, spec: DedupSpec) -> Keys:
    """Keys (sets, num_keys): those of the bands, and one that is equal for equal sets of a group, however short they are."""
    whole = np.where(np.diff(sets.edges) > 0, np.maximum(sets.set_keys ^ groups, np.uint64(1)), np.uint64(0))
    bands = band_keys(sets, groups, boilerplate, bands=spec.bands, rows=spec.rows, probes=spec.probes)
    return np.concatenate([bands, whole[:, None]], axis=1)


def _near_pairs(pairs: Pairs, sets: ShingleSets, spec: DedupSpec) -> tuple[Pairs, npt.NDArray[np.float32]]:
    worse, better = split_pairs(pairs)
    found = similarities(sets, worse, better, _nothing())
    near = are_near(found, spec, np.ones(len(pairs), np.bool_))
    return pairs[near], found[near, WHOLE]


def _nothing() -> Boilerplate:
    return Boilerplate(np.zeros(0, np.uint32))
