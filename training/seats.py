"""Who reads what of a sequence of places: seats, runs and tails, in plain arithmetic."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from training.order import Int64s


class Tail(StrEnum):
    """What becomes of the positions that do not divide by the number of ranks.

    "even": every position once, some ranks get one more. "drop": the last few, fewer than there are ranks, are left out.
    "pad": ranks that would get one less get one of the first positions again.
    """

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

    A round is one place for every rank. In every round rank r takes the place r of it, or with `is_rotating` the one that
    `training/turns.py` deals to it, so that no rank meets a pattern in the order, such as every other sample from the same
    source of a mixture, always at the same phase.
    """

    rank: int
    world_size: int
    worker: int
    num_workers: int
    batch_size: int
    is_rotating: bool = False

    def rounds(self, first: int, last: int) -> Int64s:
        """The rounds of this seat's places number `first` to `last` - 1, ascending."""
        own = np.arange(first, last, dtype=np.int64)
        run = own // self.batch_size * self.num_workers + self.worker
        return run * self.batch_size + own % self.batch_size

    def num_places(self, num_of_rank: int) -> int:
        """How many of its rank's first places are this seat's."""
        runs, rest = divmod(num_of_rank, self.num_workers * self.batch_size)
        return runs * self.batch_size + min(max(rest - self.worker * self.batch_size, 0), self.batch_size)
