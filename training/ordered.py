"""Where a stream stands: its order, its seat among ranks and workers, what was delivered, skipped and is left.

What has been delivered is a `Progress`; everything about positions is decided there. The epoch and a few marks lie in shared
memory without a name, because DataLoader workers hold copies of the stream that the main process cannot reach otherwise.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from training.decode import MAX_IMAGE_PIXELS, Decode, ImageDecoder
from training.errors import ConfigError, StreamError
from training.index import Release
from training.members import Sample
from training.order import Cursor, Int64s, Order
from training.plan import StepPlan, plan_steps
from training.progress import Progress
from training.seats import Seat, Tail
from training.skips import find_positions, find_rows
from training.starts import Start

_EPOCH, _RESUMED_BY, _READ_BY_WORKERS, _NUM_MARKS = 0, 1, 2, 3


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadOptions:
    """How samples are read; the keywords that both streams take and `training/stream.py` explains."""

    rank: int | None = None
    world_size: int | None = None
    decode: Decode = "pil"
    side_px: int | None = None
    on_error: Literal["raise", "skip"] = "raise"
    max_image_pixels: int = MAX_IMAGE_PIXELS
    batch_size: int = 1
    tail: str = "even"

    def __post_init__(self) -> None:
        if self.on_error not in ("raise", "skip"):
            raise ConfigError(f"on_error is {self.on_error!r}; expected 'raise' or 'skip'")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}; expected at least 1")
        if self.tail not in list(Tail):
            raise ConfigError(f"tail is {self.tail!r}; expected {', '.join(repr(str(tail)) for tail in Tail)}")

    def decoder(self) -> ImageDecoder | None:
        """What makes images of bytes; None leaves them as they are."""
        if self.decode is None:
            return None
        return ImageDecoder(decode=self.decode, max_image_pixels=self.max_image_pixels, side_px=self.side_px)


class OrderedStream(IterableDataset[Sample]):
    """An order over the rows of some releases, as one seat goes through it; what is read at a row is left to SampleStream.

    The epoch lives in shared memory, so `set_epoch` reaches persistent workers too.
    """

    _is_rotating = False
    """Whether ranks take turns inside a round, as they must where the order has a pattern."""

    def __init__(self, releases: Sequence[Release], order: Order, options: ReadOptions) -> None:
        self.releases = tuple(releases)
        self.order = order
        self._options = options
        self._shared = torch.zeros(_NUM_MARKS, dtype=torch.int64)
        self._shared.share_memory_()  # type: ignore[no-untyped-call]
        self._given_seat = (options.rank, options.world_size)
        self._skipped_ids: tuple[str, ...] = ()
        self._resume: Progress | None = None
        self._begun: Progress | None = None
        self._progress: Progress | None = None
        self._delivered = 0
        self._counted: Progress | None = None
        _check_rank(*self._rank_and_world_size())

    @property
    def options(self) -> ReadOptions:
        """How samples are read."""
        return self._options

    @property
    def _about(self) -> dict[str, Any]:
        """What a position means: it is refused by a stream that says otherwise."""
        return {"releases": [release.identity for release in self.releases], **self.order.describe()}

    def _rank_and_world_size(self) -> tuple[int, int]:
        rank, world_size = self._given_seat
        if rank is not None or world_size is not None:
            return rank or 0, world_size if world_size is not None else 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        try:
            return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        except ValueError as error:
            raise ConfigError(f"RANK and WORLD_SIZE in the environment must be whole numbers: {error}") from error

    def _seat(self) -> Seat:
        rank, world_size = self._rank_and_world_size()
        worker = get_worker_info()
        return Seat(
            rank=rank,
            world_size=world_size,
            worker=worker.id if worker else 0,
            num_workers=worker.num_workers if worker else 1,
            batch_size=self._options.batch_size,
            is_rotating=self._is_rotating,
        )

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration delivers."""
        return int(self._shared[_EPOCH])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; a loaded position of another epoch is dropped."""
        if epoch < 0:
            raise ConfigError(f"epoch is {epoch}; expected 0 or more")
        if epoch == self.epoch:
            return
        self._shared[_EPOCH] = epoch
        self._shared[_READ_BY_WORKERS] = 0
        self._resume = self._begun = self._progress = None

    def __len__(self) -> int:
        """Samples that this rank delivers in a whole epoch (over all of its workers; unreadable ones included)."""
        rank, world_size = self._rank_and_world_size()
        return self._fresh(replace(self._seat(), worker=0, num_workers=1, rank=rank, world_size=world_size)).num_own_places

    @property
    def num_left(self) -> int:
        """Samples that the next iteration delivers, over all ranks; counts ranks as standing where this one stands."""
        begun = self._beginning(self._seat())
        world_size = begun.seat.world_size
        return max(0, begun.tail.num_places(begun.num_left, world_size) - begun.delivered * world_size)

    def plan(self, *, batch_size: int | None = None, world_size: int | None = None) -> StepPlan:
        """How many samples and batches every rank will see in the next iteration; nothing is read.

        `require_fair()` of the plan refuses one in which ranks would wait for each other.
        """
        begun = self._beginning(replace(self._seat(), worker=0, num_workers=1))
        if begun.delivered:
            begun = begun.restarted(begun.seat)
        size = self._options.batch_size if batch_size is None else batch_size
        return plan_steps(begun, world_size=world_size or begun.seat.world_size, batch_size=size)

    def batch_rows(self, step: int, *, rank: int, world_size: int, batch_size: int) -> Int64s:
        """Rows of the batch that a rank is given at a step (from 0) of the epoch, or of what a loaded state has left.

        Raises StreamError behind the last step.
        """
        _check_rank(rank, world_size)
        place = {"rank": rank, "world_size": world_size, "worker": 0, "num_workers": 1, "batch_size": batch_size}
        seat = Seat(**place, is_rotating=self._is_rotating)
        begun = self._resume.restarted(seat) if self._resume is not None else self._fresh(seat)
        first, last = step * batch_size, min((step + 1) * batch_size, begun.num_own_places)
        if not 0 <= first < last:
            num_batches = -(-begun.num_own_places // batch_size)
            raise StreamError(
                f"there is no step {step:,} in epoch {self.epoch}: rank {rank} of {world_size} has {num_batches:,} batches of "
                f"{batch_size}; give a step from 0 to {num_batches - 1:,}"
            )
        return self._rows(begun, first, last)[0]

    def skip(self, *, samples: Sequence[str] = (), steps: Sequence[int] = ()) -> None:
        """Leave out samples by id (in every epoch) or whole train steps of this epoch, on all ranks alike, from here on.

        Steps are numbered as in an epoch without interruption, from 0, with this stream's world size and batch size. What
        follows moves up. The skip is part of the state; call it before an iteration begins, and after loading a state.
        Raises StreamError for ids that no sample of the stream has.
        """
        begun = self._standing()
        width = begun.seat.world_size * self._options.batch_size
        wanted = [np.arange(step * width, (step + 1) * width, dtype=np.int64) for step in steps]
        known = frozenset(self._skipped_ids)
        added = tuple(dict.fromkeys(sample for sample in samples if sample not in known))
        if added:
            wanted.append(self._positions_of(added, begun.epoch))
        self._skipped_ids += added
        if wanted:
            self._leave_out(begun, np.unique(np.concatenate(wanted)))

    def skip_places(self, places: Int64s) -> None:
        """Leave out places of what is left of this epoch, ascending and counted from 0 over all ranks; as `skip` does.

        Raises StreamError for a place behind the end.
        """
        begun = self._standing()
        if len(places) and not 0 <= places[0] <= places[-1] < begun.num_left:
            raise StreamError(
                f"places {places[0]:,} to {places[-1]:,} cannot be skipped: {begun.num_left:,} are left of epoch {begun.epoch}"
            )
        self._leave_out(begun, np.sort(begun.start.positions(places)))

    @property
    def skipped_ids(self) -> tuple[str, ...]:
        """Samples that are left out by id."""
        return self._skipped_ids

    def _leave_out(self, begun: Progress, positions: Int64s) -> None:
        start = begun.start.without(positions, begun.num_positions)
        self._resume = replace(begun, order=self._order_state(), start=start)
        self._progress = None

    def _standing(self) -> Progress:
        """Where all ranks stand when the next iteration begins, as if this one were read by one worker."""
        begun = self._beginning(replace(self._seat(), worker=0, num_workers=1))
        return begun.restarted(begun.seat)

    def _positions_of(self, sample_ids: Sequence[str], epoch: int) -> Int64s:
        """Positions of some samples, all their occurrences, in an epoch."""
        return find_positions(self.order, epoch, find_rows(self.releases, sample_ids))

    def state_dict(self) -> dict[str, Any]:
        """The position of this stream in this process: what it has yielded, no more and no less.

        Raises StreamError in a process whose DataLoader workers do the reading, since they run ahead unseen: ask
        torchdata's StatefulDataLoader for its state, or use `state_after`.
        """
        if get_worker_info() is None and self._shared[_READ_BY_WORKERS]:
            raise StreamError(
                "this stream is read by DataLoader workers, which are ahead of what the loader has handed out; take the "
                "state of a torchdata StatefulDataLoader, or state_after(num_samples), or read with num_workers=0"
            )
        return self._now().to_state()

    def _now(self) -> Progress:
        if self._progress is None:
            return self._beginning(self._seat())
        return replace(self._progress, delivered=self._delivered)

    def state_after(self, num_samples: int) -> dict[str, Any]:
        """The state of this rank after `num_samples` samples of its current iteration, however many workers read them.

        For a plain DataLoader, whose user knows how much it was given. Needs `batch_size` to be the loader's when there
        are workers, and on_error="raise". Raises StreamError otherwise, or for more samples than are left.
        """
        if self._options.on_error == "skip":
            raise StreamError(
                "state_after cannot count skipped samples; use on_error='raise', or the state of a StatefulDataLoader"
            )
        begun = self._begun
        if begun is None or self._resume is not None or self._shared[_READ_BY_WORKERS]:
            begun = self._beginning(self._seat())  # of an iteration that workers go through, or that is still to come
        total = begun.num_own_places
        if not 0 <= num_samples <= total - begun.delivered:
            raise StreamError(
                f"state_after({num_samples}): this rank has {total - begun.delivered} samples left in epoch {begun.epoch}"
            )
        delivered = begun.delivered + num_samples
        known = self._counted if self._counted and self._counted.has_begun_like(begun) else begun
        if known.delivered > delivered:
            known = begun
        if delivered > known.delivered:  # move the cursor on from the last count, not from the beginning
            known = replace(known, cursor=self._rows(known, delivered - 1, delivered)[1])
        self._counted = replace(known, delivered=delivered)
        return self._counted.to_state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next iteration deliver exactly what the state's had not yet delivered.

        Raises StreamError for a state of another order: other releases, seed, shuffle or weights.
        """
        progress = Progress.from_state(state)
        skipped = tuple(progress.order.get("skipped", ()))
        order = self._order_of_state(progress.order)
        about = {"releases": [release.identity for release in self.releases], **order.describe()}
        for key in (about.keys() | progress.order.keys()) - {"skipped"}:
            found, expected = progress.order.get(key), about.get(key)
            if found != expected:
                raise StreamError(f"the state was saved with {key} = {found}, this stream has {expected}; give both the same")
        if progress.tail != self._options.tail:
            raise StreamError(
                f"the state was saved with tail = '{progress.tail}', this stream has '{self._options.tail}'; give both the same"
            )
        progress.go_on(self._seat())
        self.order, self._skipped_ids = order, skipped
        self._resume = progress
        self._begun = self._progress = None
        self._shared[_EPOCH] = progress.epoch
        self._shared[_RESUMED_BY] = 0
        if get_worker_info() is None:
            self._shared[_READ_BY_WORKERS] = 0

    def _order_of_state(self, about: Mapping[str, Any]) -> Order:
        """This stream's order as it was when the state was saved."""
        del about
        return self.order

    def _order_state(self) -> dict[str, Any]:
        about = self._about
        return about | {"skipped": list(self._skipped_ids)} if self._skipped_ids else about

    def _fresh(self, seat: Seat) -> Progress:
        """The beginning of the epoch."""
        start = Start(cursor=self.order.start())
        progress = Progress(
            order=self._order_state(),
            epoch=self.epoch,
            seat=seat,
            start=start,
            cursor=start.cursor,
            tail=Tail(self._options.tail),
        )
        if self._skipped_ids:
            positions = self._positions_of(self._skipped_ids, self.epoch)
            progress = replace(progress, start=start.without(positions, progress.num_positions))
        return progress

    def _beginning(self, seat: Seat) -> Progress:
        if self._resume is not None and self._resume.epoch == self.epoch:
            return self._resume.go_on(seat)
        return self._fresh(seat)

    def _rows(self, progress: Progress, first: int, last: int) -> tuple[Int64s, Cursor]:
        """Rows of a seat's places number `first` to `last` - 1, and the cursor behind those that are no padding."""
        positions = progress.positions(first, last)
        if progress.tail is not Tail.PAD:
            return self.order.rows(progress.epoch, positions, progress.cursor)
        num_real = progress.num_real(first, last)
        rows, cursor = self.order.rows(progress.epoch, positions[:num_real], progress.cursor)
        again = [self.order.rows(progress.epoch, one, progress.start.cursor)[0] for one in positions[num_real:].reshape(-1, 1)]
        return np.concatenate([rows, *again]), cursor

    def _begin(self) -> Progress:
        """The progress of an iteration that begins now."""
        worker = get_worker_info()
        if worker is not None:
            self._shared[_READ_BY_WORKERS] = 1
            # A loaded position serves one iteration. Workers of the next one are forked from a process that still has
            # it, so they leave a mark: the seed that DataLoader gives to all workers of one iteration.
            mark = worker.seed - worker.id
            if self._resume is not None and int(self._shared[_RESUMED_BY]) not in (0, mark):
                self._resume = None
            self._shared[_RESUMED_BY] = mark if self._resume is not None else self._shared[_RESUMED_BY]
        begun = self._beginning(self._seat())
        self._resume = None
        self._begun = self._progress = begun
        self._delivered = begun.delivered
        return begun

    def __getstate__(self) -> dict[str, Any]:
        """Pin rank and world size: a spawned worker cannot ask torch.distributed for them."""
        return self.__dict__ | {"_given_seat": self._rank_and_world_size()}


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank is {rank} of world size {world_size}; expected 0 <= rank < world_size")
