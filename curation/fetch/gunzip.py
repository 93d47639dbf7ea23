"""Gzip as a stream whose output is bounded, and which says what is wrong with it."""

import zlib
from typing import Protocol

READ_BYTES = 1 << 18
MAX_RATIO = 200
FREE_BYTES = 1 << 30
"""A stream may unpack to this much whatever its size, and to MAX_RATIO times what was read beyond."""


class Damage(Exception):
    """What is wrong with an archive, in words that follow its name."""


class Garbled(Damage):
    """Packed data that makes no sense at some point: what was unpacked shortly before may be wrong too."""


class Beyond(Damage):
    """What is asked for lies beyond the bytes that may be read."""


class _Bytes(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Gunzip:
    """The unpacked bytes of a gzip file of one or more members. Raises Damage from `read` where the data breaks."""

    def __init__(self, packed: _Bytes) -> None:
        self._packed = packed
        self._inflate = zlib.decompressobj(wbits=31)
        self._waiting = b""
        self._num_read = 0
        self._num_given = 0

    def read(self, size: int, /) -> bytes:
        """1 to `size` bytes, or none at the end."""
        while True:
            if self._inflate.eof and not self._next_member():
                return b""
            if not self._waiting:
                self._waiting = self._packed.read(READ_BYTES)
                self._num_read += len(self._waiting)
            if not self._waiting:
                raise Damage(f"cut short: the gzip stream ends early, after {self._num_read:,} bytes")
            try:
                data = self._inflate.decompress(self._waiting, size)
            except zlib.error as problem:
                where = f"within {READ_BYTES:,} bytes before byte {self._num_read:,}"
                raise Garbled(f"damaged gzip data {where}: {problem}") from None
            self._waiting = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            if data:
                self._num_given += len(data)
                if self._num_given > FREE_BYTES + MAX_RATIO * self._num_read:
                    raise Damage(f"unpacks to more than {MAX_RATIO} times its size: refused")
                return data

    def _next_member(self) -> bool:
        """Whether another gzip member follows; zeros that pad the file are none."""
        waiting = self._waiting.lstrip(b"\0")
        while not waiting and (block := self._packed.read(READ_BYTES)):
            self._num_read += len(block)
            waiting = block.lstrip(b"\0")
        self._waiting = waiting
        if not waiting:
            return False
        self._inflate = zlib.decompressobj(wbits=31)
        return True
