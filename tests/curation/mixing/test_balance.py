import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from curation.catalog.spec import Category
from curation.errors import PlanError
from curation.mixing.balance import Plan, largest_remainder, plan
from curation.mixture.spec import Mixture, SourceRule

WEIGHTS = st.sampled_from([1, 1, 0.25, 3])
NAMES = [f"source-{letter}" for letter in "abcdef"]
OCR = dict.fromkeys("ab", Category.OCR)
CATEGORIES = [Category.OCR, Category.MATH, Category.CODE]


def planned(available: dict[str, int], kinds: dict[str, Category] | None = None, /, **spec: Any) -> Plan:
    mixture = Mixture.model_validate({"name": "m", **spec})
    return plan(mixture, available, kinds or dict.fromkeys(available, Category.OCR))


def suggested(problem: PlanError, way: str) -> int | float:
    found = re.search(rf"{way} ([\d,.e-]*\d)", str(problem))
    assert found, f"no way '{way}' in: {problem}"
    text = found.group(1).replace(",", "")
    return float(text) if "." in text or "e" in text else int(text)


@st.composite
def pools(draw: st.DrawFn) -> tuple[dict[str, int], dict[str, Category]]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    available = {name: draw(st.integers(0, 60)) for name in names}
    return available, {name: draw(st.sampled_from(CATEGORIES)) for name in names}


@st.composite
def ratios(draw: st.DrawFn) -> dict[str, float]:
    parts = {category.value: draw(st.integers(1, 20)) for category in draw(st.sets(st.sampled_from(CATEGORIES), min_size=1))}
    return {name: number / sum(parts.values()) for name, number in parts.items()}


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    if draw(st.booleans()):
        spec["size"] = draw(st.integers(1, 150))
    if draw(st.booleans()):
        spec["cap"] = draw(st.integers(1, 40))
    if draw(st.booleans()):
        spec["ratios"] = draw(ratios())
    spec["max_repeat"] = draw(st.integers(1, 3))
    named = draw(st.sets(st.sampled_from(NAMES), max_size=3))
    limits = st.sampled_from([{}, {"take": 7}, {"cap": 3}, {"cap": 30}])
    rules = st.builds(lambda limit, **others: SourceRule(**limit, **others), limits, repeat=st.integers(1, 3), weight=WEIGHTS)
    spec["sources"] = {name: draw(rules).model_dump() for name in sorted(named)}
    spec["alpha"] = draw(st.sampled_from([1, 1, 0, 0.5, 2]))
    for category in draw(st.sets(st.sampled_from(CATEGORIES), max_size=2)):
        weight = 1 if "ratios" in spec else draw(WEIGHTS)
        rule = {"cap": draw(st.none() | st.integers(1, 40)), "total": draw(st.none() | st.integers(1, 60)), "weight": weight}
        spec.setdefault("categories", {})[category.value] = rule
    return spec


@given(pool=pools(), spec=specs())
def test_no_plan_exceeds_a_limit_and_its_size_is_met(pool: tuple, spec: dict):
    available, categories = pool
    mixture = Mixture.model_validate({"name": "m", **spec})
    try:
        found = plan(mixture, available, categories)
    except PlanError:
        return
    assert set(found.quotas) == set(available)
    if mixture.size is not None:
        assert found.total == mixture.size
    for name, quota in found.quotas.items():
        rule = mixture.rule(name)
        cap = mixture.cap_of(name, categories[name])
        limit = rule.take if rule.take is not None else min(available[name], cap or available[name])
        if mixture.category_rule(categories[name]).total is None:
            assert quota.offered == limit
        assert quota.offered <= limit
        assert quota.picked == min(quota.offered, quota.samples)
        assert quota.samples <= quota.offered * max(rule.repeat, mixture.max_repeat)
        assert quota.repeat <= max(rule.repeat, mixture.max_repeat)


@given(pool=pools(), spec=specs())
def test_no_category_exceeds_its_total(pool: tuple, spec: dict):
    available, categories = pool
    mixture = Mixture.model_validate({"name": "m", **spec})
    try:
        found = plan(mixture, available, categories)
    except PlanError:
        return
    for name, rule in mixture.categories.items():
        members = [quota for quota in found.quotas.values() if quota.category == name]
        if rule.total is not None and not any(mixture.rule(quota.source).take for quota in members):
            held = sum(min(quota.available, quota.cap or quota.available) for quota in members)
            assert sum(quota.offered for quota in members) == min(rule.total, held)


@given(pool=pools(), size=st.integers(1, 100), alpha=st.sampled_from([0, 0.3, 0.5, 1, 2]), max_repeat=st.integers(1, 99))
def test_sources_share_by_temperature_until_they_are_full(pool: tuple, size: int, alpha: float, max_repeat: int):
    """p_i ~ n_i^alpha: among sources that are not full, shares follow the power of what they hold."""
    available, categories = pool
    try:
        found = planned(available, categories, size=size, alpha=alpha, max_repeat=max_repeat)
    except PlanError:
        return
    free = [quota for quota in found.quotas.values() if quota.available and quota.samples < quota.available * max_repeat]
    whole = sum(quota.available**alpha for quota in free)
    part = sum(quota.samples for quota in free)
    for quota in free:
        assert abs(quota.samples - part * quota.available**alpha / whole) <= 1 + 1e-9
    full = [quota for quota in found.quotas.values() if quota not in free and quota.available]
    for quota in full:  # one that is full would have had at least as much by its share
        assert quota.samples == quota.available * max_repeat


def test_temperature_evens_sources_out():
    given_ = {"a": 10_000, "b": 100}
    shares = {alpha: planned(given_, size=1_000, alpha=alpha, max_repeat=9).quotas["b"].samples for alpha in (1, 0.5, 0)}
    assert shares == {1: 10, 0.5: 91, 0: 500}


def test_weights_without_a_size_give_the_most_that_keeps_them():
    categories = {"a": Category.OCR, "b": Category.OCR, "c": Category.MATH}
    rules = {"sources": {"a": {"weight": 2}}, "categories": {"math": {"weight": 0.5}}}
    found = planned({"a": 100, "b": 100, "c": 100}, categories, **rules)
    assert {name: quota.samples for name, quota in found.quotas.items()} == {"a": 100, "b": 50, "c": 25}


def test_a_weight_beyond_what_a_source_holds_is_told():
    found = planned({"a": 10, "b": 90}, size=50, sources={"a": {"weight": 50}})
    assert (found.quotas["a"].samples, found.quotas["b"].samples) == (10, 40)
    assert "'a' would give 42 samples by its weight, but gives 10 at most" in found.warnings[0]


def test_a_cap_may_count_by_annotation_file():
    files = {"a": {"one.json": 500, "two.json": 200, "three.json": 20}}
    by_file = plan(Mixture(name="m", cap=150, cap_unit="annotation_file"), {"a": 720, "b": 400}, OCR, files)
    assert {name: quota.samples for name, quota in by_file.quotas.items()} == {"a": 320, "b": 150}
    by_source = plan(Mixture(name="m", cap=150), {"a": 720, "b": 400}, OCR, files)
    assert {name: quota.samples for name, quota in by_source.quotas.items()} == {"a": 150, "b": 150}


def test_rules_replace_the_cap_nearest_first():
    spec = {"cap": 10, "categories": {"ocr": {"cap": 20}}, "sources": {"b": {"cap": 30}, "c": {"take": 40}}}
    categories = {"a": Category.OCR, "b": Category.OCR, "c": Category.OCR, "d": Category.MATH}
    found = planned(dict.fromkeys("abcd", 50), categories, **spec)
    assert [quota.samples for quota in found.quotas.values()] == [20, 30, 40, 10]


@given(pool=pools(), shares=ratios(), size=st.integers(1, 150), max_repeat=st.integers(1, 3))
def test_every_category_is_within_one_of_its_share(pool: tuple, shares: dict, size: int, max_repeat: int):
    available, categories = pool
    try:
        found = planned(available, categories, size=size, ratios=shares, max_repeat=max_repeat)
    except PlanError:
        return
    for category in CATEGORIES:
        samples = sum(quota.samples for quota in found.quotas.values() if quota.category is category)
        assert abs(samples - size * shares.get(category.value, 0)) < 1


@given(pool=pools(), spec=specs())
def test_a_smaller_size_that_is_suggested_works(pool: tuple, spec: dict):
    available, categories = pool
    spec = {**spec, "sources": {}}
    assume("size" in spec)
    try:
        planned(available, categories, **spec)
    except PlanError as problem:
        if "`size` to at most" in str(problem) and (size := suggested(problem, "`size` to at most")):
            assert size < spec["size"]
            assert planned(available, categories, **{**spec, "size": size}).total == size


@given(pool=pools(), spec=specs())
def test_a_repeat_that_is_suggested_works(pool: tuple, spec: dict):
    available, categories = pool
    assume("size" in spec)
    for _ in range(len(CATEGORIES) + 1):  # one category after the other may be too small
        try:
            assert planned(available, categories, **spec).total == spec["size"]
            return
        except PlanError as problem:
            if re.search("lower `take`|hold no samples|any number|no samples|hold none", str(problem)):
                return
            spec = {**spec, "max_repeat": suggested(problem, "raise `max_repeat` to")}
    raise AssertionError(f"suggestions do not end: {spec}")


def test_a_ratio_that_is_suggested_works():
    available = {"a": 10, "b": 90}
    categories = {"a": Category.OCR, "b": Category.MATH}
    with pytest.raises(PlanError) as caught:
        planned(available, categories, size=60, ratios={"ocr": 0.5, "math": 0.5})
    ratio = suggested(caught.value, "lower its ratio to at most")
    found = planned(available, categories, size=60, ratios={"ocr": ratio, "math": 1 - ratio})
    assert found.quotas["a"].samples in (9, 10)


def test_what_is_asked_and_held_is_named():
    with pytest.raises(PlanError) as caught:
        planned({"a": 10, "b": 90}, {"a": Category.OCR, "b": Category.MATH}, size=60, ratios={"ocr": 0.5, "math": 0.5})
    message = str(caught.value)
    for part in ("mixture 'm'", "category 'ocr' needs 30 samples", "1 sources hold 10", "raise `max_repeat` to 3"):
        assert part in message


def test_an_impossible_size_is_refused_with_the_possible_one():
    with pytest.raises(PlanError) as caught:
        planned({"a": 10, "b": 90}, size=101)
    assert suggested(caught.value, "`size` to at most") == 100
    assert suggested(caught.value, "`max_repeat` to") == 2


def test_a_share_for_a_category_without_samples_is_refused():
    for spec in ({}, {"size": 10}):
        with pytest.raises(PlanError, match="category 'math'"):
            planned({"a": 10, "b": 0}, {"a": Category.OCR, "b": Category.MATH}, ratios={"ocr": 0.5, "math": 0.5}, **spec)


def test_a_take_beyond_what_is_held_is_refused():
    with pytest.raises(PlanError, match="lower `take` to at most 10"):
        planned({"a": 10}, sources={"a": {"take": 11}})


def test_without_size_ratios_give_as_many_as_they_can():
    found = planned({"a": 10, "b": 90}, {"a": Category.OCR, "b": Category.MATH}, ratios={"ocr": 0.25, "math": 0.75})
    assert {name: quota.samples for name, quota in found.quotas.items()} == {"a": 10, "b": 30}


def test_a_rule_replaces_the_cap_and_repeats():
    found = planned({"a": 10, "b": 10}, cap=3, sources={"a": {"take": 7, "repeat": 2}, "b": {}})
    assert found.quotas["a"].samples == 14
    assert (found.quotas["a"].picked, found.quotas["a"].repeat) == (7, 2)
    assert found.quotas["b"].samples == 3


def test_sources_share_in_proportion_to_what_they_hold():
    found = planned({"a": 10, "b": 30, "c": 60}, size=50)
    assert [quota.samples for quota in found.quotas.values()] == [5, 15, 30]


def test_warnings_name_what_to_look_at():
    found = planned(
        {"a": 0, "b": 10, "c": 10},
        {"a": Category.OCR, "b": Category.OCR, "c": Category.MATH},
        size=15,
        max_repeat=2,
        ratios={"ocr": 1.0},
    )
    text = "\n".join(found.warnings)
    for part in ("'a' has no samples", "'b' is repeated: 10 samples", "'c' gives nothing", "comes from one source only: 'b'"):
        assert part in text


@given(total=st.integers(0, 10**7), weights=st.lists(st.integers(0, 1000) | st.floats(0, 1), min_size=1, max_size=9))
def test_largest_remainder_sums_and_stays_within_one(total: int, weights: list):
    assume(sum(weights) > 1e-6)
    parts = largest_remainder(total, weights)
    assert sum(parts) == total
    for found, weight in zip(parts, weights, strict=True):
        assert abs(found - total * weight / sum(weights)) < 1 + 1e-6


def test_largest_remainder_gives_ties_to_the_earlier():
    assert largest_remainder(2, [1, 1, 1]) == [1, 1, 0]
    assert largest_remainder(0, [0, 0]) == [0, 0]
    with pytest.raises(PlanError):
        largest_remainder(1, [0, 0])
