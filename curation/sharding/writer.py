"""Writing one shard: headers are made here, pictures are byte ranges of the sources' tars, and nothing is decoded.

Members are assembled in one of a few fixed buffers, pictures read straight into it. A full buffer is hashed by one thread and
written by another while the next fills, so the content hash costs no pass of its own, and no memory is allocated. The disk
begins on what is written at once, so that it works while the rest is read and hashed, not after it.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from curation.errors import ShardError
from curation.shard_format import BLOCK_BYTES, END_OF_ARCHIVE, member_bytes, occurrence_key, padding_bytes, tar_header
from curation.storage.store import start_writing_back

_BUFFER_BYTES = 1 << 19
"""Small enough that what is read is still in the core's own cache when it is hashed and written."""
_NUM_BUFFERS = 4
_WRITE_BACK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """A finished shard, and the (offset, length) of each sample in it."""

    num_bytes: int
    sha256: str
    places: list[tuple[int, int]]


class Pictures:
    """Byte ranges of the sources' `images-*.tar`, read through descriptors that stay open while a shard is written."""

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._folders = folders
        self._descriptors: dict[tuple[str, int], int] = {}

    def read_into(self, buffer: memoryview, source: str, tar: int, offset: int) -> None:
        """Fill `buffer` with the bytes at `offset`. Raises ShardError when the tar no longer holds them."""
        key = (source, tar)
        if key not in self._descriptors:
            path = Path(self._folders[source]) / f"images-{tar:05d}.tar"
            try:
                self._descriptors[key] = os.open(path, os.O_RDONLY)
            except OSError as problem:
                raise ShardError(f"{path}: cannot be read ({problem.strerror}); ingest '{source}' again") from None
        found = os.preadv(self._descriptors[key], [buffer], offset)
        if found != len(buffer):
            raise ShardError(
                f"source '{source}': images-{tar:05d}.tar holds {found} of {len(buffer)} bytes at {offset}; "
                f"delete {self._folders[source]} and ingest it again"
            )

    def close(self) -> None:
        """Close all descriptors."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()


class _TarBuffer:
    """Buffers before a file and its hash; the context ends with everything written and on disk."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._hasher, self._writer = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._buffers = deque(memoryview(bytearray(_BUFFER_BYTES)) for _ in range(_NUM_BUFFERS))
        self._filled = 0
        self._under_way: deque[tuple[Future[None], Future[None]]] = deque()
        self._handed_over = self._num_written = 0
        self.num_bytes = 0

    def __enter__(self) -> "_TarBuffer":
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.append(END_OF_ARCHIVE)
                self._flush()
                self._wait(0)
                os.fsync(self._descriptor)
        finally:
            self._hasher.shutdown()
            self._writer.shutdown()

    def hexdigest(self) -> str:
        return self._digest.hexdigest()

    def append(self, data: bytes) -> None:
        self.reserve(len(data))[:] = data

    def reserve(self, num_bytes: int) -> memoryview:
        """The next `num_bytes` of the file, to be filled by the caller before anything else is asked for."""
        if self._filled + num_bytes > len(self._buffers[0]):
            self._flush()
            if num_bytes > len(self._buffers[0]):
                self._buffers[0] = memoryview(bytearray(num_bytes))  # one picture larger than a buffer
        start = self._filled
        self._filled += num_bytes
        self.num_bytes += num_bytes
        return self._buffers[0][start : self._filled]

    def _flush(self) -> None:
        """Hand the first buffer over, and go on with the next."""
        block = self._buffers[0][: self._filled]
        self._under_way.append((self._hasher.submit(self._digest.update, block), self._writer.submit(self._write, block)))
        self._buffers.rotate(-1)
        self._filled = 0
        self._wait(_NUM_BUFFERS - 1)

    def _wait(self, num_under_way: int) -> None:
        """Until no more buffers than that are being hashed or written. Raises what writing raised."""
        while len(self._under_way) > num_under_way:
            for future in self._under_way.popleft():
                future.result()

    def _write(self, block: memoryview) -> None:
        while block:
            written = os.write(self._descriptor, block)
            self._num_written += written
            block = block[written:]
        waiting = self._num_written - self._handed_over
        if waiting >= _WRITE_BACK_BYTES:
            start_writing_back(self._descriptor, self._handed_over, waiting)
            self._handed_over += waiting


def write_shard(path: Path, rows: Iterable[tuple[str, Mapping[str, Any]]], pictures: Pictures) -> Written:
    """Write the samples of `rows`, pairs of source and row of RENDERED, in their order to a tar at `path`, to the disk."""
    places: list[tuple[int, int]] = []
    with path.open("wb", buffering=0) as file, _TarBuffer(file.fileno()) as tar:
        for source, row in rows:
            start = tar.num_bytes
            key = occurrence_key(row["sample_id"], row["repeat"])
            payload = row["payload"]
            tar.append(tar_header(f"{key}.json", len(payload)) + payload + bytes(padding_bytes(len(payload))))
            for picture in row["pictures"]:
                _append_picture(tar, f"{key}.{picture['name']}", source, picture, pictures)
            places.append((start, tar.num_bytes - start))
    return Written(tar.num_bytes, tar.hexdigest(), places)


def _append_picture(tar: _TarBuffer, name: str, source: str, picture: Mapping[str, Any], pictures: Pictures) -> None:
    num_bytes = picture["num_bytes"]
    member = tar.reserve(member_bytes(num_bytes))
    member[:BLOCK_BYTES] = tar_header(name, num_bytes)
    end = BLOCK_BYTES + num_bytes
    pictures.read_into(member[BLOCK_BYTES:end], source, picture["tar"], picture["offset"])
    member[end:] = bytes(len(member) - end)
