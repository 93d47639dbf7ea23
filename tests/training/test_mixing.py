import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import ConfigError, StreamError
from training.mixing import AtEnd, MixtureOrder, mixture_order
from training.order import ShardOrder, Shuffle


def parts(*sizes):
    return [ShardOrder(num_positions=size, seed=size, shuffle=Shuffle.FULL, window=8) for size in sizes]


def order_of(sizes, knots, at_end="repeat", num_positions=None):
    return mixture_order(parts(*sizes), knots, at_end=AtEnd(at_end), num_positions=num_positions)


def all_rows(order, epoch=0):
    return order.rows(epoch, np.arange(order.num_positions), order.start())[0]


def test_releases_are_passed_through_evenly_over_epochs():
    order = order_of((7, 11), [(0, [1, 2])], num_positions=9)
    counts = np.bincount(np.concatenate([all_rows(order, epoch) for epoch in range(14)]), minlength=18)
    assert counts.sum() == 14 * 9
    assert set(counts[:7].tolist()) == {6}
    assert set(counts[7:].tolist()) <= {7, 8}


KNOTS = [[(0, [3, 1, 5])], [(0, [3, 1, 5]), (40, [1, 1, 0]), (70, [0, 2, 9])], [(0, [1_234_567, 7_654_321, 333])]]


@given(knots=st.sampled_from(KNOTS), epoch=st.integers(0, 2), cut=st.integers(1, 99), step=st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_rows_from_a_cursor_equal_rows_from_the_start(knots, epoch, cut, step):
    order = order_of((5, 6, 9), knots, num_positions=100)
    everything = all_rows(order, epoch)
    first, cursor = order.rows(epoch, np.arange(0, cut, step), order.start())
    rest, _ = order.rows(epoch, np.arange(cut, 100, step), cursor)
    assert first.tolist() == everything[0:cut:step].tolist()
    assert rest.tolist() == everything[cut::step].tolist()


def counts_by_part(rows, sizes):
    return np.bincount(np.searchsorted(np.cumsum(sizes), rows, side="right"), minlength=len(sizes)).tolist()


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    weights=st.lists(st.integers(1, 9), min_size=5, max_size=5),
)
@settings(deadline=None)
def test_reweighting_delivers_every_sample_once(sizes, weights):
    order = order_of(sizes, [(0, weights[: len(sizes)])], "reweight")
    assert sorted(all_rows(order).tolist()) == list(range(sum(sizes)))


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    weights=st.lists(st.integers(1, 9), min_size=5, max_size=5),
)
@settings(deadline=None)
def test_stopping_ends_with_the_first_part_that_is_used_up(sizes, weights):
    order = order_of(sizes, [(0, weights[: len(sizes)])], "stop")
    rows = all_rows(order)
    assert len(set(rows.tolist())) == len(rows)
    found = counts_by_part(rows, sizes)
    last = int(np.searchsorted(np.cumsum(sizes), rows[-1], side="right"))
    assert found[last] == sizes[last]
    assert all(count < size for part, (count, size) in enumerate(zip(found, sizes, strict=True)) if part != last)


def test_walked_weights_stop_and_reweight_too():
    weights = [(0, [1_234_567, 7_654_321])]
    assert order_of((10, 20), weights, "reweight").num_positions == 30
    assert counts_by_part(all_rows(order_of((10, 20), weights, "stop")), (10, 20))[1] == 20


def test_weights_change_at_a_slot_and_parts_go_on():
    order = order_of((50, 50), [(0, [1, 1])], num_positions=60)
    changed = order.changed([(0, [9, 1])], at_slot=20, version="b")
    before, after = all_rows(order), all_rows(changed)
    assert before[:20].tolist() == after[:20].tolist()
    assert counts_by_part(after[20:40], (50, 50)) == [18, 2]
    assert len(set(after.tolist())) == 60 - max(0, 10 + 36 - 50)
    assert MixtureOrder.taking_up(order, changed.describe()) == changed


def test_a_changed_mixture_goes_on_into_the_next_epoch():
    order = order_of((30, 30), [(0, [1, 1])], num_positions=20).changed([(0, [4, 1])], at_slot=10, version="b")
    counts = collections.Counter(np.concatenate([all_rows(order, epoch) for epoch in range(6)]).tolist())
    by_part = [sum(counts[row] for row in range(30)), sum(counts[row] for row in range(30, 60))]
    assert by_part == [5 + 88, 5 + 22]
    assert max(counts.values()) - min(counts[row] for row in range(30)) <= 1


@pytest.mark.parametrize("at_end", ["stop", "reweight"])
def test_what_cannot_be_combined_is_refused(at_end):
    with pytest.raises(ConfigError, match="repeat"):
        order_of((5, 5), [(0, [1, 1]), (10, [1, 2])], at_end)
    with pytest.raises(ConfigError, match="repeat"):
        order_of((5, 5), [(0, [1, 1])], at_end).changed([(0, [1, 2])], at_slot=3, version="")


def test_states_of_other_weights_are_refused():
    with pytest.raises(StreamError, match="saved with the weights"):
        order_of((5, 5), [(0, [1, 1])]).taking_up(order_of((5, 5), [(0, [1, 2])]).describe())
    with pytest.raises(StreamError, match="cannot be read"):
        order_of((5, 5), [(0, [1, 1])]).taking_up({"segments": [{"start": 0}]})
