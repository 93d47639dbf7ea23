from typing import Any

import pytest

from curation.errors import RejectReason
from curation.sources.conversations import LEADING_ANSWER, conversations
from tests.support.upstream import part

ASKED, ANSWERED = {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}
UNSUPPORTED = RejectReason.UNSUPPORTED_VALUE


def row(turns: Any, record: dict[str, Any] | None = None, fields: dict[str, Any] | None = None, **settings: Any) -> Any:
    layout = part(layout="conversations", fields={"turns": "turns", **(fields or {})}, **settings)
    return conversations([{"turns": turns, **(record or {})}], layout).rows[0]


@pytest.mark.parametrize(
    "turns",
    [
        [ASKED, ANSWERED],
        [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}],
        [{"from": "prompter", "value": "Why?"}, {"from": "bot", "value": "Because."}],
        [{"from": "gpt", "value": "Hello."}, ASKED, ANSWERED],
    ],
)
def test_turns_alternate_human_first(turns: list):
    assert row(turns) == ["Why?", "Because."]


def test_a_leading_system_turn_is_a_preamble():
    turns = [{"from": "system", "value": "Be brief."}, ASKED, ANSWERED]
    assert row(turns) == ["Be brief.\n\nWhy?", "Because."]
    assert row([ASKED, ANSWERED, turns[0], ANSWERED]).reason is UNSUPPORTED


def test_keys_and_roles_may_be_named():
    turns = [{"who": "Q", "text": "Why?"}, {"who": "A", "text": 7}]
    fields = {"role": "who", "content": "text"}
    assert row(turns, fields=fields, roles={"Q": "human", "A": "gpt"}) == ["Why?", "7"]


def test_a_leading_answer_is_counted():
    layout = part(layout="conversations", fields={"turns": "turns"})
    records = [{"turns": [ANSWERED, ASKED, ANSWERED]}, {"turns": [ASKED, ANSWERED]}]
    assert conversations(records, layout).repairs == {LEADING_ANSWER: 1}


@pytest.mark.parametrize(
    ("preamble", "expected"),
    [("Be brief. ", "Be brief.\n\nWhy?"), ("", "Why?"), ("[]", "Why?"), (None, "Why?"), ("null", "Why?")],
)
def test_a_preamble_goes_before_the_first_question(preamble: object, expected: str):
    assert row([ASKED, ANSWERED], {"system": preamble}, {"preamble": "system"})[0] == expected


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        (None, RejectReason.MISSING_FIELD),
        ("text", UNSUPPORTED),
        (["text"], UNSUPPORTED),
        ([], RejectReason.EMPTY_QUESTION),
        ([ANSWERED], RejectReason.EMPTY_QUESTION),
        ([ASKED], RejectReason.EMPTY_ANSWER),
        ([ASKED, ANSWERED, ASKED], RejectReason.EMPTY_ANSWER),
        ([ASKED, ASKED], UNSUPPORTED),
        ([ASKED, ANSWERED, ANSWERED], UNSUPPORTED),
        ([{"from": "narrator", "value": "x"}, ANSWERED], UNSUPPORTED),
        ([{"value": "x"}, ANSWERED], RejectReason.MISSING_FIELD),
        ([{"from": "human", "value": None}, ANSWERED], RejectReason.MISSING_FIELD),
        ([{"from": "human", "value": ["x"]}, ANSWERED], UNSUPPORTED),
        ([{"from": ["human"], "value": "x"}, ANSWERED], UNSUPPORTED),
    ],
)
def test_what_is_no_conversation_has_a_reason(turns: Any, expected: RejectReason):
    assert row(turns).reason is expected
