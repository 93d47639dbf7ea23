"""The files of a release, on a local disk or behind a URL.

A shard is read with `os.pread` on a descriptor: no seek, so forked workers may share it, and no buffer between the page
cache and the sample. A local shard is opened where it lies; one behind a URL is fetched whole into a bounded cache first
(`training/remote.py`), or read by ranges where an order jumps between shards.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from curation.shard_format import ShardEntry
from training.errors import ConfigError, StreamError

CACHE_VARIABLE = "CURATION_CACHE"
DEFAULT_CACHE = ".curation-cache"


@dataclass(frozen=True, kw_only=True, slots=True)
class Storage:
    """How files behind a URL are read; local ones need nothing of it.

    `cache`: folder for fetched shards, shared by all processes of a host; default $CURATION_CACHE, else
    `.curation-cache` in the working folder. `cache_bytes`: its size limit. `whole_shards`: fetch shards whole (each one
    checked against the manifest's hash) or read samples by ranges. A request is tried `attempts` times, after
    `backoff_seconds` doubled each time; one that takes over `timeout_seconds` counts as failed.
    """

    cache: Path | None = None
    cache_bytes: int = 32 << 30
    whole_shards: bool = True
    attempts: int = 5
    backoff_seconds: float = 0.2
    timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.cache_bytes < 1 or self.attempts < 1 or self.backoff_seconds < 0 or self.timeout_seconds <= 0:
            raise ConfigError(
                f"storage: cache_bytes {self.cache_bytes}, attempts {self.attempts}, backoff_seconds "
                f"{self.backoff_seconds}, timeout_seconds {self.timeout_seconds}; expected positive numbers"
            )

    def folder(self) -> Path:
        """Where fetched files lie."""
        return self.cache if self.cache is not None else Path(os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE)


DEFAULT_STORAGE = Storage()


class Files(Protocol):
    """Read access to the files below one folder; names are relative to it and use `/`."""

    location: str
    is_remote: bool

    def num_bytes(self, name: str) -> int | None:
        """Size of a file, None when there is no such file."""
        ...

    def folder_sizes(self, folder: str) -> dict[str, int] | None:
        """Sizes of a folder's files by name; None where the storage cannot list folders."""
        ...

    def expect(self, shards: Mapping[str, ShardEntry]) -> None:
        """Take note of what the manifest says of files that may be fetched."""
        ...

    def read(self, name: str) -> bytes:
        """The whole file. Raises StreamError when it is missing."""
        ...

    def local_path(self, name: str) -> Path:
        """A path on this machine that holds the file's content."""
        ...

    def lasting_path(self, name: str) -> str | None:
        """A path on this machine that will hold the file as long as the release is there; None where there is none."""
        ...

    def open_shard(self, name: str) -> int | None:
        """A descriptor of the shard for `os.pread`, to be closed by the caller; None where only ranges are read."""
        ...

    def read_range(self, name: str, start: int, num_bytes: int) -> bytes:
        """Bytes from `start` on; fewer than `num_bytes` only where the file ends."""
        ...

    def read_ahead(self, names: list[str]) -> None:
        """Make shards that will be opened soon, soonest first, quick to open. May do nothing."""
        ...


class LocalFiles:
    """Files below a folder of this machine."""

    is_remote = False

    def __init__(self, folder: Path) -> None:
        self.location = str(folder)
        self._folder = folder

    def num_bytes(self, name: str) -> int | None:
        """Size of a file, None when there is no such file."""
        try:
            return (self._folder / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def folder_sizes(self, folder: str) -> dict[str, int] | None:
        """Sizes of a folder's files by name."""
        try:
            with os.scandir(self._folder / folder) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def expect(self, shards: Mapping[str, ShardEntry]) -> None:
        """Nothing is fetched."""

    def read(self, name: str) -> bytes:
        """The whole file. Raises StreamError when it is missing."""
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise StreamError(f"cannot read '{self._folder / name}': {error.strerror}") from error

    def local_path(self, name: str) -> Path:
        """Where a file lies."""
        return self._folder / name

    def lasting_path(self, name: str) -> str:
        """Where a file lies."""
        return str((self._folder / name).absolute())

    def open_shard(self, name: str) -> int:
        """A descriptor of the shard, to be closed by the caller."""
        try:
            return os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StreamError(f"cannot open '{self._folder / name}': {error.strerror}") from error

    def read_range(self, name: str, start: int, num_bytes: int) -> bytes:
        """Bytes from `start` on; fewer than `num_bytes` only where the file ends."""
        descriptor = self.open_shard(name)
        try:
            return read_at(descriptor, start, num_bytes)
        finally:
            os.close(descriptor)

    def read_ahead(self, names: list[str]) -> None:
        """The kernel reads ahead."""


def read_at(descriptor: int, start: int, num_bytes: int) -> bytes:
    """Bytes from `start` on; fewer than `num_bytes` only where the file ends."""
    data = os.pread(descriptor, num_bytes, start)
    while len(data) < num_bytes:  # the kernel gives at most 2 GiB a call, and less after a signal
        more = os.pread(descriptor, num_bytes - len(data), start + len(data))
        if not more:
            break
        data += more
    return data


def open_files(location: str | os.PathLike[str], storage: Storage) -> Files:
    """The files below a folder or URL."""
    text = os.fspath(location)
    if "://" in text and not text.startswith("file://"):
        from training.remote import RemoteFiles

        return RemoteFiles(text, storage)
    return LocalFiles(Path(text.removeprefix("file://")))
