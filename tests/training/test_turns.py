import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import turns
from training.shares import SharePlan, integer_shares, line, tabulate
from training.turns import Turns


def of_weights(*weights, start=0):
    return Turns(((start, integer_shares(weights)),))


def places_of_all(turning, num_rounds, world_size, epoch_slot=0, first=0):
    """Places by round and rank."""
    rounds = np.arange(num_rounds)
    where = {"world_size": world_size, "epoch_slot": epoch_slot, "first": first}
    return np.stack([turning.places(rounds, rank=rank, **where) for rank in range(world_size)], axis=1)


def furthest_off(weights, num_rounds, world_size, epoch_slot=0, first=0):
    """How far any rank is from any share at any prefix, in samples."""
    inside = places_of_all(of_weights(*weights), num_rounds, world_size, epoch_slot, first)
    table = tabulate(integer_shares(weights))
    slots = epoch_slot + first + np.arange(num_rounds)[:, None] * world_size + inside
    parts = table.at(slots.ravel())[0].reshape(slots.shape)
    due = np.outer(np.arange(1, num_rounds + 1), np.array(weights) / sum(weights))
    counts = np.stack([np.cumsum(parts == part, axis=0) for part in range(len(weights))], axis=2)
    return np.abs(counts - due[:, None]).max()


@given(
    weights=st.lists(st.integers(1, 1_000), min_size=2, max_size=8),
    world_size=st.integers(1, 9),
    epoch_slot=st.integers(0, 10**9),
    first=st.integers(0, 10**9),
)
@settings(deadline=None, max_examples=40)
def test_shares_hold_on_every_rank_within_a_few_samples(weights, world_size, epoch_slot, first):
    assert furthest_off(weights, 500, world_size, epoch_slot, first) < 4


@pytest.mark.parametrize("weights", [(1, 1), (501, 499), (333, 333, 334), (1, 6), (0.12, 0.2, 0.24, 0.17, 0.27), (5, 3, 2)])
@pytest.mark.parametrize("world_size", [2, 8, 63, 64])
def test_shares_stay_where_shares_and_ranks_have_a_period_in_common(weights, world_size):
    """Plain turns would give each rank a source of its own; and what a deal leaves over must not add up."""
    assert furthest_off(weights, 1_500, world_size) < 2


@pytest.mark.parametrize("weights", [(1_237, 2_311, 4_003), (97, 96, 94, 91, 90, 89), (1, 7_001)])
@pytest.mark.parametrize("world_size", [3, 8, 31])
def test_weights_that_repeat_late_are_dealt_in_pieces_that_do_not_add_up(monkeypatch, weights, world_size):
    """Forty deals and more, each of which ends with every rank at its share."""
    monkeypatch.setattr(turns, "MAX_PLACES", 1 << 10)
    monkeypatch.setattr(turns, "PIECE_PLACES", 1 << 10)
    length = (1 << 10) // world_size
    assert furthest_off(weights, 40 * length, world_size) < 4
    assert furthest_off(weights, 4 * length, world_size, epoch_slot=12_345, first=678) < 4


@given(
    world_size=st.integers(1, 7),
    starts=st.lists(st.integers(1, 60), max_size=3, unique=True),
    where=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    is_tabulated=st.lists(st.booleans(), min_size=4, max_size=4),
)
@settings(deadline=None, max_examples=60)
def test_every_round_is_dealt_out_whole_whatever_the_segments(world_size, starts, where, is_tabulated):
    begins = [0, *sorted(starts)]
    segments = tuple((start, (2, 3, 1) if known else None) for start, known in zip(begins, is_tabulated, strict=False))
    inside = places_of_all(Turns(segments), 40, world_size, *where)
    assert (np.sort(inside, axis=1) == np.arange(world_size)).all()


@given(
    world_size=st.integers(1, 7), epoch_slot=st.integers(0, 99), gone=st.integers(0, 30), shares=st.sampled_from([(4, 3), None])
)
@settings(deadline=None, max_examples=60)
def test_ranks_go_on_as_if_nothing_had_been(world_size, epoch_slot, gone, shares):
    """A run that resumes in the same world goes on bit for bit, so each rank must get what it would have got."""
    turning = Turns(((0, (2, 1)), (41, shares)))
    whole = places_of_all(turning, 50, world_size, epoch_slot)
    rest = places_of_all(turning, 50 - gone, world_size, epoch_slot, first=gone * world_size)
    assert rest.tolist() == whole[gone:].tolist()


def test_turns_are_read_from_what_an_order_says_of_itself():
    plans = [line([(0, (1, 3))]), line([(0, (1, 3)), (10, (1, 1))]), line([(0, (1, 1 << 17))])]
    pieces = [[[p.start, p.num_slots, p.before, p.after] for p in SharePlan(plan).pieces] for plan in plans]
    about = {"segments": [{"start": number, "pieces": piece} for number, piece in enumerate(pieces)]}
    assert Turns.of_order(about).segments == ((0, (1, 3)), (1, None), (2, None))
