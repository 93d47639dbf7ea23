"""How far an epoch has been delivered, exactly, for any number of ranks and workers.

The words. *Position*: place in the epoch's order, 0 to n - 1. *Seat*: one reader, a worker of a rank. *Start*: what was
still undelivered when an iteration began, as a sequence: a few `pending` positions, then everything from `next` on.
Place i of that sequence goes to rank i % world_size; inside a rank, runs of `batch_size` places go to its workers in
turn, which is how DataLoader asks for batches, so batches are the same for any number of workers.

A state is a start, a seat and how much the seat has delivered: a few numbers, and exact. States of all seats merge
into a new start that any number of seats can go on from; `pending` is where some seats were ahead of others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from training.errors import StreamError
from training.order import Cursor, Int64s

STATE_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Seat:
    """One reader among all: worker `worker` of `num_workers` in rank `rank` of `world_size`."""

    rank: int
    world_size: int
    worker: int
    num_workers: int
    batch_size: int

    def num_places(self, total: int) -> int:
        """How many of the first `total` places are this seat's."""
        of_rank = max(0, -(-(total - self.rank) // self.world_size))
        rounds, rest = divmod(of_rank, self.num_workers * self.batch_size)
        return rounds * self.batch_size + min(max(rest - self.worker * self.batch_size, 0), self.batch_size)

    def places(self, first: int, last: int) -> Int64s:
        """This seat's places number `first` to `last` - 1, ascending."""
        own = np.arange(first, last, dtype=np.int64)
        run = own // self.batch_size * self.num_workers + self.worker
        return (run * self.batch_size + own % self.batch_size) * self.world_size + self.rank


@dataclass(frozen=True, kw_only=True)
class Start:
    """What is left of an epoch: `pending` positions (as range arguments), then all from `next` on.

    `cursor` is one of the order's cursors, at or before every position that is left.
    """

    pending: tuple[tuple[int, int, int], ...] = ()
    next: int = 0
    cursor: Cursor = ()

    def num_places(self, num_positions: int) -> int:
        """Positions left of an epoch of `num_positions`."""
        return len(self._pending_positions()) + max(0, num_positions - self.next)

    def positions(self, places: Int64s) -> Int64s:
        """The positions at some places of what is left."""
        pending = self._pending_positions()
        if not len(pending):
            return places + self.next
        inside = places < len(pending)
        return np.where(inside, pending[np.where(inside, places, 0)], places - len(pending) + self.next)

    def without_first(self, num_places: int, cursor: Cursor) -> "Start":
        """What is left behind the first places."""
        pending = self._pending_positions()
        behind = max(0, num_places - len(pending))
        return Start(pending=_as_ranges(pending[num_places:]), next=self.next + behind, cursor=cursor)

    def _pending_positions(self) -> Int64s:
        if not self.pending:
            return np.empty(0, dtype=np.int64)
        return np.sort(np.concatenate([np.arange(*numbers, dtype=np.int64) for numbers in self.pending]))


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

    @property
    def num_positions(self) -> int:
        """Positions of the whole epoch."""
        return int(self.order["num_samples"])

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
                ),
                delivered=state["delivered"],
                cursor=tuple(state["cursor"]),
                finished=state["finished"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StreamError(f"a stream state is incomplete ({error}); give one that state_dict() returned") from error

    def go_on(self, seat: Seat) -> "Progress":
        """This progress as `seat` takes it up.

        The same seat goes on exactly where it was. For other seats, a rank's state without workers stands for all
        ranks at the same count, as they are when they step together. Raises StreamError where one state cannot tell.
        """
        if seat == self.seat:
            return self
        if self.seat.num_workers > 1:
            raise StreamError(
                f"this state is of worker {self.seat.worker} of {self.seat.num_workers} (rank {self.seat.rank} of "
                f"{self.seat.world_size}) and is being loaded by worker {seat.worker} of {seat.num_workers} (rank "
                f"{seat.rank} "
                f"of {seat.world_size}): one worker's state does not tell what the others delivered. Load it with the "
                "same "
                "numbers, or load merge_states([...]) of every worker of every rank"
            )
        left = self.start.num_places(self.num_positions)
        gone = left if self.finished else min(left, self.delivered * self.seat.world_size)
        start = self.start.without_first(gone, self.cursor)
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
        for what in ("order", "epoch", "start"):
            if getattr(part, what) != getattr(first, what):
                raise StreamError(
                    f"states do not belong together: {what} is {getattr(first, what)} in the first and "
                    f"{getattr(part, what)} "
                    f"in that of rank {part.seat.rank}, worker {part.seat.worker}; merge states of one iteration of "
                    "one epoch"
                )
    _check_seats([part.seat for part in parts])
    total = first.start.num_places(first.num_positions)
    num_pending = first.start.num_places(first.start.next)
    ahead = num_pending
    for part in parts:
        if part.delivered:
            ahead = max(ahead, int(part.seat.places(part.delivered - 1, part.delivered)[0]) + 1)
    left = [part.seat.places(part.delivered, part.seat.num_places(ahead)) for part in parts]
    places = np.sort(np.concatenate(left))
    start = Start(
        pending=_as_ranges(first.start.positions(places)),
        next=first.start.next + ahead - num_pending,
        cursor=min((part.cursor for part in parts), key=sum),
    )
    alone = Seat(rank=0, world_size=1, worker=0, num_workers=1, batch_size=1)
    merged = replace(first, seat=alone, start=start, delivered=0, cursor=start.cursor, finished=False)
    assert start.num_places(first.num_positions) == total - sum(part.delivered for part in parts)
    return merged


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
