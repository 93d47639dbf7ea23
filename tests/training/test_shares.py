import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import ConfigError
from training.shares import SharePlan, Walk, integer_shares, line, walk_slots

weights = st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any)


@st.composite
def schedules(draw):
    """Up to four knots of weights for one to six sources."""
    num_sources = draw(st.integers(1, 6))
    slots = sorted({0, *draw(st.lists(st.integers(1, 250), max_size=3))})
    values = st.lists(st.sampled_from([0, 0.07, 0.3, 1, 2, 9]), min_size=num_sources, max_size=num_sources).filter(any)
    return [(slot, draw(values)) for slot in slots]


@given(schedule=schedules())
@settings(deadline=None, max_examples=50)
def test_every_prefix_is_within_one_sample_of_the_shares(schedule):
    plan = SharePlan(line(schedule))
    walk = Walk(plan, [0] * plan.num_sources)
    for slot in range(1, 300):
        walk.take()
        for source, count in enumerate(walk.counts):
            assert abs(count - plan.due(source, slot)) < 1


@given(shares=weights, num_slots=st.integers(0, 300), more=st.integers(1, 50))
def test_a_walk_goes_on_from_its_counts(shares, num_slots, more):
    plan = SharePlan(line([(0, shares)]))
    taken = list(itertools.islice(walk_slots(plan), num_slots + more))
    resumed = Walk(plan, plan.table.counts_after(num_slots))
    assert [resumed.take() for _ in range(more)] == taken[num_slots:]


@given(shares=weights, start=st.integers(0, 400))
def test_the_table_tells_any_slot(shares, start):
    plan = SharePlan(line([(0, shares)]))
    walk = Walk(plan, [0] * len(shares))
    for slot, (source, draw) in enumerate([walk.take() for _ in range(start + 1)]):
        assert plan.table.slot_of(source, draw) == slot


def test_shares_that_do_not_repeat_soon_are_walked():
    plan = SharePlan(line([(0, [1_234_567, 7_654_321])]))
    assert plan.table is None
    taken = [source for source, _ in itertools.islice(walk_slots(plan), 72)]
    assert taken.count(0) == 10


def test_weights_move_along_a_line():
    plan = SharePlan(line([(0, [1, 0]), (100, [0, 1])]))
    sources = [source for source, _ in itertools.islice(walk_slots(plan), 150)]
    assert sources[:10].count(0) >= 9
    assert sources[:100].count(0) == 50
    assert set(sources[101:]) == {1}


def test_decimal_weights_mean_what_they_say():
    assert integer_shares([0.5, 0.3, 0.2]) == (5, 3, 2)
    assert integer_shares([2, 1, 0]) == (2, 1, 0)
    assert integer_shares([1 / 3, 2 / 3]) == (1, 2)


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf")])
def test_a_weight_must_be_a_number(weight):
    with pytest.raises(ConfigError, match="at least 0"):
        integer_shares([1.0, weight])


def test_some_weight_must_be_positive():
    with pytest.raises(ConfigError, match="all mixture weights are 0"):
        integer_shares([0, 0])


@pytest.mark.parametrize("slots", [[], [5], [0, 10, 10], [0, 20, 10]])
def test_a_schedule_ascends_from_zero(slots):
    with pytest.raises(ConfigError, match="ascending"):
        line([(slot, [1]) for slot in slots])
