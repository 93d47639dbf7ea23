"""Byte ranges of a release's files, on a local disk or behind a URL.

Local shards are read with `os.pread` on descriptors that stay open: no seek, so forked workers may share them, and no
buffer between the page cache and the sample. URLs go through fsspec, one range request a sample.
"""

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

from training.errors import StreamError

MAX_OPEN_FILES = 128
"""Descriptors kept open a process; well under the usual limit of 1,024, enough for every shard of a shuffle window."""


class Files(Protocol):
    """Read access to the files below one folder; names are relative to it and use `/`."""

    location: str

    def num_bytes(self, name: str) -> int | None:
        """Size of a file, None when there is no such file."""
        ...

    def read(self, name: str) -> bytes:
        """The whole file. Raises StreamError when it is missing."""
        ...

    def read_range(self, name: str, start: int, num_bytes: int) -> bytes:
        """Bytes from `start` on; fewer than `num_bytes` only where the file ends."""
        ...


class LocalFiles:
    """Files below a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.location = str(folder)
        self._folder = folder
        self._open: OrderedDict[str, int] = OrderedDict()

    def path(self, name: str) -> Path:
        """Where a file lies."""
        return self._folder / name

    def num_bytes(self, name: str) -> int | None:
        """Size of a file, None when there is no such file."""
        try:
            return (self._folder / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, name: str) -> bytes:
        """The whole file. Raises StreamError when it is missing."""
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise StreamError(f"cannot read '{self._folder / name}': {error.strerror}") from error

    def read_range(self, name: str, start: int, num_bytes: int) -> bytes:
        """Bytes from `start` on; fewer than `num_bytes` only where the file ends."""
        descriptor = self._descriptor(name)
        data = os.pread(descriptor, num_bytes, start)
        while len(data) < num_bytes:  # the kernel gives at most 2 GiB a call, and less after a signal
            more = os.pread(descriptor, num_bytes - len(data), start + len(data))
            if not more:
                break
            data += more
        return data

    def _descriptor(self, name: str) -> int:
        descriptor = self._open.get(name)
        if descriptor is not None:
            self._open.move_to_end(name)
            return descriptor
        try:
            descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StreamError(f"cannot open '{self._folder / name}': {error.strerror}") from error
        self._open[name] = descriptor
        if len(self._open) > MAX_OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        return descriptor

    def close(self) -> None:
        """Close the descriptors; the next read opens them again."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}

    def __del__(self) -> None:
        self.close()


class RemoteFiles:
    """Files below a URL that fsspec understands, such as `s3://bucket/prefix`."""

    def __init__(self, url: str) -> None:
        import fsspec  # type: ignore[import-untyped]

        self.location = url.rstrip("/")
        try:
            self._files, self._prefix = fsspec.core.url_to_fs(self.location)
        except (ImportError, ValueError) as error:
            raise StreamError(f"cannot open the release URL '{url}': {error}") from error

    def num_bytes(self, name: str) -> int | None:
        """Size of a file, None when there is no such file."""
        try:
            return int(self._files.size(f"{self._prefix}/{name}"))
        except FileNotFoundError:
            return None

    def read(self, name: str) -> bytes:
        """The whole file. Raises StreamError when it is missing."""
        try:
            return bytes(self._files.cat_file(f"{self._prefix}/{name}"))
        except OSError as error:
            raise StreamError(f"cannot read '{self.location}/{name}': {error}") from error

    def read_range(self, name: str, start: int, num_bytes: int) -> bytes:
        """Bytes from `start` on; fewer than `num_bytes` only where the file ends."""
        try:
            return bytes(self._files.cat_file(f"{self._prefix}/{name}", start=start, end=start + num_bytes))
        except OSError as error:
            raise StreamError(f"cannot read '{self.location}/{name}': {error}") from error


def open_files(location: str | os.PathLike[str]) -> LocalFiles | RemoteFiles:
    """The files below a folder or URL."""
    text = os.fspath(location)
    if "://" in text and not text.startswith("file://"):
        return RemoteFiles(text)
    return LocalFiles(Path(text.removeprefix("file://")))
