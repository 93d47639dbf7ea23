"""Reading samples of some releases in a given order: what ShardStream and MixtureStream share.

Rows come from the order some at a time (`training/ordered.py`); samples are read and handed out one by one.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from training.errors import StreamError
from training.index import Release
from training.members import Members, Sample, as_sample
from training.order import Int64s, Order
from training.ordered import OrderedStream, ReadOptions
from training.progress import Progress
from training.shard_reader import ShardReader
from training.transport import PlacedBytes, send_places

logger = logging.getLogger(__name__)

MAX_SKIPS_IN_A_ROW = 100
"""With on_error="skip": more than this in a row is not a bad sample but a bad disk."""

_FIRST_ROWS, _MOST_ROWS = 32, 2048
_ROWS_BEHIND_URL = 64
_NUM_SKIP_COUNTERS = 64


class SampleStream(OrderedStream):
    """What both streams are: the samples at the rows of an order. Use ShardStream or MixtureStream."""

    def __init__(self, releases: Sequence[Release], order: Order, options: ReadOptions) -> None:
        super().__init__(releases, order, options)
        self._decoder = options.decoder()
        self._reader = ShardReader(releases)
        self._skips = torch.zeros(_NUM_SKIP_COUNTERS, dtype=torch.int64)
        self._skips.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def num_skipped(self) -> int:
        """Samples passed over so far because they could not be read, by this process and its workers."""
        return int(self._skips.sum())

    @property
    def version(self) -> str:
        """Version of the weights by which the next sample is taken; empty where there are none."""
        return ""

    def describe_rows(self, rows: Int64s) -> list[dict[str, Any]]:
        """What the index says of the samples at some rows, in their order; no shard is opened."""
        return self._reader.describe(rows)

    def row_bytes(self, rows: Int64s) -> list[int]:
        """Bytes that the samples at some rows take in their shards."""
        return self._reader.places(rows)[2]

    def __iter__(self) -> Iterator[Sample]:
        return self._deliver(self._begin())

    def _deliver(self, progress: Progress) -> Iterator[Sample]:
        skips_in_a_row = 0
        delivered = progress.delivered
        for rows, num_real, now in self._chunks(progress):
            self._progress = now
            for number, sample in enumerate(self._read_chunk(rows)):
                delivered += 1
                self._delivered = delivered
                if sample is not None:
                    skips_in_a_row = 0
                    if number >= num_real:
                        _mark_padding(sample)
                    yield sample
                    continue
                skips_in_a_row += 1
                if skips_in_a_row > MAX_SKIPS_IN_A_ROW:
                    raise StreamError(
                        f"{skips_in_a_row} samples in a row could not be read, the last in {self._place(rows[number])}; "
                        "that is more than bad samples: check the release with `curate verify`"
                    )
        assert self._progress is not None
        self._progress = replace(self._progress, delivered=delivered, finished=True)

    def _chunks(self, progress: Progress) -> Iterator[tuple[Int64s, int, Progress]]:
        """Rows still to be delivered, some at a time: with how many of them are no padding, and the progress before them."""
        total = progress.num_own_places
        is_remote = any(release.files.is_remote for release in self.releases)
        ahead: deque[tuple[Int64s, int, Progress]] = deque()
        size = _ROWS_BEHIND_URL if is_remote else _FIRST_ROWS
        first = progress.delivered
        while first < total:
            last = min(total, first + size)
            rows, cursor = self._rows(progress, first, last)
            ahead.append((rows, progress.num_real(first, last), progress))
            progress = replace(progress, cursor=cursor)
            first = last
            if not is_remote:
                size = min(2 * size, _MOST_ROWS)
                yield ahead.popleft()
            elif len(ahead) > 2:
                self._reader.read_ahead([shard for chunk in ahead for shard in self._reader.places(chunk[0])[0]])
                yield ahead.popleft()
        yield from ahead

    def _read_chunk(self, rows: Int64s) -> Iterator[Sample | None]:
        """The samples at some rows; None for one that cannot be read and may be skipped."""
        read, decoder = self._reader.read, self._decoder
        paths: dict[int, str | None] | None = None
        if decoder is None and get_worker_info() is not None:
            send_places()
            paths = {}
        for shard, start, num_bytes in zip(*self._reader.places(rows), strict=True):
            try:
                members = read(shard, start, num_bytes)
                if paths is not None:
                    members = self._placed(members, shard, paths)
                sample = as_sample(members, decoder)
            except StreamError as error:
                self._pass_over(error, shard, start)
                yield None
            else:
                yield sample

    def _place(self, row: int) -> str:
        """Where the sample at a row lies, for messages."""
        shards, starts, _ = self._reader.places(np.array([row]))
        return self._reader.place(shards[0], starts[0])

    def _placed(self, members: Members, shard: int, paths: dict[int, str | None]) -> Members:
        """Members whose images know where they lie, so that a worker's queue need not carry them."""
        if shard not in paths:
            paths[shard] = self._reader.local_path(shard)
        path = paths[shard]
        if path is None:
            return members
        record, names, contents, starts = members
        placed = [PlacedBytes.of(content, path, start) for content, start in zip(contents, starts, strict=True)]
        return record, names, list[bytes](placed), starts

    def _pass_over(self, error: StreamError, shard: int, start: int) -> None:
        """Count and tell of a sample that cannot be read. Raises the error, with the place, unless that is to be skipped."""
        message = f"{self._reader.place(shard, start)}: {error}"
        if self._options.on_error == "raise":
            raise type(error)(message) from error
        worker = get_worker_info()
        self._skips[(worker.id + 1 if worker else 0) % _NUM_SKIP_COUNTERS] += 1
        logger.warning("skipped a sample: %s", message)


def _mark_padding(item: Sample | list[Sample]) -> None:
    for sample in item if isinstance(item, list) else [item]:
        sample["is_padding"] = True
