"""Several samples in one sequence, so that little of it is padding: first-fit-decreasing inside windows of the order.

Windows are packed from counts alone, before anything is read: the packs of an epoch are known, numbered, and given out to
ranks and workers as samples are, with the same states. Packing an epoch costs about two microseconds a sample, once.

Shapes: N samples of a pack, T places of the packed sequence.
"""
# ruff: noqa: N802, N815 - names carry the shape suffixes above

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.errors import ConfigError
from training.grouping import sample_lengths
from training.order import Cursor, Int64s
from training.reader import SampleStream

_POSITIONS_AT_ONCE = 1 << 16


def first_fit_decreasing(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Packs of numbers of samples, none over `max_tokens` together, in order of each pack's longest sample.

    The fit is the fullest pack that still has room. A sample over `max_tokens` has a pack of its own, to be cut by whoever
    tokenizes it.
    """
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, pack), ascending
    for sample in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        place = bisect_left(room, (lengths[sample], -1))
        if place == len(room):
            packs.append([sample])
            insort(room, (max_tokens - lengths[sample], len(packs) - 1))
            continue
        left, pack = room.pop(place)
        packs[pack].append(sample)
        insort(room, (left - lengths[sample], pack))
    return packs


@dataclass(frozen=True, slots=True)
class Packs:
    """The packs of an epoch: pack p is `rows[starts[p] : starts[p + 1]]`."""

    rows: Int64s
    starts: Int64s


class PackedStream(SampleStream):
    """The samples of another stream in packs of at most `max_tokens`; yields lists of samples.

    A sample's length is its `num_tokens` in the index and `tokens_per_image` for each image; packs are made inside windows
    of `window` positions of the stream's epoch, which stays exactly once whatever the packs. Every epoch is packed anew;
    `len`, plans, states and steps count packs.
    """

    def __init__(self, stream: SampleStream, *, max_tokens: int, window: int = 1024, tokens_per_image: int = 0) -> None:
        if max_tokens < 1 or window < 1:
            raise ConfigError(f"max_tokens is {max_tokens}, window {window}; expected at least 1 for both")
        super().__init__(stream.releases, stream.order, stream.options)
        self._samples = stream.order
        self._version = stream.version
        self._is_rotating = False  # packs have no pattern
        self._packing = (max_tokens, window)
        self._lengths, _ = sample_lengths(stream.releases, tokens_per_image=tokens_per_image)
        self._about_packing = [max_tokens, window, tokens_per_image]
        self._packed: tuple[int, Packs] | None = None
        self.order = _PackOrder(self)

    @property
    def version(self) -> str:
        """Version of the weights of the stream that is packed."""
        return self._version

    def packs(self, epoch: int) -> Packs:
        """The packs of an epoch."""
        if self._packed is None or self._packed[0] != epoch:
            self._packed = (epoch, self._pack(epoch))
        return self._packed[1]

    def _pack(self, epoch: int) -> Packs:
        max_tokens, window = self._packing
        rows: list[Int64s] = []
        sizes: list[int] = []
        cursor = self._samples.start()
        step = max(window, _POSITIONS_AT_ONCE // window * window)
        for first in range(0, self._samples.num_positions, step):
            positions = np.arange(first, min(first + step, self._samples.num_positions), dtype=np.int64)
            here, cursor = self._samples.rows(epoch, positions, cursor)
            for begin in range(0, len(here), window):
                inside = here[begin : begin + window]
                packs = first_fit_decreasing(self._lengths[inside].tolist(), max_tokens)
                rows.extend(inside[pack] for pack in packs)
                sizes.extend(len(pack) for pack in packs)
        return Packs(np.concatenate(rows), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))

    def describe_packing(self) -> dict[str, object]:
        """What the packs depend on besides the epoch's order."""
        return {**self._samples.describe(), "packing": self._about_packing}

    def pack_rows(self, packs: Int64s) -> Int64s:
        """Rows of the samples of some packs, one after the other."""
        known = self.packs(self.epoch)
        return np.concatenate([known.rows[known.starts[pack] : known.starts[pack + 1]] for pack in packs.tolist()])

    def batch_rows(self, step: int, *, rank: int, world_size: int, batch_size: int) -> Int64s:
        """Rows of the samples in the packs that a rank is given at a step."""
        return self.pack_rows(super().batch_rows(step, rank=rank, world_size=world_size, batch_size=batch_size))

    def skip(self, *, samples: Sequence[str] = (), steps: Sequence[int] = ()) -> None:
        """Leave out whole train steps. Raises ConfigError for samples: without them the packs would be others."""
        if samples:
            raise ConfigError("a packed stream skips steps; skip samples in the stream before it is packed")
        super().skip(steps=steps)

    def _place(self, row: int) -> str:
        return super()._place(int(self.pack_rows(np.array([row]))[0]))

    def _read_chunk(self, rows: Int64s) -> Iterator[Any]:
        known = self.packs(self.epoch)
        for pack in rows.tolist():
            samples = super()._read_chunk(known.rows[known.starts[pack] : known.starts[pack + 1]])
            yield [sample for sample in samples if sample is not None] or None


class _PackOrder:
    """Packs in the order in which they are made, numbered: position p is pack p."""

    def __init__(self, stream: PackedStream) -> None:
        self._stream = stream

    @property
    def num_positions(self) -> int:
        """Packs of the current epoch."""
        return len(self._stream.packs(self._stream.epoch).starts) - 1

    def describe(self) -> dict[str, object]:
        """What the order depends on; the number of packs differs from epoch to epoch."""
        about = self._stream.describe_packing()
        return {**about, "num_samples": self.num_positions}

    def start(self) -> Cursor:
        """Nothing to remember."""
        return ()

    def rows(self, epoch: int, positions: Int64s, cursor: Cursor) -> tuple[Int64s, Cursor]:
        """Numbers of the packs."""
        del epoch
        return positions, cursor


@dataclass(frozen=True, slots=True)
class PackedPlaces:
    """Where the samples of a pack stand: `positions_T` begin at 0 in each, `segments_T` number them from 0, -1 is padding.

    `edges_N1` are the first places of the samples and the end of the last, as variable-length attention takes them.
    """

    positions_T: Tensor
    segments_T: Tensor
    edges_N1: Tensor

    def mask_TT(self) -> Tensor:
        """Who may attend to whom: a place to itself and the places before it in its own sample."""
        same = (self.segments_T.unsqueeze(1) == self.segments_T) & (self.segments_T >= 0)
        return same.tril()


def packed_places(lengths: Sequence[int], max_tokens: int) -> PackedPlaces:
    """Places of samples of these lengths in a sequence of `max_tokens`. Raises ConfigError where they do not fit."""
    used = sum(lengths)
    if used > max_tokens:
        raise ConfigError(f"samples of {list(lengths)} tokens do not fit a sequence of {max_tokens}; cut them before")
    edges = torch.tensor([0, *lengths]).cumsum(0)
    segments = torch.full((max_tokens,), -1)
    segments[:used] = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(list(lengths)))
    positions = torch.zeros(max_tokens, dtype=torch.long)
    positions[:used] = torch.arange(used) - edges[segments[:used]]
    return PackedPlaces(positions, segments, edges)
