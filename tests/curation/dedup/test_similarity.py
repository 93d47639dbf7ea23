import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.minhash import Boilerplate
from curation.dedup.shingles import ShingleSets, shingle_sets
from curation.dedup.similarity import ANSWERS, QUESTIONS, REMAINDER, WHOLE, are_near, similarities
from curation.mixture.dedup import DedupSpec
from tests.curation.dedup.made_up import jaccard

SETS = st.lists(st.sets(st.integers(0, 15), max_size=10), min_size=2, max_size=2)


def made(sets: list[set[int]]) -> ShingleSets:
    edges = np.cumsum([0, *map(len, sets)])
    none = np.zeros(len(sets), np.uint64)
    values = np.array([value for members in sets for value in sorted(members)], np.uint32)
    return ShingleSets(edges, values, none, none)


@given(sets=SETS, boilerplate=st.sets(st.integers(0, 15), max_size=6))
def test_similarities_are_true_jaccard(sets: list[set[int]], boilerplate: set[int]):
    known = Boilerplate(np.array(sorted(boilerplate), np.uint32))
    found = similarities(made(sets), np.array([0], np.uint32), np.array([1], np.uint32), known)[0]
    even, odd = ([{value for value in own if value % 2 == role} for own in sets] for role in (0, 1))
    remainder = [own - boilerplate for own in sets]
    for column, pair in ((WHOLE, sets), (REMAINDER, remainder), (QUESTIONS, even), (ANSWERS, odd)):
        assert found[column] == pytest.approx(jaccard(*pair))


def near(first: tuple[str, str], second: tuple[str, str], boilerplate: str = "", **settings) -> bool:
    """Whether two question-answer pairs are near; `boilerplate` is a text whose n-grams count for nothing."""
    spec = DedupSpec(**settings)
    texts = pa.array([*first, *second, boilerplate], pa.large_string())
    roles, edges = np.array([0, 1, 0, 1, 0], np.uint8), np.array([0, 2, 4, 5])
    sets = shingle_sets(texts, roles, edges, ngram=3, sign_ngram=5)
    common = Boilerplate(sets.values[sets.edges[2] :])
    found = similarities(sets, np.array([0], np.uint32), np.array([1], np.uint32), common)
    return bool(are_near(found, spec, np.array([first[1] == second[1]]))[0])


LONG = "how many of the small red boxes on the left table are there in this picture of a room"


@pytest.mark.parametrize(
    ("first", "second", "is_near"),
    [
        ((LONG, "two"), (LONG, "two"), True),
        ((LONG, "yes"), (LONG, "no"), False),
        ((LONG, "!"), (LONG, "!"), True),
        ((LONG, "!"), (LONG, "?"), False),
        ((LONG + " today", "two"), (LONG, "two"), True),
        ((LONG, "two"), ("what is this", "two"), False),
    ],
)
def test_answers_must_agree_too(first: tuple[str, str], second: tuple[str, str], is_near: bool):
    assert near(first, second) is is_near


def test_texts_are_not_near_for_their_template_alone():
    template = "look at the table below and tell in one word or phrase as short as can be which row has the largest value of"
    one, other = (f"{template} red apples", "x"), (f"{template} old shoes", "x")
    assert near(one, other)
    assert not near(one, other, boilerplate=template)
    assert near((template, "x"), (template, "x"), boilerplate=template)


def test_texts_are_not_near_for_what_little_is_left_without_the_template():
    one, other = "alpha beta gamma delta", "epsilon zeta eta theta"
    assert not near((f"{one} the same end", "x"), (f"{other} the same end", "x"), boilerplate=f"{one} the {other} the")
