"""Files that archives are read from: several joined as one, and a stream that only goes forward."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from curation.fetch.gunzip import Damage

MAX_HEADER_BYTES = 1 << 20
"""Longest name or extended header taken from a tar; real ones have a few hundred bytes."""
_SKIP_BYTES = 1 << 20


class Content(Protocol):
    """Something that gives bytes in order."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes."""


class Packed(Content, Protocol):
    """An archive's bytes in order."""

    def peek(self, size: int, /) -> bytes:
        """The next bytes, which stay to be read."""


class JoinedFile(io.RawIOBase):
    """Several files as one read-only seekable file."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._sizes = [path.stat().st_size for path in paths]
        self._position = 0
        self._open: tuple[int, BinaryIO] | None = None

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Bytes from the start of the first file."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See io.IOBase."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: sum(self._sizes)}[whence]
        if base + offset < 0:
            raise ValueError("seek before the start of the archive")
        self._position = base + offset
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, across files; all that follow when negative."""
        wanted = sum(self._sizes) - self._position if size < 0 else size
        blocks: list[bytes] = []
        while wanted > 0 and (block := self._read_from_one(wanted)):
            blocks.append(block)
            wanted -= len(block)
        return b"".join(blocks)

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay to be read."""
        data = self.read(size)
        self._position -= len(data)
        return data

    def _read_from_one(self, size: int) -> bytes:
        start = 0
        for number, length in enumerate(self._sizes):
            if self._position < start + length:
                handle = self._handle(number)
                handle.seek(self._position - start)
                data = handle.read(min(size, start + length - self._position))
                self._position += len(data)
                return data
            start += length
        return b""

    def _handle(self, number: int) -> BinaryIO:
        if self._open is None or self._open[0] != number:
            self._close_open()
            self._open = (number, self._paths[number].open("rb"))
        return self._open[1]

    def _close_open(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def close(self) -> None:
        """Close whichever file is open."""
        self._close_open()
        super().close()


class ForwardFile:
    """A stream with the seeks that tarfile makes, forwards only. `last_read` is what the last read gave.

    Reads for the archive's own headers are bounded; a member's content is read through `read` after `expect_at`.
    """

    def __init__(self, stream: Content) -> None:
        self._stream = stream
        self._position = 0
        self._content_limit = 0
        self.last_read = b""

    def tell(self) -> int:
        """Bytes given or passed over."""
        return self._position

    def expect_at(self, position: int) -> None:
        """Go to the content of a member, which may be read whole."""
        self.seek(position)
        self._content_limit = position

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Pass over bytes up to `position`. Raises Damage when that lies behind."""
        if whence != io.SEEK_SET or position < self._position:
            raise Damage("a header points backwards in the archive")
        while self._position < position and self._take(min(_SKIP_BYTES, position - self._position)):
            pass
        return self._position

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes. Raises Damage when a header asks for more than any header has."""
        if size > MAX_HEADER_BYTES and self._position != self._content_limit:
            raise Damage(f"a header claims {size:,} bytes; the limit is {MAX_HEADER_BYTES:,}")
        return self._take(size)

    def _take(self, size: int) -> bytes:
        blocks: list[bytes] = []
        missing = size
        while missing > 0 and (block := self._stream.read(missing)):
            blocks.append(block)
            missing -= len(block)
        data = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        self._position += len(data)
        self.last_read = data
        return data

    def close(self) -> None:
        """Nothing: the stream below is closed by who opened it."""
