import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.shingles import ShingleSets, concatenated, role_keys, shingle_sets, whole_texts
from tests.curation.dedup.made_up import jaccard, slow_ngrams

WORDS = st.lists(st.sampled_from(["a", "cat", "über", "12", "我", "喜", "+", ".", "x_y", "é"]), max_size=12)

SIGNS = st.one_of(st.characters(max_codepoint=0x17F, exclude_categories=["Cs"]), st.sampled_from("我喜のカกข€×−–’"))


def sets(*texts: str, ngram: int = 3, sign_ngram: int = 5) -> ShingleSets:
    return whole_texts(pa.array(texts, pa.large_string()), ngram=ngram, sign_ngram=sign_ngram)


def values(of: ShingleSets, item: int) -> set[int]:
    return set(of.values[of.edges[item] : of.edges[item + 1]].tolist())


@given(one=WORDS, other=WORDS, ngram=st.integers(1, 4), sign_ngram=st.integers(1, 4))
def test_similarity_is_that_of_slow_ngrams(one: list[str], other: list[str], ngram: int, sign_ngram: int):
    texts = [" ".join(one), " ".join(other)]
    found = sets(*texts, ngram=ngram, sign_ngram=sign_ngram)
    slow = [slow_ngrams(text, ngram, sign_ngram) for text in texts]
    assert jaccard(values(found, 0), values(found, 1)) == jaccard(*slow)
    assert (found.set_keys[0] == found.set_keys[1]) == (slow[0] == slow[1])


@given(text=st.text(SIGNS, max_size=40))
def test_any_text_has_as_many_distinct_ngrams_as_the_slow_count(text: str):
    assert len(values(sets(text), 0)) == len(slow_ngrams(text, 3, 5))


def test_values_are_sorted_and_distinct():
    found = sets("a b c a b c a b c", "", "z")
    assert found.edges.tolist() == [0, 3, 3, 4]
    assert (np.diff(found.values[:3].astype(np.int64)) > 0).all()


def test_a_text_of_one_repeated_word_is_one_ngram():
    found = sets("spam " * 10_000, "spam spam spam")
    assert np.diff(found.edges).tolist() == [1, 1]
    assert found.set_keys[0] == found.set_keys[1]


@pytest.mark.parametrize("text", ["我喜欢吃苹果和香蕉", "私はりんごが好きです", "ฉันชอบกินแอปเปิล"])
def test_scripts_without_spaces_are_cut_into_signs(text: str):
    assert len(values(sets(text), 0)) == len(text) - 4


def test_signs_of_calculation_count_and_punctuation_does_not():
    found = sets("a + b c", "a - b c", "a, b. c", "a b c", "well-known fact here", "well known fact here")
    assert found.set_keys[0] != found.set_keys[1]
    assert found.set_keys[2] == found.set_keys[3]
    assert found.set_keys[4] == found.set_keys[5]


def test_numbers_are_told_apart_by_value_and_order():
    found = sets("12 and 13", "13 and 12", "12 or 13", "none at all")
    assert found.number_keys[0] == found.number_keys[2] != found.number_keys[1]
    assert found.number_keys[3] == 0


def test_ngrams_do_not_cross_turns_and_know_their_role():
    texts = pa.array(["a b c", "d e f", "a b c", "d e f"], pa.large_string())
    edges = np.array([0, 2, 4])
    same = shingle_sets(texts, np.array([0, 1, 0, 1], np.uint8), edges, ngram=3, sign_ngram=5)
    swapped = shingle_sets(texts, np.array([0, 1, 1, 0], np.uint8), edges, ngram=3, sign_ngram=5)
    assert len(values(same, 0)) == 2
    assert values(same, 0) == values(same, 1)
    assert not values(swapped, 0) & values(swapped, 1)


def test_role_keys_tell_questions_from_answers():
    texts = pa.array(["q", "a", "q", "b", "q", "a", "r"], pa.large_string())
    questions, answers = role_keys(texts, np.array([0, 1, 0, 1, 0, 1, 0], np.uint8), np.array([0, 2, 4, 6, 7, 7]))
    assert questions[0] == questions[1] == questions[2] != questions[3]
    assert answers[0] == answers[2] != answers[1]
    assert answers[3] == answers[4] == questions[4] == 0


def test_sliced_columns_are_read_from_their_start():
    texts = pa.array(["x y z", "a b c", "d e f"], pa.large_string())
    assert whole_texts(texts.slice(1), ngram=3, sign_ngram=5).set_keys.tolist() == sets("a b c", "d e f").set_keys.tolist()


def test_taking_and_joining_give_the_same_sets():
    whole = sets("a b c d", "", "e f g", "h i j k l")
    parts = [whole.taken(np.array([0, 1])), whole.taken(np.array([], np.int64)), whole.taken(np.array([2, 3]))]
    joined = concatenated(parts)
    assert joined.edges.tolist() == whole.edges.tolist()
    assert joined.values.tolist() == whole.values.tolist()
    assert whole.taken(np.array([3, 0])).edges.tolist() == [0, 3, 5]


def test_a_number_with_its_unit_is_a_number_and_a_name_is_none():
    texts = ["is 17m more than n", "is 14m more than n", "is 17 more than n", "is x2 more than n", "is more than n"]
    keys = whole_texts(pa.array(texts, pa.large_string()), ngram=3, sign_ngram=5).number_keys.tolist()
    assert len(set(keys[:3])) == 3
    assert keys[3:] == [0, 0]
