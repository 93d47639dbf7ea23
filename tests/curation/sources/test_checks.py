import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.catalog.template import Unusable
from curation.errors import RejectReason
from curation.sources.checks import checked, checked_text
from curation.sources.columns import Said
from tests.support.upstream import part

QA = part(images={"path": "image"})
CHAT = part(layout="conversations", fields={"turns": "t"}, images={"path": "image"})
ADDING = part(layout="conversations", fields={"turns": "t"}, images={"path": "image", "add_markers": True})
OWN_MARKER = part(layout="conversations", fields={"turns": "t"}, images={"path": "image", "marker": "<|img|>"})
TEXT = part()


def test_markers_stand_before_the_question_where_a_layout_has_none():
    assert checked([["Why?", "So."]], [["a", "b"]], QA) == [["<image>\n<image>\nWhy?", "So."]]
    assert checked([["Why?", "So."]], [["a"]], ADDING) == [["<image>\nWhy?", "So."]]


def test_published_markers_stay_where_they_are():
    turns = ["Look <image>", "I do.", "and <image>?", "Yes."]
    for layout in (QA, CHAT, ADDING):
        assert checked([turns], [["a", "b"]], layout) == [turns]


def test_a_publishers_own_marker_is_replaced():
    assert checked([["Look <|img|>!", "I do."]], [["a"]], OWN_MARKER) == [["Look <image>!", "I do."]]


def test_text_without_pictures_passes_as_it_is():
    rows = [["Why?", "So."], ["<img>", "b"]]
    assert checked(rows, [[], []], TEXT) == rows


@pytest.mark.parametrize(
    ("row", "refs", "layout", "expected"),
    [
        (["", "So."], [], TEXT, RejectReason.EMPTY_QUESTION),
        (["Why?", " \n\u3000"], [], TEXT, RejectReason.EMPTY_ANSWER),
        (["a", "b", " ", "d"], [], TEXT, RejectReason.EMPTY_QUESTION),
        (["<image>\n", "So."], ["a"], CHAT, RejectReason.EMPTY_QUESTION),
        (["Why?", "<image>"], ["a"], CHAT, RejectReason.EMPTY_ANSWER),
        (["Why <image>?", "So <image>."], ["a", "b"], CHAT, RejectReason.MARKER_MISMATCH),
        (["Why?", "So."], ["a"], CHAT, RejectReason.MARKER_MISMATCH),
        (["<image> <image>?", "So."], ["a"], QA, RejectReason.MARKER_MISMATCH),
        (["What does <image> mean in HTML?", "So."], [], TEXT, RejectReason.MARKER_MISMATCH),
        (["Why?", "So."], Unusable(RejectReason.PATH_ESCAPES, "x"), QA, RejectReason.PATH_ESCAPES),
        (Unusable(RejectReason.BAD_JSON, "x"), Unusable(RejectReason.PATH_ESCAPES, "y"), QA, RejectReason.BAD_JSON),
    ],
)
def test_a_rule_that_is_broken_is_named(row: object, refs: object, layout: object, expected: RejectReason):
    good = ["Why <image>?" if refs and isinstance(refs, list) else "Why?", "So."]
    whole = [refs if isinstance(refs, list) else []]
    found = checked([good, row, good], [["a"] if whole[0] else [], refs, ["a"] if whole[0] else []], layout)
    assert found[1].reason is expected
    if layout is not QA:
        assert found[0] == found[2] == good


WHITE_SPACE = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]
TEXTS = st.lists(
    st.sampled_from([*WHITE_SPACE, "a", "é", "中", "か", "\u200b", "\x00", "😀", "<", "<image>", "image>"]), max_size=4
)
ROWS = st.one_of(
    st.lists(TEXTS.map("".join), min_size=2, max_size=4).filter(lambda said: len(said) % 2 == 0),
    st.just(Unusable(RejectReason.MISSING_FIELD, "x")),
)


def told(rows: list) -> list:
    return [(row.reason, row.detail) if isinstance(row, Unusable) else row for row in rows]


@given(rows=st.lists(ROWS, max_size=8))
def test_text_in_columns_is_judged_as_one_by_one(rows: list):
    expected = [checked([row], [[]], TEXT)[0] for row in rows]
    found, said = checked_text(rows, TEXT)
    assert told(found) == told(expected)
    usable = Said.of([row for row in expected if not isinstance(row, Unusable)])
    assert said.texts.equals(usable.texts)
    assert said.counts.tolist() == usable.counts.tolist()


@pytest.mark.parametrize("blank", WHITE_SPACE)
def test_all_white_space_is_blank(blank: str):
    rows, said = checked_text([["Why?", "So."], ["Why?", blank], [f"{blank}a", "So."]], TEXT)
    assert rows[1].reason is RejectReason.EMPTY_ANSWER
    assert said.texts.to_pylist() == ["Why?", "So.", f"{blank}a", "So."]


def test_text_that_is_in_order_is_not_looked_at_singly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curation.sources.checks._judge", None)
    rows = [["Why < 3?", "\n中文"], [" 答", "😀"], ["か", "\u00a0é"]]
    assert checked_text(rows, TEXT)[0] == rows
