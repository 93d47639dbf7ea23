import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.buckets import split_pairs
from curation.dedup.meaning import centroids, flattened, near_within, nearest
from curation.dedup.similarity import ANSWERS, BOTH_EMPTY, QUESTIONS


def sides(number: int, seed: int, width: int = 12, copies: float = 0.6) -> np.ndarray:
    """Random vectors [n, 2, width], many of which are another one with a little noise; some without an answer, some empty."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(number, 2, width))
    for row in range(1, number):
        if rng.random() < copies:
            vectors[row] = vectors[rng.integers(row)] + rng.normal(size=(2, width)) * rng.choice([0, 0.05, 0.3])
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    vectors[rng.random(number) < 0.1, 1] = 0
    vectors[rng.random(number) < 0.05] = 0
    return vectors.astype(np.float16)


def slow(vectors: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    """Pairs whose cosines reach the threshold on every side that one of the two has, of which there is one at least."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=2)
    has = lengths > 0
    scaled = wide / np.where(has, lengths, 1)[:, :, None]
    cosines = np.einsum("isw,jsw->ijs", scaled, scaled).astype(np.float32)
    absent = ~has[:, None] & ~has[None, :]
    near = ((cosines >= np.float32(threshold)) | absent).all(axis=2) & ~absent.all(axis=2)
    return {(int(worse), int(better)) for worse, better in zip(*np.nonzero(np.tril(near, -1)), strict=True)}


@given(st.integers(0, 60), st.integers(0, 1_000), st.sampled_from([0.5, 0.9, 0.99]))
def test_pairs_are_those_whose_question_and_answer_are_both_near(number: int, seed: int, threshold: float):
    vectors = sides(number, seed)
    labels = np.arange(number, dtype=np.uint32)
    pairs, found, capped = near_within(vectors, labels, threshold, 1_000)
    assert set(zip(*(side.tolist() for side in split_pairs(pairs)), strict=True)) == slow(vectors, threshold)
    measured = found[:, [QUESTIONS, ANSWERS]]
    assert (measured[measured != BOTH_EMPTY] >= np.float32(threshold)).all()
    assert capped.pairs == 0


def test_a_cell_of_one_meaning_is_capped_and_told():
    vectors = np.repeat(sides(1, 3, copies=0), 300, axis=0)
    pairs, _, capped = near_within(vectors, np.arange(300, dtype=np.uint32), 0.9, 8)
    assert len(pairs) == 36 - 8 + 8 * (300 - 8)
    assert (capped.buckets, capped.largest, capped.pairs) == (1, 300, 300 * 299 // 2 - len(pairs))


@pytest.mark.parametrize("number", [1, 7, 40])
def test_centres_are_among_their_vectors(number: int):
    rng = np.random.default_rng(number)
    true = flattened(rng.normal(size=(number, 1, 16)).astype(np.float16))
    vectors = flattened((true[rng.permutation(np.arange(800) % number)] + rng.normal(size=(800, 16)) * 0.02)[:, None])
    found = centroids(vectors, number)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    own = nearest(vectors, found, 1)[:, 0]
    assert np.mean((vectors * found[own]).sum(axis=1)) > 0.9
    assert nearest(vectors, found, min(2, number)).shape == (800, min(2, number))
