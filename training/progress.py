"""How far an epoch has been delivered, exactly, for any number of ranks and workers.

The words. *Position*: place in the epoch's order, 0 to n - 1. *Seat*: one reader, a worker of a rank. *Start*: what was
still undelivered when an iteration began, as a sequence: a few `pending` positions, then everything from `next` on.
Place i of that sequence goes to rank i % world_size (in a mixture, ranks take turns inside a round); inside a rank, runs of
`batch_size` places go to its workers in turn, which is how DataLoader asks for batches, so batches are the same for any
number of workers.

A state is a start, a seat and how much the seat has delivered: a few numbers, and exact. States of all seats merge
into a new start that any number of seats can go on from; `pending` is where some seats were ahead of others, `holes` are
positions that were asked to be skipped.

The *tail* is what does not divide by the number of ranks. "even": every position once, some ranks get one more. "drop": the
last few, fewer than there are ranks, are left out. "pad": ranks that would get one less get one of the first positions
again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from training.errors import StreamError
from training.order import Cursor, Int64s

STATE_VERSION = 1
_TURN = 0x6A09E667F3BCC909
"""The fraction of the square root of 2, times 2**64: its multiples fill the range evenly, and keep step with no pattern."""


class Tail(StrEnum):
    """What becomes of the positions that do not divide by the number of ranks."""

    EVEN = "even"
    DROP = "drop"
    PAD = "pad"

    def num_places(self, num_left: int, world_size: int) -> int:
        """Places given out for `num_left` positions."""
        if self is Tail.EVEN:
            return num_left
        whole = num_left // world_size * world_size
        if self is Tail.DROP or whole == num_left:
            return whole
        return whole + world_size


@dataclass(frozen=True, kw_only=True)
class Seat:
    """One reader among all: worker `worker` of `num_workers` in rank `rank` of `world_size`.

    A round is one place for every rank. In round k rank r takes the place r of it, or with `is_rotating` the place (r +
    turn(k)) % world_size: turns spread over the round like multiples of an irrational number, so that no rank meets a
    pattern in the order, such as every other sample from the same source of a mixture, always at the same phase. Turns
    are counted on from `first_round`, the rounds of the epoch before the start.
    """

    rank: int
    world_size: int
    worker: int
    num_workers: int
    batch_size: int
    is_rotating: bool = False
    first_round: int = 0

    def num_places(self, total: int) -> int:
        """How many of the first `total` places are this seat's."""
        num_rounds, rest = divmod(total, self.world_size)
        of_rank = num_rounds + int(self._of_round(np.array([num_rounds]))[0] < rest)
        rounds, rest = divmod(of_rank, self.num_workers * self.batch_size)
        return rounds * self.batch_size + min(max(rest - self.worker * self.batch_size, 0), self.batch_size)

    def places(self, first: int, last: int) -> Int64s:
        """This seat's places number `first` to `last` - 1, ascending."""
        own = np.arange(first, last, dtype=np.int64)
        run = own // self.batch_size * self.num_workers + self.worker
        rounds = run * self.batch_size + own % self.batch_size
        return rounds * self.world_size + self._of_round(rounds)

    def _of_round(self, rounds: Int64s) -> Int64s:
        """This rank's place inside some rounds."""
        if not self.is_rotating:
            return np.full(len(rounds), self.rank, dtype=np.int64)
        fractions = ((rounds + self.first_round).astype(np.uint64) * np.uint64(_TURN)) >> np.uint64(32)
        turns = (fractions * np.uint64(self.world_size)) >> np.uint64(32)
        return (self.rank + turns.astype(np.int64)) % self.world_size


@dataclass(frozen=True, kw_only=True)
class Start:
    """What is left of an epoch: `pending` positions (as range arguments), then all from `next` on but those in `holes`.

    `holes` are disjoint ascending (first, stop) pairs. `cursor` is one of the order's cursors, at or before every position
    that is left.
    """

    pending: tuple[tuple[int, int, int], ...] = ()
    next: int = 0
    cursor: Cursor = ()
    holes: tuple[tuple[int, int], ...] = ()

    def num_left(self, num_positions: int) -> int:
        """Positions left of an epoch of `num_positions`."""
        firsts, stops = self._holes_ahead()
        in_holes = int((np.minimum(stops, num_positions) - np.minimum(firsts, num_positions)).sum())
        return len(self._pending_positions()) + max(0, num_positions - self.next) - in_holes

    def positions(self, places: Int64s) -> Int64s:
        """The positions at some places of what is left."""
        pending = self._pending_positions()
        behind = places - len(pending)
        if self.holes:
            firsts, stops = self._holes_ahead()
            passed = np.concatenate([[0], np.cumsum(stops - firsts)])
            behind = behind + passed[np.searchsorted(firsts - self.next - passed[:-1], behind, side="right")]
        found = behind + self.next
        if len(pending):
            found = np.where(places < len(pending), pending[np.minimum(places, len(pending) - 1)], found)
        return found

    def _holes_ahead(self) -> tuple[Int64s, Int64s]:
        """First positions and ends of the holes at or behind `next`."""
        holes = np.array(self.holes, dtype=np.int64).reshape(-1, 2)
        holes = holes[holes[:, 1] > self.next]
        return np.maximum(holes[:, 0], self.next), holes[:, 1]

    def without_first(self, num_places: int, cursor: Cursor) -> "Start":
        """What is left behind the first places, of which there must be as many."""
        pending = self._pending_positions()
        following = self.next
        if num_places > len(pending):
            following = int(self.positions(np.array([num_places - 1]))[0]) + 1
        return replace(self, pending=_as_ranges(pending[num_places:]), next=following, cursor=cursor)

    def without(self, positions: Int64s, num_positions: int) -> "Start":
        """What is left when some positions, ascending, are skipped."""
        pending = self._pending_positions()
        ahead = positions[(positions >= self.next) & (positions < num_positions)]
        known = np.concatenate([np.arange(*hole) for hole in self.holes] or [np.empty(0, np.int64)])
        holes = tuple((first, stop) for first, stop in _as_runs(np.union1d(known, ahead)))
        return replace(self, pending=_as_ranges(np.setdiff1d(pending, positions)), holes=holes)

    def _pending_positions(self) -> Int64s:
        if not self.pending:
            return np.empty(0, dtype=np.int64)
        return np.sort(np.concatenate([np.arange(*numbers, dtype=np.int64) for numbers in self.pending]))


def _as_runs(positions: Int64s) -> list[tuple[int, int]]:
    """Ascending positions as (first, stop) of their runs of neighbours."""
    if not len(positions):
        return []
    breaks = np.flatnonzero(np.diff(positions) > 1)
    firsts = positions[np.concatenate([[0], breaks + 1])]
    stops = positions[np.concatenate([breaks, [len(positions) - 1]])] + 1
    return list(zip(firsts.tolist(), stops.tolist(), strict=True))


def _as_ranges(positions: Int64s) -> tuple[tuple[int, int, int], ...]:
    """Ascending positions as few (start, stop, step) as a greedy pass finds."""
    ranges: list[tuple[int, int, int]] = []
    values = positions.tolist()
    first = 0
    while first < len(values):
        step = values[first + 1] - values[first] if first + 1 < len(values) else 1
        last = first
        while last + 1 < len(values) and values[last + 1] - values[last] == step:
            last += 1
        ranges.append((values[first], values[last] + 1, step))
        first = last + 1
    return tuple(ranges)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A seat's progress: `delivered` places of its own since `start`.

    `finished` once it has asked for more than there is.
    """

    order: Mapping[str, Any]
    epoch: int
    seat: Seat
    start: Start
    delivered: int = 0
    cursor: Cursor = ()
    finished: bool = False
    tail: Tail = Tail.EVEN

    @property
    def num_positions(self) -> int:
        """Positions of the whole epoch."""
        return int(self.order["num_samples"])

    @property
    def num_left(self) -> int:
        """Positions left when the iteration began."""
        return self.start.num_left(self.num_positions)

    @property
    def num_own_places(self) -> int:
        """Places of the whole iteration that are this seat's, the tail settled."""
        return self.seat.num_places(self.tail.num_places(self.num_left, self.seat.world_size))

    def positions(self, first: int, last: int) -> Int64s:
        """Positions of this seat's places number `first` to `last` - 1; padding begins what is left again."""
        places = self.seat.places(first, last)
        if self.tail is Tail.PAD:
            places = places % self.num_left
        return self.start.positions(places)

    def num_real(self, first: int, last: int) -> int:
        """How many of this seat's places number `first` to `last` - 1 are no padding."""
        return min(last, max(first, self.seat.num_places(self.num_left))) - first

    def has_begun_like(self, other: "Progress") -> bool:
        """Whether both are of one iteration of one seat."""
        return (self.epoch, self.seat, self.start) == (other.epoch, other.seat, other.start)

    def to_state(self) -> dict[str, Any]:
        """The state as plain numbers, lists and strings."""
        return {
            "stream_state": STATE_VERSION,
            "order": dict(self.order),
            "epoch": self.epoch,
            "seat": asdict(self.seat),
            "pending": [list(numbers) for numbers in self.start.pending],
            "next": self.start.next,
            "holes": [list(hole) for hole in self.start.holes],
            "tail": str(self.tail),
            "start_cursor": list(self.start.cursor),
            "cursor": list(self.cursor),
            "delivered": self.delivered,
            "finished": self.finished,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Progress":
        """The inverse of `to_state`. Raises StreamError for anything else."""
        if state.get("stream_state") != STATE_VERSION:
            raise StreamError(
                f"not a stream state: 'stream_state' is {state.get('stream_state')!r}, expected {STATE_VERSION}; give "
                "what "
                "ShardStream.state_dict() or merge_states() returned"
            )
        try:
            return cls(
                order=state["order"],
                epoch=state["epoch"],
                seat=Seat(**state["seat"]),
                start=Start(
                    pending=tuple((first, stop, step) for first, stop, step in state["pending"]),
                    next=state["next"],
                    cursor=tuple(state["start_cursor"]),
                    holes=tuple((first, stop) for first, stop in state["holes"]),
                ),
                delivered=state["delivered"],
                cursor=tuple(state["cursor"]),
                finished=state["finished"],
                tail=Tail(state["tail"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StreamError(f"a stream state is incomplete ({error}); give one that state_dict() returned") from error

    def go_on(self, seat: Seat) -> "Progress":
        """This progress as `seat` takes it up.

        The same seat goes on exactly where it was. For other seats, a rank's state without workers stands for all
        ranks at the same count, as they are when they step together. Raises StreamError where one state cannot tell.
        """
        return self if replace(seat, first_round=self.seat.first_round) == self.seat else self.restarted(seat)

    def restarted(self, seat: Seat) -> "Progress":
        """What is left as a start of its own, taken up by `seat`. Raises StreamError where one state cannot tell."""
        if self.seat.num_workers > 1:
            raise StreamError(
                f"this state is of worker {self.seat.worker} of {self.seat.num_workers} (rank {self.seat.rank} of "
                f"{self.seat.world_size}) and is being loaded by worker {seat.worker} of {seat.num_workers} (rank "
                f"{seat.rank} "
                f"of {seat.world_size}): one worker's state does not tell what the others delivered. Load it with the "
                "same "
                "numbers, or load merge_states([...]) of every worker of every rank"
            )
        if self.finished:
            start = Start(next=self.num_positions, cursor=self.cursor)
        else:
            gone = min(self.num_left, self.delivered * self.seat.world_size)
            start = self.start.without_first(gone, self.cursor)
        seat = replace(seat, first_round=start.next // seat.world_size)
        return replace(self, seat=seat, start=start, delivered=0, cursor=start.cursor, finished=False)


def merge_progress(parts: Sequence[Progress]) -> Progress:
    """One progress that any seats can go on from, out of those of every worker of every rank.

    Exact also where some seats are ahead of others. Raises StreamError unless the parts are all the seats of one
    iteration.
    """
    if not parts:
        raise StreamError("no states to merge; give the states of every worker of every rank")
    first = parts[0]
    for part in parts[1:]:
        for what in ("order", "epoch", "tail", "start"):
            if getattr(part, what) != getattr(first, what):
                raise StreamError(
                    f"states do not belong together: {what} is {getattr(first, what)} in the first and "
                    f"{getattr(part, what)} "
                    f"in that of rank {part.seat.rank}, worker {part.seat.worker}; merge states of one iteration of "
                    "one epoch"
                )
    _check_seats([part.seat for part in parts])
    alone = Seat(rank=0, world_size=1, worker=0, num_workers=1, batch_size=1)
    cursor = min(part.cursor for part in parts)
    start = Start(next=first.num_positions, cursor=cursor) if all(part.finished for part in parts) else _left_by(parts, cursor)
    return replace(first, seat=alone, start=start, delivered=0, cursor=cursor, finished=False)


def _left_by(parts: Sequence[Progress], cursor: Cursor) -> Start:
    """What no seat has delivered: places that some seats are behind others, then everything behind the foremost."""
    first = parts[0]
    num_left = first.num_left
    num_pending = first.start.num_left(first.start.next)
    ahead = num_pending
    for part in parts:
        if part.delivered:
            ahead = max(ahead, int(part.seat.places(part.delivered - 1, part.delivered)[0]) + 1)
    ahead = min(ahead, num_left)  # padding lies behind the end
    places = np.concatenate([part.seat.places(part.delivered, part.seat.num_places(ahead)) for part in parts])
    behind = first.start.without_first(ahead, cursor)
    positions = np.sort(first.start.positions(places))
    return replace(behind, pending=_as_ranges(positions))


def _check_seats(seats: Iterable[Seat]) -> None:
    given = list(seats)
    sizes = {(seat.world_size, seat.num_workers, seat.batch_size) for seat in given}
    if len(sizes) > 1:
        raise StreamError(
            f"states are of different (world_size, num_workers, batch_size): {sorted(sizes)}; merge one iteration's"
        )
    (world_size, num_workers, _) = sizes.pop()
    found = sorted((seat.rank, seat.worker) for seat in given)
    expected = [(rank, worker) for rank in range(world_size) for worker in range(num_workers)]
    if found != expected:
        missing = sorted(set(expected) - set(found))
        raise StreamError(
            f"{len(found)} states given for {world_size} ranks of {num_workers} workers; (rank, worker) missing: "
            f"{missing or 'none, but some come twice'}; give each exactly once"
        )
