import numpy as np
import pyarrow as pa
import pytest

from curation.dedup.minhash import NO_KEY, Boilerplate, band_keys, is_boilerplate
from curation.dedup.shingles import ShingleSets, whole_texts

NOTHING = Boilerplate(np.zeros(0, np.uint32))


def pairs_of_similarity(similarity: float, number: int) -> ShingleSets:
    """`number` pairs of random sets of 120 values, neighbours having about this Jaccard similarity."""
    rng = np.random.default_rng(5)
    shared = round(2 * 120 * similarity / (1 + similarity)) // 1
    sets = []
    for _ in range(number):
        pool = rng.choice(1 << 32, 240, replace=False).astype(np.uint32)
        sets += [np.sort(pool[:120]), np.sort(np.r_[pool[:shared], pool[120 : 240 - shared]])]
    edges = np.cumsum([0, *map(len, sets)])
    none = np.zeros(len(sets), np.uint64)
    return ShingleSets(edges, np.concatenate(sets), none, none)


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.85, 0.95])
def test_bands_agree_as_often_as_theory_says(similarity: float):
    sets = pairs_of_similarity(similarity, 1_500)
    true = len(np.intersect1d(sets.values[:120], sets.values[120:240])) / len(
        np.union1d(sets.values[:120], sets.values[120:240])
    )
    keys = band_keys(sets, sets.set_keys, NOTHING, bands=14, rows=8)
    agree = (keys[::2] == keys[1::2]).any(axis=1).mean()
    expected = 1 - (1 - true**8) ** 14
    assert abs(agree - expected) < 4 * (expected * (1 - expected) / 1_500) ** 0.5 + 0.01


@pytest.mark.parametrize(("probes", "rows_left"), [(1, 8), (2, 4), (4, 6), (8, 7)])
def test_probes_find_what_differs_in_one_part_of_a_band(probes: int, rows_left: int):
    similarity = 0.7
    sets = pairs_of_similarity(similarity, 1_500)
    keys = band_keys(sets, sets.set_keys, NOTHING, bands=14, rows=8, probes=probes)
    assert keys.shape == (3_000, 14 * probes)
    agree = (keys[::2] == keys[1::2]).any(axis=1).mean()
    whole, left = similarity**8, similarity**rows_left
    band = whole if probes == 1 else whole + probes * (left - whole)
    expected = 1 - (1 - band) ** 14
    assert abs(agree - expected) < 4 * (expected * (1 - expected) / 1_500) ** 0.5 + 0.02


def test_groups_part_equal_sets():
    sets = whole_texts(pa.array(["a b c d"] * 2, pa.large_string()), ngram=3, sign_ngram=5)
    same, parted = np.zeros(2, np.uint64), np.array([1, 2], np.uint64)
    assert (np.diff(band_keys(sets, same, NOTHING, bands=4, rows=2).astype(object), axis=0) == 0).all()
    assert (np.diff(band_keys(sets, parted, NOTHING, bands=4, rows=2).astype(object), axis=0) != 0).all()


def test_boilerplate_has_no_part_in_keys():
    texts = pa.array(["read the following text x y z", "x y z", "read the following text", ""], pa.large_string())
    sets = whole_texts(texts, ngram=3, sign_ngram=5)
    own = set(sets.values[sets.edges[1] : sets.edges[2]].tolist())
    common = np.array([value for value in sets.values[: sets.edges[1]].tolist() if value not in own], np.uint32)
    keys = band_keys(sets, sets.set_keys * 0, Boilerplate(common), bands=6, rows=3)
    assert (keys[0] == keys[1]).all()
    assert (keys[2] == NO_KEY).all()
    assert (keys[3] == NO_KEY).all()


def test_only_listed_values_are_boilerplate():
    rng = np.random.default_rng(0)
    listed = rng.integers(0, 1 << 32, 3_000).astype(np.uint32)
    asked = np.r_[listed[:500], listed[:500] + np.uint32(1), rng.integers(0, 1 << 32, 500).astype(np.uint32)]
    known = Boilerplate(listed)
    answers = [is_boilerplate(value, known.bitmap, known.values) for value in asked]
    assert answers == np.isin(asked, listed).tolist()
