"""Files behind a URL: S3, HTTP and whatever else fsspec opens.

A shard is fetched whole, in pieces, into a cache that all processes of the host share, and held against the manifest's
hash; or its samples are read by ranges. Every request is tried again after a server's error, a timeout or a short answer.
File systems are opened by the process that uses them: their connections do not survive a fork.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import fsspec  # type: ignore[import-untyped]

from curation.shard_format import MANIFEST_NAME, ShardEntry
from training.cache import FileCache
from training.errors import StreamError
from training.storage import Storage

READ_AHEAD_SHARDS = 4
"""Shards fetched ahead of the one being read, two at a time."""

_PIECE_BYTES = 8 << 20
_RETRIED_STATUSES = (408, 429)
_Value = TypeVar("_Value")


class _ShortAnswerError(OSError):
    """A server sent fewer bytes than were asked for."""


class RemoteFiles:
    """Files below a URL that fsspec understands, such as `s3://bucket/prefix`."""

    is_remote = True

    def __init__(self, url: str, storage: Storage) -> None:
        self.location = url.rstrip("/")
        self._storage = storage
        self._cache = FileCache(folder=storage.folder().absolute(), limit_bytes=storage.cache_bytes)
        self._shards: dict[str, ShardEntry] = {}
        self._release_key = ""
        self._opened: tuple[int, Any, str] | None = None
        self._ahead: tuple[int, ThreadPoolExecutor, dict[str, Future[None]]] | None = None
        self._file_system()

    def _file_system(self) -> tuple[Any, str]:
        """The file system and our prefix in it, opened in this process."""
        if self._opened is None or self._opened[0] != os.getpid():
            scheme = self.location.partition("://")[0]
            options: dict[str, Any] = {} if scheme == "memory" else {"skip_instance_cache": True}
            if scheme in ("s3", "s3a"):
                timeouts = dict.fromkeys(("connect_timeout", "read_timeout"), self._storage.timeout_seconds)
                options["config_kwargs"] = {"retries": {"max_attempts": 1, "mode": "standard"}, **timeouts}
            try:
                files, prefix = fsspec.core.url_to_fs(self.location, **options)
            except (ImportError, ValueError) as error:
                raise StreamError(
                    f"cannot open the release URL '{self.location}': {error}; for s3:// and http(s):// install the extra "
                    "'s3' of this package"
                ) from error
            self._opened = (os.getpid(), files, prefix)
        return self._opened[1], self._opened[2]

    def _ask(self, what: str, request: Callable[[Any, str], _Value]) -> _Value:
        """The answer to a request, tried again where that may help. Raises FileNotFoundError, else StreamError."""
        files, prefix = self._file_system()
        for attempt in range(1, self._storage.attempts + 1):
            try:
                return request(files, prefix)
            except FileNotFoundError:
                raise
            except Exception as error:
                if not _is_transient(error):
                    raise StreamError(f"cannot read '{self.location}/{what}': {_explain(error)}") from error
                if attempt == self._storage.attempts:
                    raise StreamError(
                        f"cannot read '{self.location}/{what}', tried {attempt} times: {_explain(error)}"
                    ) from error
            time.sleep(self._storage.backoff_seconds * 2 ** (attempt - 1))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def num_bytes(self, name: str) -> int | None:
        """Size of a file, None when there is no such file."""

        def size(files: Any, prefix: str) -> int:
            found = files.size(f"{prefix}/{name}")
            if found is None:  # an HTTP server that does not say: read it
                return len(files.cat_file(f"{prefix}/{name}"))
            return int(found)

        try:
            return self._ask(name, size)
        except FileNotFoundError:
            return None

    def folder_sizes(self, folder: str) -> dict[str, int] | None:
        """Sizes of a folder's files by name; None over HTTP, which cannot list."""
        if self.location.startswith(("http://", "https://")):
            return None
        try:
            rows = self._ask(folder, lambda files, prefix: files.ls(f"{prefix}/{folder}", detail=True))
        except FileNotFoundError:
            return {}
        return {str(row["name"]).rsplit("/", 1)[-1]: int(row["size"]) for row in rows if row["type"] == "file"}

    def expect(self, shards: Mapping[str, ShardEntry]) -> None:
        """Take note of the shards' sizes and hashes."""
        self._shards = dict(shards)

    def read(self, name: str) -> bytes:
        """The whole file. Raises StreamError when it is missing."""
        try:
            content = self._ask(name, lambda files, prefix: bytes(files.cat_file(f"{prefix}/{name}")))
        except FileNotFoundError as error:
            raise StreamError(f"'{self.location}/{name}' is missing; copy it there or build the release again") from error
        if name == MANIFEST_NAME:
            self._release_key = hashlib.sha256(content).hexdigest()
        return content

    def local_path(self, name: str) -> Path:
        """A path on this machine that holds the file's content; it belongs to this release's manifest."""
        num_bytes = self.num_bytes(name)
        if num_bytes is None:
            raise StreamError(f"'{self.location}/{name}' is missing; copy it there or build the release again")
        key = hashlib.sha256(f"{self._release_key} {self.location} {name} {num_bytes}".encode()).hexdigest()
        os.close(self._cache.open(key, num_bytes, lambda target: self._fetch(name, num_bytes, target)))
        return self._cache.folder / key

    def lasting_path(self, name: str) -> str | None:
        """None: a fetched file may have to make room for others."""
        return None

    def open_shard(self, name: str) -> int | None:
        """A descriptor of the fetched shard, to be closed by the caller; None where only ranges are read."""
        if not self._storage.whole_shards:
            return None
        shard = self._shards[name]
        return self._cache.open(shard.sha256, shard.num_bytes, lambda target: self._fetch_shard(name, shard, target))

    def _fetch_shard(self, name: str, shard: ShardEntry, target: int) -> None:
        found = self._fetch(name, shard.num_bytes, target)
        if found != shard.sha256:
            raise StreamError(
                f"shard '{shard.name}' at '{self.location}/{name}' has the SHA-256 {found}, its manifest says "
                f"{shard.sha256}; it is damaged or of another build: copy it there again"
            )

    def _fetch(self, name: str, num_bytes: int, target: int) -> str:
        """Write a file to a descriptor and return its SHA-256."""
        digest = hashlib.sha256()
        for start in range(0, num_bytes, _PIECE_BYTES):
            piece = self.read_range(name, start, min(_PIECE_BYTES, num_bytes - start))
            os.pwrite(target, piece, start)
            digest.update(piece)
        return digest.hexdigest()

    def read_range(self, name: str, start: int, num_bytes: int) -> bytes:
        """Exactly `num_bytes` from `start` on. Raises StreamError where the file does not give them."""

        def read(files: Any, prefix: str) -> bytes:
            data = bytes(files.cat_file(f"{prefix}/{name}", start=start, end=start + num_bytes))
            if len(data) > num_bytes:  # an HTTP server that ignores ranges sends the whole file
                data = data[start : start + num_bytes]
            if len(data) < num_bytes:
                raise _ShortAnswerError(f"got {len(data):,} of {num_bytes:,} bytes from byte {start:,} on")
            return data

        try:
            return self._ask(name, read)
        except FileNotFoundError as error:
            raise StreamError(f"'{self.location}/{name}' is missing; copy it there again or build the release again") from error

    def read_ahead(self, names: list[str]) -> None:
        """Fetch the first few of these shards in the background; what goes wrong is told when the shard is opened."""
        if not self._storage.whole_shards:
            return
        if self._ahead is None or self._ahead[0] != os.getpid():
            self._ahead = (os.getpid(), ThreadPoolExecutor(2, "read-ahead"), {})
        _, threads, running = self._ahead
        for name in [name for name, future in running.items() if future.done()]:
            del running[name]
        for name in names[:READ_AHEAD_SHARDS]:
            if name not in running:
                running[name] = threads.submit(self._fetch_quietly, name)

    def _fetch_quietly(self, name: str) -> None:
        try:
            descriptor = self.open_shard(name)
        except (StreamError, OSError):
            return  # the reader opens the same shard, meets the same error and tells of it
        if descriptor is not None:
            os.close(descriptor)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None, "_ahead": None}


def _is_transient(error: Exception) -> bool:
    """Whether trying again may help: server errors, timeouts, broken connections, short answers."""
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        return False
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status >= 500 or status in _RETRIED_STATUSES
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError | asyncio.TimeoutError) or library in ("aiohttp", "botocore", "aiobotocore")


def _explain(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        return f"{text}; set the credentials of this storage (for S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
    return text
