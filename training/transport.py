"""How image bytes travel from a DataLoader's worker to the main process: as their place in a local shard, not as bytes.

A worker's queue is a pipe through which every byte is copied several times; a place is a path and two numbers, and the
main process reads the bytes itself from the page cache that the worker has just filled. Only a queue's pickler does this:
anything else that pickles such bytes gets bytes.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler

from training.errors import StreamError
from training.storage import read_at

MAX_OPEN_FILES = 64
_open: OrderedDict[str, int] = OrderedDict()


class PlacedBytes(bytes):
    """Bytes that know where they lie on this machine: `path` and first byte `start`."""

    path: str
    start: int

    @classmethod
    def of(cls, content: bytes, path: str, start: int) -> "PlacedBytes":
        """`content` as it lies at byte `start` of a file that stays as it is."""
        placed = cls(content)
        placed.path, placed.start = path, start
        return placed

    def __reduce__(self) -> tuple[type[bytes], tuple[bytes]]:
        return bytes, (bytes(self),)


def send_places() -> None:
    """Let this process's queues send places in the place of bytes; called by a worker before its first sample."""
    ForkingPickler.register(PlacedBytes, _as_place)


def _as_place(content: PlacedBytes) -> tuple[Callable[[str, int, int], bytes], tuple[str, int, int]]:
    return _read_place, (content.path, content.start, len(content))


def _read_place(path: str, start: int, num_bytes: int) -> bytes:
    descriptor = _open.get(path)
    if descriptor is None:
        try:
            descriptor = _open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StreamError(f"cannot open '{path}', from which a worker has just read: {error.strerror}") from error
        if len(_open) > MAX_OPEN_FILES:
            os.close(_open.popitem(last=False)[1])
    content = read_at(descriptor, start, num_bytes)
    if len(content) != num_bytes:
        raise StreamError(f"'{path}' was cut while it was read: {len(content):,} of {num_bytes:,} bytes at {start:,}")
    return content
