from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import ConfigError
from training.mixing import MixtureOrder, Schedule, counts_after, integer_shares
from training.order import ShardOrder, Shuffle

weights = st.lists(st.integers(1, 50), min_size=1, max_size=8)


@given(shares=weights, num_slots=st.integers(1, 400))
def test_every_prefix_is_within_one_sample_of_the_shares(shares, num_slots):
    schedule = Schedule(shares, [0] * len(shares))
    for slot in range(1, num_slots + 1):
        schedule.take()
        for share, count in zip(shares, schedule.counts, strict=True):
            assert abs(count - Fraction(share * slot, sum(shares))) < 1


@given(shares=weights, num_slots=st.integers(0, 300), more=st.integers(1, 50))
def test_a_schedule_goes_on_from_its_counts(shares, num_slots, more):
    whole = Schedule(shares, [0] * len(shares))
    taken = [whole.take() for _ in range(num_slots + more)]
    resumed = Schedule(shares, counts_after(tuple(shares), num_slots))
    assert [resumed.take() for _ in range(more)] == taken[num_slots:]


def test_decimal_weights_mean_what_they_say():
    assert integer_shares([0.5, 0.3, 0.2]) == (5, 3, 2)
    assert integer_shares([2, 1]) == (2, 1)
    assert integer_shares([1 / 3, 2 / 3]) == (1, 2)


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_weight_must_be_positive(weight):
    with pytest.raises(ConfigError, match="positive"):
        integer_shares([1.0, weight])


def test_releases_are_passed_through_evenly_over_epochs():
    parts = tuple(ShardOrder(num_positions=size, seed=size, shuffle=Shuffle.FULL, window=8) for size in (7, 11))
    order = MixtureOrder(num_positions=9, parts=parts, shares=(1, 2))
    rows = np.concatenate([order.rows(epoch, np.arange(9), order.start())[0] for epoch in range(14)])
    counts = np.bincount(rows, minlength=18)
    assert counts[:7].tolist() == [6] * 7
    assert set(counts[7:].tolist()) <= {7, 8}
    assert counts.sum() == 14 * 9


def test_rows_from_a_cursor_equal_rows_from_the_start():
    parts = tuple(ShardOrder(num_positions=size, seed=size, shuffle=Shuffle.BLOCK, window=3) for size in (5, 6, 9))
    order = MixtureOrder(num_positions=100, parts=parts, shares=(3, 1, 5))
    everything, _ = order.rows(2, np.arange(100), order.start())
    first, cursor = order.rows(2, np.arange(0, 40, 3), order.start())
    rest, _ = order.rows(2, np.arange(41, 100, 2), cursor)
    assert first.tolist() == everything[0:40:3].tolist()
    assert rest.tolist() == everything[41::2].tolist()
