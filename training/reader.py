"""Reading samples of some releases in a given order: what ShardStream and MixtureStream share.

A stream knows an order (position -> row) and its seat among ranks and workers, and reads one row at a time. What it has
delivered is a `Progress`; everything about positions is decided there. The epoch and a few marks lie in shared memory,
because DataLoader workers hold copies of the stream that the main process cannot reach otherwise.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from training.decode import MAX_IMAGE_PIXELS, Sample, read_sample
from training.errors import ConfigError, StreamError
from training.index import Release
from training.order import Order
from training.progress import Progress, Seat, Start

logger = logging.getLogger(__name__)

MAX_SKIPS_IN_A_ROW = 100
"""With on_error="skip": more than this in a row is not a bad sample but a bad disk."""

_ROWS_AT_ONCE = 64
_NUM_SKIP_COUNTERS = 64
_EPOCH, _RESUMED_BY, _READ_BY_WORKERS, _SKIPS = 0, 1, 2, 3


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadOptions:
    """How samples are read. `batch_size` is the DataLoader's.

    `max_image_pixels` bounds width * height before decoding.
    """

    decode: Literal["pil"] | Callable[[bytes], Any] | None = "pil"
    on_error: Literal["raise", "skip"] = "raise"
    max_image_pixels: int = MAX_IMAGE_PIXELS
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.decode not in ("pil", None) and not callable(self.decode):
            raise ConfigError(f"decode is {self.decode!r}; expected 'pil', None (bytes) or a function of bytes")
        if self.on_error not in ("raise", "skip"):
            raise ConfigError(f"on_error is {self.on_error!r}; expected 'raise' or 'skip'")
        if self.batch_size < 1 or self.max_image_pixels < 1:
            raise ConfigError(
                f"batch_size is {self.batch_size}, max_image_pixels {self.max_image_pixels}; expected at least 1 for both"
            )


class SampleStream(IterableDataset[Sample]):
    """What both streams are: an order over the rows of some releases, read by one seat. Use ShardStream or
    MixtureStream.

    The epoch lives in shared memory, so `set_epoch` reaches persistent workers too.
    """

    def __init__(
        self,
        releases: Sequence[Release],
        order: Order,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        options: ReadOptions,
    ) -> None:
        self.releases = tuple(releases)
        self.order = order
        self._about = {
            "releases": [f"{release.name}@{release.fingerprint}" for release in releases],
            **order.describe(),
        }
        self._first_rows = np.cumsum([0] + [release.num_samples for release in releases])
        self._given_seat = (rank, world_size)
        self._options = options
        self._shared = torch.zeros(_SKIPS + _NUM_SKIP_COUNTERS, dtype=torch.int64)
        self._shared.share_memory_()  # type: ignore[no-untyped-call]
        self._resume: Progress | None = None
        self._progress: Progress | None = None
        self._delivered = 0
        self._counted: Progress | None = None
        _check_rank(*self._rank_and_world_size())

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
        self._resume = self._progress = None

    def __len__(self) -> int:
        """Samples that this rank delivers in a whole epoch (over all of its workers; skipped ones included)."""
        rank, world_size = self._rank_and_world_size()
        return max(0, -(-(self.order.num_positions - rank) // world_size))

    @property
    def num_left(self) -> int:
        """Samples that the next iteration delivers, over all ranks; counts ranks as standing where this one stands."""
        begun = self._beginning(self._seat())
        left = begun.start.num_places(self.order.num_positions)
        return max(0, left - begun.delivered * begun.seat.world_size)

    @property
    def num_skipped(self) -> int:
        """Samples passed over so far because they could not be read, by this process and its workers."""
        return int(self._shared[_SKIPS:].sum())

    def state_dict(self) -> dict[str, Any]:
        """The position of this stream in this process: what it has yielded, no more and no less.

        Raises StreamError in a process whose DataLoader workers do the reading, since they run ahead unseen: ask
        torchdata's StatefulDataLoader for its state, or use `state_after`.
        """
        if get_worker_info() is None and self._shared[_READ_BY_WORKERS]:
            raise StreamError(
                "this stream is read by DataLoader workers, which are ahead of what the loader has handed out; take "
                "the "
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
        begun = self._beginning(self._seat())
        total = begun.seat.num_places(begun.start.num_places(self.order.num_positions))
        if not 0 <= num_samples <= total - begun.delivered:
            raise StreamError(
                f"state_after({num_samples}): this rank has {total - begun.delivered} samples left in epoch {begun.epoch}"
            )
        delivered = begun.delivered + num_samples
        known = self._counted if self._counted and self._counted.has_begun_like(begun) else begun
        if known.delivered > delivered:
            known = begun
        if known.cursor and delivered > known.delivered:  # move the cursor on from the last count, not from the beginning
            last = begun.start.positions(begun.seat.places(delivered - 1, delivered))
            known = replace(known, cursor=self.order.rows(begun.epoch, last, known.cursor)[1])
        self._counted = replace(known, delivered=delivered)
        return self._counted.to_state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next iteration deliver exactly what the state's had not yet delivered.

        Raises StreamError for a state of another order: other releases, seed, shuffle or weights.
        """
        progress = Progress.from_state(state)
        for key in self._about.keys() | progress.order.keys():
            found, expected = progress.order.get(key), self._about.get(key)
            if found != expected:
                raise StreamError(f"the state was saved with {key} = {found}, this stream has {expected}; give both the same")
        progress.go_on(self._seat())
        self._resume = progress
        self._progress = None
        self._shared[_EPOCH] = progress.epoch
        self._shared[_RESUMED_BY] = 0
        if get_worker_info() is None:
            self._shared[_READ_BY_WORKERS] = 0

    def _beginning(self, seat: Seat) -> Progress:
        if self._resume is not None and self._resume.epoch == self.epoch:
            return self._resume.go_on(seat)
        start = Start(cursor=self.order.start())
        return Progress(order=self._about, epoch=self.epoch, seat=seat, start=start, cursor=start.cursor)

    def __iter__(self) -> Iterator[Sample]:
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
        self._progress, self._delivered = begun, begun.delivered
        return self._deliver(begun)

    def _deliver(self, progress: Progress) -> Iterator[Sample]:
        seat, start = progress.seat, progress.start
        total = seat.num_places(start.num_places(self.order.num_positions))
        delivered, skips_in_a_row = progress.delivered, 0
        while delivered < total:
            places = seat.places(delivered, min(total, delivered + _ROWS_AT_ONCE))
            rows, cursor = self.order.rows(progress.epoch, start.positions(places), progress.cursor)
            self._progress = progress
            for row in rows.tolist():
                sample = self._read(row)
                delivered += 1
                self._delivered = delivered
                if sample is not None:
                    skips_in_a_row = 0
                    yield sample
                    continue
                skips_in_a_row += 1
                if skips_in_a_row > MAX_SKIPS_IN_A_ROW:
                    raise StreamError(
                        f"{skips_in_a_row} samples in a row could not be read, the last in {self._place(row)}; "
                        "that is more than bad samples: check the release with `curate verify`"
                    )
            progress = replace(progress, cursor=cursor)
        self._progress = replace(progress, delivered=delivered, finished=True)

    def _locate(self, row: int) -> tuple[Release, int]:
        if len(self.releases) == 1:
            return self.releases[0], row
        number = int(np.searchsorted(self._first_rows, row, side="right")) - 1
        return self.releases[number], row - int(self._first_rows[number])

    def _place(self, row: int) -> str:
        release, own_row = self._locate(row)
        return release.place(own_row)

    def _read(self, row: int) -> Sample | None:
        """The sample of a row; None when it cannot be read and may be skipped."""
        release, own_row = self._locate(row)
        try:
            return read_sample(release.read_row(own_row), self._options.decode, max_image_pixels=self._options.max_image_pixels)
        except StreamError as error:
            message = f"{release.place(own_row)}: {error}"
            if self._options.on_error == "raise":
                raise type(error)(message) from error
        worker = get_worker_info()
        self._shared[_SKIPS + (worker.id + 1 if worker else 0) % _NUM_SKIP_COUNTERS] += 1
        logger.warning("skipped a sample: %s", message)
        return None

    def __getstate__(self) -> dict[str, Any]:
        """Pin rank and world size: a spawned worker cannot ask torch.distributed for them."""
        return self.__dict__ | {"_given_seat": self._rank_and_world_size()}


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank is {rank} of world size {world_size}; expected 0 <= rank < world_size")
