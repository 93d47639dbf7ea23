import sys
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.catalog.template import Unusable
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
    assert conversations(records, layout).repairs == {LEADING_ANSWER: [0]}


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


ROLE = st.sampled_from(["human", "gpt", "user", "system", "nobody", 1, None, ["human"]])
CONTENT = st.sampled_from(["a", "", "b c", 2, True, None, ["x"]])
TURNS = st.one_of(
    st.dictionaries(st.sampled_from(["from", "role"]), ROLE).flatmap(
        lambda role: st.dictionaries(st.sampled_from(["value", "content"]), CONTENT).map(lambda content: role | content)
    ),
    st.sampled_from([ASKED, ANSWERED, {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}, None, "x"]),
)
PAIRS = st.lists(st.just([ASKED, ANSWERED]), min_size=1, max_size=3).map(lambda pairs: list(chain.from_iterable(pairs)))
LISTED = st.one_of(PAIRS, st.lists(TURNS, max_size=4), st.sampled_from([None, "x", {}]))


@given(listed=st.lists(LISTED, max_size=6))
def test_a_batch_gives_what_its_records_give_turn_by_turn(listed: list):
    layout = part(layout="conversations", fields={"turns": "turns"})
    # A list of one pair that is no turn keeps its whole batch from being taken by columns.
    irregular = [{"turns": [1, 2]}]
    alone = [conversations([{"turns": turns}, *irregular], layout) for turns in listed]
    together = conversations([{"turns": turns} for turns in listed], layout)
    assert [told(row) for row in together.rows] == [told(found.rows[0]) for found in alone]
    assert sum(together.repairs.values()) == sum(sum(found.repairs.values()) for found in alone)


def told(row: Any) -> Any:
    return (row.reason, row.detail) if isinstance(row, Unusable) else row


def test_pairs_of_turns_are_taken_by_columns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.modules[conversations.__module__], "_turn", None)
    other = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    for listed in ([[ASKED, ANSWERED], [ASKED, ANSWERED] * 2], [other]):
        layout = part(layout="conversations", fields={"turns": "turns"})
        rows = conversations([{"turns": turns} for turns in listed], layout).rows
        assert [len(row) for row in rows] == [len(turns) for turns in listed]


PAIR_KEYS = {"question": "user", "answer": "assistant"}


def test_questions_and_answers_may_come_in_pairs():
    turns = [{"user": "Why?", "assistant": "Because.", "source": "x"}, {"user": "How many?", "assistant": 7}]
    assert row(turns, fields=PAIR_KEYS) == ["Why?", "Because.", "How many?", "7"]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([{"user": "Why?"}], RejectReason.MISSING_FIELD),
        ([{"user": None, "assistant": "Because."}], RejectReason.MISSING_FIELD),
        (["Why?"], UNSUPPORTED),
        ([{"user": ["Why?"], "assistant": "Because."}], UNSUPPORTED),
        ([], RejectReason.EMPTY_QUESTION),
    ],
)
def test_pairs_that_are_none_are_rejected(turns: list, expected: RejectReason):
    assert row(turns, fields=PAIR_KEYS).reason is expected


def test_values_translate_the_answers():
    values = {"answer": {"0": "no", "1": "yes"}}
    assert row([ASKED, {"from": "gpt", "value": "1"}], values=values) == ["Why?", "yes"]
    assert row([ASKED, ANSWERED], values=values).reason is UNSUPPORTED


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"question": "user"}, "give both or neither"),
        ({**PAIR_KEYS, "role": "from"}, "either `role` and `content`"),
        ({"question": {"text": "Why?"}, "answer": "a"}, "expected the key of a text"),
    ],
)
def test_pairs_and_roles_exclude_each_other(fields: dict, expected: str):
    with pytest.raises(ValueError, match=expected):
        part(layout="conversations", fields={"turns": "turns", **fields})
