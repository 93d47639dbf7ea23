import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import StreamError
from training.progress import Progress, merge_progress
from training.seats import Seat, Tail
from training.starts import Start

seats = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))


def every_seat(world_size, num_workers, batch_size):
    return [
        Seat(
            rank=rank,
            world_size=world_size,
            worker=worker,
            num_workers=num_workers,
            batch_size=batch_size,
            is_rotating=(world_size + num_workers) % 2 == 0,
        )
        for rank in range(world_size)
        for worker in range(num_workers)
    ]


SEGMENTS = [
    {"start": 0, "pieces": [[0, 0, [2, 3], [2, 3]]]},
    {"start": 31, "pieces": [[0, 9, [1, 1], [2, 0]], [9, 0, [1, 0], [1, 0]]]},
    {"start": 33, "pieces": [[0, 0, [1, 0, 1], [1, 0, 1]]]},
]
"""Of a mixture whose weights change twice, the first time along a line."""


def begin(num_samples, sizes, start=None):
    order = {"num_samples": num_samples, "at_end": "repeat", "segments": SEGMENTS}
    return [Progress(order=order, epoch=0, seat=seat, start=start or Start()) for seat in every_seat(*sizes)]


def left(part):
    return part.positions(part.delivered, part.num_own_places).tolist()


def advance(data, parts):
    """Let every seat deliver some of its share; return what was delivered and the progress."""
    delivered, moved = [], []
    for part in parts:
        positions = left(part)
        count = data.draw(st.integers(0, len(positions)))
        delivered += positions[:count]
        state = part.to_state() | {"delivered": part.delivered + count}
        moved.append(Progress.from_state(json.loads(json.dumps(state))))
    return delivered, moved


@given(total=st.integers(0, 200), sizes=seats)
def test_seats_share_out_every_place_once(total, sizes):
    places = [part.places(0, part.num_places(total)) for part in begin(total, sizes)]
    assert sorted(np.concatenate(places).tolist()) == list(range(total))


@given(num_samples=st.integers(1, 150), data=st.data())
def test_any_number_of_interruptions_delivers_every_position_once(num_samples, data):
    start, delivered = Start(), []
    for _ in range(3):
        parts = begin(num_samples, data.draw(seats), start)
        some, moved = advance(data, parts)
        delivered += some
        start = merge_progress(moved).start
    last = begin(num_samples, data.draw(seats), start)
    delivered += [position for part in last for position in left(part)]
    assert sorted(delivered) == list(range(num_samples))


@given(num_samples=st.integers(1, 150), data=st.data())
def test_what_is_left_keeps_its_order(num_samples, data):
    _, moved = advance(data, begin(num_samples, data.draw(seats)))
    alone = begin(num_samples, (1, 1, 1), merge_progress(moved).start)[0]
    assert left(alone) == sorted(left(alone))


@given(num_samples=st.integers(1, 150), world_size=st.integers(1, 5), steps=st.integers(0, 40), sizes=seats)
def test_one_rank_stands_for_all_that_step_together(num_samples, world_size, steps, sizes):
    rank = begin(num_samples, (world_size, 1, 1))[-1]
    steps = min(steps, rank.seat.num_places(num_samples))
    moved = Progress.from_state(rank.to_state() | {"delivered": steps})
    rest = [position for seat in every_seat(*sizes) for position in left(moved.go_on(seat))]
    assert sorted(rest) == list(range(min(num_samples, steps * world_size), num_samples))


def test_states_in_step_merge_into_one_number():
    parts = [Progress.from_state(part.to_state() | {"delivered": 4}) for part in begin(100, (2, 2, 4))]
    merged = merge_progress(parts)
    assert (merged.start.next, merged.start.pending) == (16, ())


def test_one_workers_state_is_refused_elsewhere():
    part = begin(10, (1, 2, 1))[0]
    with pytest.raises(StreamError, match="merge_states"):
        part.go_on(every_seat(1, 1, 1)[0])


def test_merge_names_the_missing_rank():
    with pytest.raises(StreamError, match=r"missing: \[\(1, 0\)\]"):
        merge_progress(begin(10, (2, 1, 1))[:1])


def test_merge_refuses_different_epochs():
    first, second = begin(10, (2, 1, 1))
    other = Progress.from_state(second.to_state() | {"epoch": 1})
    with pytest.raises(StreamError, match="epoch is 0 in the first and 1"):
        merge_progress([first, other])


def test_a_foreign_state_is_refused():
    with pytest.raises(StreamError, match="not a stream state"):
        Progress.from_state({"epoch": 3})


@given(num_samples=st.integers(1, 150), tail=st.sampled_from(list(Tail)), data=st.data())
def test_tails_keep_their_word(num_samples, tail, data):
    """After any interruptions and changes of set-up: ranks in step where promised, nothing twice but padding."""
    sizes = data.draw(seats)
    parts = [replace(part, tail=tail) for part in begin(num_samples, sizes)]
    _, moved = advance(data, parts)
    real = [part.positions(0, part.num_real(0, now.delivered)).tolist() for part, now in zip(parts, moved, strict=True)]
    merged = merge_progress(moved)
    sizes = data.draw(seats)
    last = [merged.go_on(seat) for seat in every_seat(*sizes)]
    counts = [sum(part.num_own_places for part in last if part.seat.rank == rank) for rank in range(sizes[0])]
    rest = [position for part in last for position in part.positions(0, part.num_real(0, part.num_own_places)).tolist()]
    once = [*itertools.chain(*real), *rest]
    assert len(set(once)) == len(once)
    if tail is Tail.DROP:
        assert num_samples - len(once) < sizes[0] or not merged.num_left
    else:
        assert sorted(once) == list(range(num_samples))
    assert max(counts) - min(counts) <= (tail is Tail.EVEN)
    assert sum(counts) - len(rest) < sizes[0]


@given(num_samples=st.integers(1, 150), skipped=st.sets(st.integers(0, 160)), data=st.data())
def test_skipped_positions_never_come_and_all_others_do(num_samples, skipped, data):
    start = Start().without(np.array(sorted(skipped), dtype=np.int64), num_samples)
    delivered = []
    for _ in range(2):
        some, moved = advance(data, begin(num_samples, data.draw(seats), start))
        delivered += some
        start = merge_progress(moved).start
    rest = [position for part in begin(num_samples, data.draw(seats), start) for position in left(part)]
    assert sorted(delivered + rest) == [position for position in range(num_samples) if position not in skipped]


@given(num_samples=st.integers(1, 100), skipped=st.sets(st.integers(0, 99)), data=st.data())
def test_skipping_after_an_interruption_takes_pending_positions_too(num_samples, skipped, data):
    delivered, moved = advance(data, begin(num_samples, data.draw(seats)))
    start = merge_progress(moved).start.without(np.array(sorted(skipped), dtype=np.int64), num_samples)
    rest = left(begin(num_samples, (1, 1, 1), start)[0])
    assert rest == sorted(set(range(num_samples)) - set(delivered) - skipped)
