from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.catalog.template import FILTERS, Path, Template, TemplateError, Unusable
from curation.errors import RejectReason

RECORD: dict[str, Any] = {
    "q": "Why?",
    "empty": "",
    "none": None,
    "number": 3,
    "real": 2.5,
    "true": True,
    "list": ["a", 1, None],
    "words": ["a", "b"],
    "nested": {"deep": [{"x": "found"}], "1": "key"},
    "rows": [["x", "y, z"], [], "plain"],
    "table": {
        "structure": {"tokens": ["<tr>", "<td>", "</td>", "<td>", "</td>", "</tr>"]},
        "cells": [{"tokens": ["<b>", "1"]}],
    },
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("q", "Why?"),
        ("number", "3"),
        ("real", "2.5"),
        ("true", "true"),
        ("empty", ""),
        ("nested.deep.0.x", "found"),
        ("nested.1", "key"),
        ("words.1", "b"),
        ("{q} {number}", "Why? 3"),
        ("{{{q}}}", "{Why?}"),
        ("{q}{none?}{missing?}{nested.deep.9.x?}.", "Why?."),
        ("{words|join}", "a, b"),
        ("{words|concat}", "ab"),
        ("{words|lettered}", "A. a\nB. b"),
        ("{rows|lines}", "y, z\n[]\nplain"),
        ("{words|json}", '["a","b"]'),
        ("{q|strip}", "Why?"),
        ("{none?|strip}", ""),
        ("{table|table_html}", "<tr><td><b>1</td><td></td></tr>"),
        ("no fields{{}}", "no fields{}"),
    ],
)
def test_templates_make_text(template: str, expected: str):
    record = {**RECORD, "rows": [["x", "y, z"], "[]", "plain"]}
    assert Template(template).render(record) == expected
    assert Template(template).column([record]) == [expected]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("missing", RejectReason.MISSING_FIELD),
        ("none", RejectReason.MISSING_FIELD),
        ("{q} {missing}", RejectReason.MISSING_FIELD),
        ("nested.deep.1.x", RejectReason.MISSING_FIELD),
        ("nested.deep.x", RejectReason.MISSING_FIELD),
        ("q.x", RejectReason.MISSING_FIELD),
        ("words", RejectReason.UNSUPPORTED_VALUE),
        ("nested", RejectReason.UNSUPPORTED_VALUE),
        ("{words?}", RejectReason.UNSUPPORTED_VALUE),
        ("{q|join}", RejectReason.UNSUPPORTED_VALUE),
        ("{list|join}", RejectReason.MISSING_FIELD),
        ("{q|table_html}", RejectReason.UNSUPPORTED_VALUE),
        ("{many|lettered}", RejectReason.UNSUPPORTED_VALUE),
        ("{bytes|json}", RejectReason.UNSUPPORTED_VALUE),
    ],
)
def test_what_makes_no_text_has_a_reason(template: str, expected: RejectReason):
    record = {**RECORD, "many": list(range(27)), "bytes": b"x"}
    with pytest.raises(Unusable) as caught:
        Template(template).render(record)
    assert caught.value.reason is expected
    assert Template(template).column([record]) == [None]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{q", "a single '{'; write '{{'"),
        ("q}", "a single '}'; write '}}'"),
        ("{}", "'' is no field path"),
        ("{a b}", "'a b' is no field path"),
        ("{q|upper}", "unknown filter 'upper'; valid: " + ", ".join(sorted(FILTERS))),
        ("{q|}", "unknown filter ''"),
        ("a..b", "'a..b' is no field path"),
        (".a", "is no field path"),
        ("{q.__class__()}x{", "a single '{'"),
        ("two words", "is no field path"),
    ],
)
def test_templates_that_are_not_well_formed_say_why(template: str, expected: str):
    with pytest.raises(TemplateError) as caught:
        Template(template)
    assert expected in str(caught.value)


def test_nothing_but_fields_is_reached():
    for path in ("q.__class__", "words.__len__", "nested.keys"):
        assert Path.parse(path).get(RECORD) is None


def test_text_without_braces_is_a_file_name():
    assert Template.of_name("a b.json").render({}) == "a b.json"
    assert Template.of_name("a b/{q}.json").render({"q": "x"}) == "a b/x.json"


@given(text=st.text(max_size=12))
def test_any_text_is_a_template_or_an_error(text: str):
    try:
        Template(text).column([RECORD])
    except TemplateError:
        return


@given(text=st.text(max_size=12))
def test_braces_that_are_doubled_are_themselves(text: str):
    escaped = text.replace("{", "{{").replace("}", "}}") + "{{"
    assert Template(escaped).render({}) == text + "{"


@pytest.mark.parametrize("key", ["Question text", "a.b", "what?", "a|b", "ä {", 'x"y', "", " ", "plain", "0"])
def test_any_key_but_those_with_braces_and_quotes_can_be_named(key: str):
    if any(sign in key for sign in '{}"') or not key:
        with pytest.raises(TemplateError, match="no field path can name"):
            Path.quoted(key)
        return
    path = Path.quoted(key)
    record = {key: {key: "found"}}
    assert Path.parse(f"{path}.{path}").get(record) == "found"
    assert Template(f"[{{{path}.{path}|strip}}]").render(record) == "[found]"
    assert Template(f"{{{path}.missing?}}").render(record) == ""


def test_plain_keys_are_not_quoted():
    assert [Path.quoted(key) for key in ("answer", "_key", "Question text")] == ["answer", "_key", '"Question text"']


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_float_that_is_no_number_is_absent(value: float):
    with pytest.raises(Unusable) as found:
        Template("{x}").render({"x": value})
    assert found.value.reason is RejectReason.MISSING_FIELD
    assert Template("<{x?}>").render({"x": value}) == "<>"
    with pytest.raises(Unusable):
        Template("{x|join}").render({"x": [value]})
