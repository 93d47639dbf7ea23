"""Which bytes of a growing file are there."""

import threading
from collections.abc import Iterator, Mapping
from typing import Any

SAVE_BYTES = 8 << 20
"""Progress is written down each time this many bytes came: no more than that is fetched twice after a kill."""


class Progress:
    """The byte ranges of a file that are on disk; safe to use from several threads."""

    def __init__(self) -> None:
        self.size: int | None = None
        self.validator: str | None = None
        self.is_ranged = True
        self._done: list[tuple[int, int]] = []
        self._unsaved = 0
        self._lock = threading.Lock()

    def begin(self, size: int | None, validator: str | None, *, is_ranged: bool = True) -> None:
        """Note what the server says of the file. A server without ranges starts from nothing."""
        with self._lock:
            self.size, self.validator, self.is_ranged = size, validator, is_ranged
            if not is_ranged:
                self._done = []

    def add(self, start: int, stop: int) -> bool:
        """Note that bytes `start` to `stop` are there; whether it is time to write that down."""
        with self._lock:
            before = self.num_done
            merged: list[tuple[int, int]] = []
            for first, last in sorted([*self._done, (start, stop)]):
                if merged and first <= merged[-1][1]:
                    merged[-1] = (merged[-1][0], max(merged[-1][1], last))
                else:
                    merged.append((first, last))
            self._done = merged
            self._unsaved += self.num_done - before
            if self._unsaved < SAVE_BYTES:
                return False
            self._unsaved = 0
            return True

    @property
    def num_done(self) -> int:
        """Bytes that are there."""
        return sum(stop - start for start, stop in self._done)

    def gaps(self, longest: int) -> Iterator[tuple[int, int]]:
        """What is missing of the whole file, in pieces of at most `longest` bytes."""
        for start, stop in list(self.gaps_within(0, self.size or 0)):
            for first in range(start, stop, longest):
                yield first, min(first + longest, stop)

    def gaps_within(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """What is missing between `start` and `stop`."""
        with self._lock:
            done = list(self._done)
        end = stop if self.size is None else min(stop, self.size)
        if self.size == 0:
            return
        position = start
        for first, last in done:
            if first > position and position < end:
                yield position, min(first, end)
            position = max(position, last)
        if position < end:
            yield position, end

    def document(self) -> dict[str, Any]:
        """As plain JSON types."""
        with self._lock:
            return {
                "size": self.size,
                "validator": self.validator,
                "is_ranged": self.is_ranged,
                "done": [list(pair) for pair in self._done],
            }

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "Progress":
        """The inverse of `document`. Raises KeyError, TypeError or ValueError for anything else."""
        progress = cls()
        size, validator = document["size"], document["validator"]
        progress.size = None if size is None else int(size)
        progress.validator = None if validator is None else str(validator)
        progress.is_ranged = bool(document["is_ranged"])
        progress._done = [(int(start), int(stop)) for start, stop in document["done"]]
        return progress
