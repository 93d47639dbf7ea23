from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from curation.fingerprint import fingerprint


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Point:
    x: int
    y: float


class Model(BaseModel):
    value: Any = None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3),
    max_leaves=8,
)


def backwards(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: backwards(item) for key, item in reversed(value.items())}
    return [backwards(item) for item in value] if isinstance(value, list) else value


@given(value=JSON)
def test_order_of_keys_does_not_count(value: Any):
    assert fingerprint(value) == fingerprint(backwards(value))


@given(one=JSON, other=JSON)
def test_different_values_have_different_names(one: Any, other: Any):
    import json

    if json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True):
        assert fingerprint(one) != fingerprint(other)


def test_settings_are_named_by_what_they_hold():
    assert fingerprint(Point(1, 2.0)) == fingerprint({"y": 2.0, "x": 1})
    assert fingerprint(Model(value=[1])) == fingerprint({"value": [1]})
    assert fingerprint(Colour.RED) == fingerprint("red")
    assert fingerprint((1, 2)) == fingerprint([1, 2])
    assert fingerprint({"b", "a"}) == fingerprint(["a", "b"])
    assert fingerprint(True) != fingerprint(1) != fingerprint("1")


def test_the_form_is_fixed():
    assert fingerprint({"a": [1, 2.5, None, "é"]}) == "d10f86951f044307"


@pytest.mark.parametrize(
    "value",
    [Path("/a"), object(), float("nan"), float("inf"), {1: "a"}, b"bytes", len, np.int64(3), Point, {"a": [Path("b")]}],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_stable_form_is_refused(value: Any):
    for held in (value, Model(value=value)):
        with pytest.raises(TypeError, match="fingerprint:"):
            fingerprint(held)
