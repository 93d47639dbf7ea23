"""What readers hand to adapters: batches of raw records with their origin, and records refused on the way.

A `Span` is a piece of a file that one task can read alone; a `Chunk` is as many spans as make one task's work. Both depend
on the files only, never on how many workers there are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from curation.errors import RejectReason
from curation.tables import RAW_LIMIT_BYTES

CHUNK_BYTES = 4 << 20
CHUNK_SPANS = 512
MAX_RECORD_BYTES = 64 << 20

Style = Literal["lines", "array", "object", "one", "delimited", "quoted"]


@dataclass(frozen=True, slots=True)
class ByteSpan:
    """Bytes `start` to `stop` of a text file; its first record has position `first_position`."""

    file: str
    style: Style
    start: int
    stop: int
    first_position: int
    has_origins: bool = False
    """Whether beside the file lies one of the lines that its records had upstream (`curation.sources.routed_files`)."""

    @property
    def num_bytes(self) -> int:
        """Bytes to read."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class RowGroupSpan:
    """One row group of a Parquet file."""

    file: str
    group: int
    first_position: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a tar file: `name` in it and where its content lies."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class TarSpan:
    """Consecutive samples of a WebDataset tar: (key, members) each."""

    file: str
    samples: tuple[tuple[str, tuple[Member, ...]], ...]
    first_position: int

    @property
    def num_bytes(self) -> int:
        """Bytes of text members; pictures are not read with the records."""
        return sum(member.size for _, members in self.samples for member in members if is_text_member(member.name))


@dataclass(frozen=True, slots=True)
class LostSpan:
    """A file, or the rest of one, in which no records can be told apart; it becomes one rejected record."""

    file: str
    detail: str
    raw: bytes
    first_position: int
    num_bytes: int = 0
    reason: RejectReason = RejectReason.BAD_JSON


Span = ByteSpan | RowGroupSpan | TarSpan | LostSpan


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that became no sample."""

    file: str
    position: int
    reason: RejectReason
    detail: str
    raw: bytes

    @classmethod
    def of(cls, file: str, position: int, reason: RejectReason, detail: str, raw: bytes) -> "Reject":
        """A reject with its raw bytes cut to the documented limit."""
        return cls(file, position, reason, detail, raw[:RAW_LIMIT_BYTES])


@dataclass(slots=True)
class Batch:
    """Records of one file in order, and those that could not be parsed."""

    file: str
    positions: list[int] = field(default_factory=list)
    records: list[Mapping[str, Any]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


def is_text_member(name: str) -> bool:
    """Whether a WebDataset member holds text that belongs to the record."""
    return name.rsplit(".", 1)[-1].lower() in ("json", "txt", "text", "caption", "cls")
