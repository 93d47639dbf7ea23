import pytest

from curation.errors import RejectReason
from curation.sources.checks import checked, checked_text
from curation.template import Unusable
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
