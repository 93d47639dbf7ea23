"""How far an epoch has been delivered, exactly, for any number of ranks and workers.

The words. *Position*: place in the epoch's order, 0 to n - 1. *Seat*: one reader, a worker of a rank. *Start*: what was
still undelivered when an iteration began, as a sequence: a few `pending` positions, then everything from `next` on.
Place i of that sequence goes to rank i % world_size (in a mixture, ranks take turns inside a round); inside a rank, runs of
`batch_size` places go to its workers in turn, which is how DataLoader asks for batches, so batches are the same for any
number of workers.

A state is a start, a seat and how much the seat has delivered: a few numbers, and exact. States of all seats merge
into a new start that any number of seats can go on from; `pending` is where some seats were ahead of others, `holes` are
positions that were asked to be skipped.

The *tail* is what does not divide by the number of ranks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from training.errors import StreamError
from training.mixing import AtEnd
from training.order import Cursor, Int64s
from training.seats import Seat, Tail
from training.starts import Start, as_ranges
from training.turns import Turns

STATE_VERSION = 3


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
        return self.num_places(self.tail.num_places(self.num_left, self.seat.world_size))

    def num_places(self, total: int) -> int:
        """How many of the first `total` places are this seat's."""
        num_rounds, rest = divmod(total, self.seat.world_size)
        has_one_more = rest > 0 and int(self._places_inside(np.array([num_rounds]))[0]) < rest
        return self.seat.num_places(num_rounds + has_one_more)

    def places(self, first: int, last: int) -> Int64s:
        """This seat's places number `first` to `last` - 1, ascending."""
        rounds = self.seat.rounds(first, last)
        return rounds * self.seat.world_size + self._places_inside(rounds)

    def _places_inside(self, rounds: Int64s) -> Int64s:
        """Which place of some rounds, ascending, is this seat's rank's."""
        rank, world_size = self.seat.rank, self.seat.world_size
        if not self.seat.is_rotating or world_size == 1:
            return np.full(len(rounds), rank, dtype=np.int64)
        epoch_slot = self.epoch * self.num_positions if self.order["at_end"] == AtEnd.REPEAT else 0
        first = self.start.next - len(self.start.pending_positions())
        turns = Turns.of_order(self.order)
        return turns.places(rounds, rank=rank, world_size=world_size, epoch_slot=epoch_slot, first=first)

    def positions(self, first: int, last: int) -> Int64s:
        """Positions of this seat's places number `first` to `last` - 1; padding begins what is left again."""
        places = self.places(first, last)
        if self.tail is Tail.PAD:
            places = places % self.num_left
        return self.start.positions(places)

    def num_real(self, first: int, last: int) -> int:
        """How many of this seat's places number `first` to `last` - 1 are no padding."""
        return min(last, max(first, self.num_places(self.num_left))) - first

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
                f"not a stream state: 'stream_state' is {state.get('stream_state')!r}, expected {STATE_VERSION}; give what "
                "state_dict() or merge_states() of this version returned"
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
        return self if seat == self.seat else self.restarted(seat)

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
            ahead = max(ahead, int(part.places(part.delivered - 1, part.delivered)[0]) + 1)
    ahead = min(ahead, num_left)  # padding lies behind the end
    places = np.concatenate([part.places(part.delivered, part.num_places(ahead)) for part in parts])
    behind = first.start.without_first(ahead, cursor)
    positions = np.sort(first.start.positions(places))
    return replace(behind, pending=as_ranges(positions))


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
