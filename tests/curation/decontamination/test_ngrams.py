import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curation.decontamination.ngrams import covers, ngrams, without_templates


def grams_by_row(texts: list[str], size: int) -> list[set[int]]:
    found = ngrams(pl.Series(texts, dtype=pl.String), size)
    return [set(found.filter(pl.col("row") == row)["gram"]) for row in range(len(texts))]


def test_short_and_empty_texts_have_none():
    assert grams_by_row(["", "two words", "three words here"], 3) == [set(), set(), grams_by_row(["three words here"], 3)[0]]
    assert grams_by_row([], 3) == []


def test_words_are_cut_at_signs_and_not_across_texts():
    one, other, apart = grams_by_row(["a b-c", "a, b c!", "a b"], 3)
    assert one == other and len(one) == 1
    assert apart == set()


def test_scripts_without_spaces_have_ngrams():
    assert len(grams_by_row(["什么是计算机"], 3)[0]) == 4


@given(st.lists(st.lists(st.sampled_from("abcde"), max_size=9), max_size=6), st.integers(2, 4))
def test_grams_are_those_of_the_words(rows: list[list[str]], size: int):
    found = grams_by_row([" ".join(row) for row in rows], size)
    expected = [{tuple(row[start : start + size]) for start in range(len(row) - size + 1)} for row in rows]
    assert [len(grams) for grams in found] == [len(grams) for grams in expected]
    for one in range(len(rows)):
        for other in range(len(rows)):
            assert len(found[one] & found[other]) == len(expected[one] & expected[other])


def test_what_many_items_have_is_template():
    grams = pl.DataFrame({"row": [0, 1, 2, 0, 1, 2], "gram": [7, 7, 7, 1, 2, 3]}, schema={"row": pl.Int64, "gram": pl.UInt64})
    assert without_templates(grams, 3, 0.01)["gram"].to_list() == [1, 2, 3]
    assert len(without_templates(grams, 3, 1.0)) == 6


def test_cover_is_the_share_of_the_items_ngrams():
    items = pl.DataFrame({"item": [0, 0, 0, 1], "gram": [1, 2, 3, 4]}, schema={"item": pl.Int64, "gram": pl.UInt64})
    samples = pl.DataFrame({"row": [5, 5, 6], "gram": [1, 2, 9]}, schema={"row": pl.Int64, "gram": pl.UInt64})
    assert covers(samples, items, 0.6).rows() == [(5, 0, 2 / 3)]
    assert covers(samples, items, 0.7).rows() == []
