import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.cleaning import image_keys, judged, normalised, text_keys
from curation.format_prompts import PAPER_PROMPTS

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


def one(text: str, *prompts: str) -> str:
    return normalised(pl.Series([text]), prompts)[0]


@pytest.mark.parametrize(
    ("one_text", "other"),
    [
        ("What IS it?", "what is it?"),
        ("what\n is\u3000it?", "what is it?"),
        ("  what is it? ", "what is it?"),
        ("ｗｈａｔ　ｉｓ ｉｔ？", "what is it?"),
        ("cafe\u0301", "caf\u00e9"),
        ("<image>\nwhat is it?", "what is it?<image>"),
        ("what is it?\nAnswer with the letter.", "what is it?"),
        ("what is it? GIVE the  short answer directly.", "what is it?"),
        ("ﬁne", "fine"),
    ],
)
def test_what_says_the_same_is_the_same(one_text: str, other: str):
    assert one(one_text) == one(other)


@pytest.mark.parametrize(
    ("one_text", "other"),
    [("你好吗", "你好"), ("1 + 2", "1 - 2"), ("a.b", "a b"), ("été", "ete"), ("мир", "мiр"), ("x²y", "xy")],
)
def test_what_says_something_else_stays_different(one_text: str, other: str):
    assert one(one_text) != one(other)


def test_a_prompt_of_the_source_counts_for_nothing():
    assert one("What?\nBe  BRIEF.", "Be brief.") == "what?"
    assert one("What?\nBe brief.") != "what?"
    assert all(one(f"What?\n{prompt}") == "what?" for prompt in PAPER_PROMPTS)


@given(text=TEXTS)
def test_space_around_never_counts(text: str):
    assert one(text) == one(f" \n{text}\t")


@given(text=st.text("aBz9 .,中文\n", max_size=20))
def test_case_never_counts(text: str):
    assert one(text.upper()) == one(text.lower())


@given(turns=st.lists(st.lists(TEXTS, min_size=1, max_size=3), max_size=5))
def test_text_keys_are_equal_for_equal_turns_only(turns: list):
    turns = [[turn.replace("\x1e", "") for turn in said] for said in turns]
    keys = text_keys(turns)
    assert all(len(key) == 16 for key in keys)
    for left, said in zip(keys, turns, strict=True):
        for right, other in zip(keys, turns, strict=True):
            assert (left == right) is (said == other)


def test_image_keys_follow_order_and_number():
    one_picture, other = "a" * 32, "b" * 32
    keys = image_keys([[], [one_picture], [one_picture, other], [other, one_picture], [one_picture]])
    assert keys[0] == bytes(16)
    assert keys[1] == keys[4]
    assert len(set(keys)) == 4


@pytest.mark.parametrize(
    ("text", "is_dropped"), [("", True), (" \u200b\u3000", True), ("\u0000", True), (".", False), ("是", False), ("x", False)]
)
def test_answers_with_nothing_to_read_are_dropped(text: str, is_dropped: bool):
    answers = pl.DataFrame({"row": [0, 1, 1], "text": ["fine", text, text]})
    assert judged(answers).rows() == ([(1, "no_words")] if is_dropped else [])
