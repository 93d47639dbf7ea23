"""Files that are looked into where they lie: read at any place in ranges, and never more of them than a bound."""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from curation.errors import FetchError
from curation.fetch.addresses import shown_url
from curation.fetch.client import Client, Temporary
from curation.fetch.gunzip import Beyond
from curation.fetch.http import HttpFile

RANGE_BYTES = 4 << 20
_TIMEOUT_S = 60.0
_TRIES = 3
_BLOCK_BYTES = 1 << 18


def read_head(file: HttpFile, limit: int) -> bytes:
    """Up to `limit` bytes from the beginning of a file, in one request. Raises FetchError."""
    return _asked(file, 0, limit)[0]


def _asked(file: HttpFile, start: int, stop: int) -> tuple[bytes, int | None]:
    """Bytes `start` to `stop` of a file and its size where the server says it. Raises FetchError."""
    for attempt in range(1, _TRIES + 1):
        data = bytearray()
        try:
            with (
                Client(1, _TIMEOUT_S) as client,
                client.get(file.url, {"Range": f"bytes={start}-{stop - 1}"}, token=file.token) as answer,
            ):
                if answer.status == 416:
                    return b"", answer.total
                if answer.status == 200 and start > 0:
                    raise FetchError(
                        f"{shown_url(file.url)}: the server gives no ranges, so only its beginning can be looked at"
                    )
                for block in answer.blocks():
                    data += block
                    if len(data) >= stop - start:
                        break
                return bytes(data[: stop - start]), answer.total
        except Temporary as problem:
            if attempt == _TRIES:
                raise FetchError(f"{shown_url(file.url)}: {problem}; try again") from None
    raise AssertionError


class RangedFile(io.RawIOBase):
    """A file on a web server as one that can be read at any place, RANGE_BYTES or more at a time. Reading raises FetchError."""

    def __init__(self, file: HttpFile) -> None:
        self._file = file
        self._position = 0
        self._start = 0
        self._block, self._size = _asked(file, 0, RANGE_BYTES)
        if self._size is None and len(self._block) < RANGE_BYTES:
            self._size = len(self._block)

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Bytes from the start."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See io.IOBase."""
        if whence == io.SEEK_END and self._size is None:
            raise FetchError(f"{shown_url(self._file.url)}: the server does not say how large the file is")
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size or 0}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes; all that follow when negative."""
        stop = self._position + size if size >= 0 else self._size or 0
        stop = stop if self._size is None else min(stop, self._size)
        blocks: list[bytes] = []
        while self._position < stop:
            inside = self._position - self._start
            if not 0 <= inside < len(self._block):
                self._start, inside = self._position, 0
                self._block = _asked(self._file, self._start, max(stop, self._start + RANGE_BYTES))[0]
                if not self._block:
                    break
            blocks.append(self._block[inside : inside + stop - self._position])
            self._position += len(blocks[-1])
        return b"".join(blocks)


class Bounded(io.RawIOBase):
    """A seekable file of which at most `limit` bytes are read. Reading more raises Beyond."""

    def __init__(self, handle: BinaryIO, limit: int) -> None:
        self._handle = handle
        self._left = limit

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._handle.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See io.IOBase."""
        return self._handle.seek(offset, whence)

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, all that follow when negative."""
        data = self._handle.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise Beyond("more than may be looked at")
        return data


class ForwardHead:
    """Several files as one stream that goes forward; each is opened when the one before has ended."""

    def __init__(self, files: Sequence[Callable[[], BinaryIO]], limit: int) -> None:
        self._left = limit
        self._waiting = b""
        self._blocks = self._read_all(files)

    def _read_all(self, files: Sequence[Callable[[], BinaryIO]]) -> Iterator[bytes]:
        for opened in files:
            with opened() as handle:
                while block := handle.read(min(_BLOCK_BYTES, max(1, self._left))):
                    self._left -= len(block)
                    if self._left < 0:
                        return
                    yield block

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes. Raises Beyond when more than the limit would be read."""
        if not self._waiting:
            self._waiting = next(self._blocks, b"")
            if self._left < 0:
                raise Beyond("more than may be looked at")
        data, self._waiting = self._waiting[:size], self._waiting[size:]
        return data

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay to be read."""
        data = b""
        while len(data) < size and (block := self.read(size - len(data))):
            data += block
        self._waiting = data + self._waiting
        return data
