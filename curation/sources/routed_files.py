"""The record files of one source of a release: its lines as published, and beside them the numbers they had upstream."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from curation.storage.store import replacing

LINES_SUFFIX = ".lines"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Segment:
    """A claim's lines in one piece (`<target>.jsonl` and `.lines`), whose first line is number `first` of its file."""

    target: str
    offset: int
    num_bytes: int
    line_offset: int
    num_lines: int
    first: int


@dataclass(frozen=True, slots=True)
class JoinTask:
    """All segments of a claim in one record file, in order."""

    path: str
    segments: tuple[Segment, ...]


def join_segments(task: JoinTask) -> None:
    """Write a claim's lines, then their numbers."""
    path = Path(task.path)
    with replacing(path) as temporary, temporary.open("wb") as handle:
        for segment in task.segments:
            with Path(f"{segment.target}.jsonl").open("rb") as piece:
                piece.seek(segment.offset)
                _copy(piece, handle, segment.num_bytes)
    with replacing(path.with_name(path.name + LINES_SUFFIX)) as temporary, temporary.open("wb") as handle:
        for segment in task.segments:
            lines = np.fromfile(f"{segment.target}{LINES_SUFFIX}", "<i8", segment.num_lines, offset=segment.line_offset * 8)
            handle.write((lines + segment.first).astype("<i8").tobytes())


def _copy(source: BinaryIO, target: BinaryIO, num_bytes: int) -> None:
    while num_bytes > 0 and (block := source.read(min(num_bytes, _BLOCK_BYTES))):
        target.write(block)
        num_bytes -= len(block)


def upstream_lines(path: Path, first: int, count: int) -> list[int]:
    """The upstream line numbers of `count` lines of the routed file at `path`, from line `first` on."""
    numbers: list[int] = np.fromfile(f"{path}{LINES_SUFFIX}", "<i8", count, offset=first * 8).tolist()
    return numbers
