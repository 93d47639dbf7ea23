from typing import Any

import pytest

from curation.errors import RejectReason
from curation.sources.multiple_choice import multiple_choice
from tests.support.upstream import part

FIELDS = {"question": "q", "options": "options", "answer": "a"}


def row(answer: Any, options: Any, question: str = "Which?", fields: dict[str, Any] | None = None, **settings: Any) -> Any:
    layout = part(layout="multiple_choice", fields=fields or FIELDS, **settings)
    record = {"q": question, "a": answer, "options": options, **(options if isinstance(options, dict) else {})}
    return multiple_choice([record], layout).rows[0]


LISTED = "Which?\nA. red\nB. blue"


@pytest.mark.parametrize(
    ("answer", "answer_as", "respond", "expected"),
    [
        ("blue", "text", "letter", "B"),
        (" blue ", "text", "text", "blue"),
        ("b", "letter", "text", "blue"),
        ("(B).", "letter", "letter", "B"),
        (1, "index", "letter", "B"),
        ("0", "index", "text", "red"),
    ],
)
def test_the_right_option_is_named_as_asked(answer: Any, answer_as: str, respond: str, expected: str):
    assert row(answer, ["red", "blue"], answer_as=answer_as, respond=respond) == [LISTED, expected]


def test_options_may_be_fields_of_their_own():
    fields = {"question": "q", "answer": "a", "options": {"A": "first", "B": "second", "C": "third"}}
    assert row("B", {"first": "red", "second": "blue"}, fields=fields, answer_as="letter") == [LISTED, "B"]


def test_an_option_that_is_not_there_shifts_no_letter():
    assert row("C", {"A": "red", "B": None, "C": "blue", "D": "x"}, answer_as="letter", respond="text")[1] == "blue"
    assert row("B", {"A": "red", "B": None, "C": "blue"}, answer_as="letter").reason is RejectReason.UNSUPPORTED_VALUE


def test_letters_of_the_publisher_may_be_others():
    assert row("2", {"1": "red", "2": "blue"}, answer_as="letter") == [LISTED, "B"]


def test_numbers_are_options_too():
    assert row(3, [2, 3.0, True, 3], respond="text")[1] == "3"


def test_without_options_it_is_a_question():
    assert row("blue", None) == row("blue", []) == ["Which?", "blue"]
    assert row("A", ["unused"], fields={"question": "q", "answer": "a"}) == ["Which?", "A"]


@pytest.mark.parametrize(
    ("answer", "options", "settings"),
    [
        ("green", ["red", "blue"], {}),
        ("C", ["red", "blue"], {"answer_as": "letter"}),
        ("AB", ["red", "blue"], {"answer_as": "letter"}),
        ("", ["red", "blue"], {"answer_as": "letter"}),
        ("2", ["red", "blue"], {"answer_as": "index"}),
        ("-1", ["red", "blue"], {"answer_as": "index"}),
        ("²", ["red", "blue", "x"], {"answer_as": "index"}),
        ("red", ["red"], {}),
        ("red", ["x"] * 27, {}),
        ("red", "red, blue", {}),
        ("red", ["red", {"a": 1}], {}),
    ],
)
def test_an_answer_that_is_no_option_is_refused(answer: str, options: Any, settings: dict):
    assert row(answer, options, **settings).reason is RejectReason.UNSUPPORTED_VALUE


def test_what_is_missing_is_named():
    assert row(None, ["red", "blue"]).reason is RejectReason.MISSING_FIELD
    assert row("red", ["red", None]).reason is RejectReason.MISSING_FIELD
    assert row("red", ["red", "blue"], question=" ").reason is RejectReason.EMPTY_QUESTION
