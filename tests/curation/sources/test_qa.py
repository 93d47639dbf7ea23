import pytest

from curation.errors import RejectReason
from curation.sources.qa import qa
from tests.support.upstream import part


def test_questions_and_answers_are_turns():
    records = [{"q": "Why?", "a": "Because."}, {"q": 1, "a": True}]
    assert qa(records, part()).rows == [["Why?", "Because."], ["1", "true"]]


def test_alternatives_are_tried_in_order():
    layout = part(fields={"question": "q", "answer": ["a", "{b} or {c}", "d"]})
    records = [
        {"q": "?", "a": "1", "d": "4"},
        {"q": "?", "a": " ", "b": "2", "c": "3"},
        {"q": "?", "d": "4"},
        {"q": "?", "a": ""},
    ]
    assert [row[1] for row in qa(records, layout).rows] == ["1", "2 or 3", "4", ""]
    assert qa([{"q": "?"}], layout).rows[0].reason is RejectReason.MISSING_FIELD


def test_values_are_translated_and_others_refused():
    layout = part(values={"answer": {"0": "No", "1": "Yes"}})
    rows = qa([{"q": "?", "a": 1}, {"q": "?", "a": "0"}, {"q": "?", "a": 2}], layout).rows
    assert [row[1] for row in rows[:2]] == ["Yes", "No"]
    assert rows[2].reason is RejectReason.UNSUPPORTED_VALUE
    assert "found '2' where one of 0, 1 was expected" in rows[2].detail


@pytest.mark.parametrize("record", [{"a": "x"}, {"q": "x"}, {"q": None, "a": "x"}, {}])
def test_what_is_missing_is_named(record: dict):
    assert qa([record], part()).rows[0].reason is RejectReason.MISSING_FIELD
