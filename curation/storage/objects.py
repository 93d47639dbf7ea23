"""Objects in a store that fsspec knows: read, write, create once, replace if unchanged.

What fails in passing (a refused connection, a 5xx, a body cut short) is tried again with growing pauses; what does not pass
is one StoreError that names the object. On S3, `create` and `replace` are conditional requests; elsewhere `create` is as
exclusive as the file system makes it, and `replace` compares before it writes.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from xxhash import xxh3_128_hexdigest

from curation.errors import StoreError

ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.2
_LASTING = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
_CONDITION_FAILED = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Objects:
    """Everything below `base` of the file system `fs`; `url` is what people know it by. Keys are relative to `base`."""

    fs: Any
    base: str
    url: str

    def read(self, key: str) -> bytes | None:
        """An object's bytes, or None when it is not there."""
        try:
            data: bytes = self._try(key, lambda: self.fs.cat_file(self._path(key)))
        except FileNotFoundError:
            return None
        return data

    def write(self, key: str, data: bytes) -> None:
        """Write an object, whatever was there."""
        self._try(key, lambda: self._pipe(key, data))

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless it exists; whether it now holds `data`."""
        try:
            self._try(key, lambda: self._pipe(key, data, mode="create"))
        except FileExistsError:
            return self.read(key) == data  # an answer lost on the way is no failure
        return True

    def version(self, key: str) -> str | None:
        """What tells one state of an object from the next; None when it is not there."""
        if not self._is_s3:
            data = self.read(key)
            return None if data is None else xxh3_128_hexdigest(data)
        try:
            facts: dict[str, Any] = self._try(key, lambda: self.fs.info(self._path(key), refresh=True))
        except FileNotFoundError:
            return None
        return str(facts["ETag"])

    def replace(self, key: str, data: bytes, version: str | None) -> bool:
        """Write an object if it still has the `version` (None: if it still is not there); whether it now holds `data`."""
        if version is None:
            return self.create(key, data)
        if not self._is_s3:
            if self.version(key) != version:
                return False
            self.write(key, data)
            return True
        bucket, name, _ = self.fs.split_path(self._path(key))
        try:
            self._try(key, lambda: self.fs.call_s3("put_object", Bucket=bucket, Key=name, Body=data, IfMatch=version))
        except _ConditionFailedError:
            return self.read(key) == data
        return True

    def delete(self, key: str) -> None:
        """Remove an object; it may be gone already."""
        try:
            self._try(key, lambda: self.fs.rm_file(self._path(key)))
        except FileNotFoundError:
            return

    def upload(self, path: Path, key: str) -> None:
        """Write a file as an object, large ones in parts."""
        self._try(key, lambda: self.fs.put_file(str(path), self._path(key)))

    def download(self, key: str, path: Path) -> None:
        """Write an object to `path`, whole or not at all. Raises StoreError when it is not there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
        try:
            self._try(key, lambda: self._get_whole(key, temporary))
            temporary.replace(path)
        except FileNotFoundError:
            raise StoreError(
                f"{self.url}/{key}: not there, though its artefact says it is; publish the artefact anew"
            ) from None
        finally:
            temporary.unlink(missing_ok=True)

    def names(self, key: str) -> set[str]:
        """Names one level below `key`; an eventually consistent store may leave some out."""
        try:
            found: list[str] = self._try(key, lambda: self.fs.ls(self._path(key), detail=False))
        except FileNotFoundError:
            return set()
        return {name.rstrip("/").rsplit("/", 1)[-1] for name in found}

    def check_writable(self) -> None:
        """Raises StoreError when objects cannot be written and removed here."""
        key = f".probe-{os.getpid()}-{time.time_ns()}"
        try:
            self.write(key, b"")
            self.delete(key)
        except FileNotFoundError:
            raise StoreError(f"root '{self.url}': no such bucket or container; make it first") from None
        except PermissionError:
            raise StoreError(f"root '{self.url}': no permission to write there; check credentials and policy") from None

    @property
    def _is_s3(self) -> bool:
        return hasattr(self.fs, "call_s3")

    def _path(self, key: str) -> str:
        return f"{self.base}/{key}" if key else self.base

    def _pipe(self, key: str, data: bytes, mode: str = "overwrite") -> None:
        path = self._path(key)
        if not self._is_s3:
            self.fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self.fs.pipe_file(path, data, mode=mode)

    def _get_whole(self, key: str, path: Path) -> None:
        expected = int(self.fs.size(self._path(key)))
        self.fs.get_file(self._path(key), str(path))
        if path.stat().st_size != expected:
            raise OSError(f"{path.stat().st_size} of {expected} bytes came")

    def _try(self, key: str, call: Callable[[], _Result]) -> _Result:
        pause = FIRST_PAUSE_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call()
            except _LASTING:
                raise
            except Exception as problem:
                if _is_condition_failed(problem):
                    raise _ConditionFailedError from None
                if not _is_passing(problem):
                    raise StoreError(f"{self.url}/{key}: {_reason(problem)}") from None
                if attempt == ATTEMPTS:
                    raise StoreError(f"{self.url}/{key}: {_reason(problem)} (tried {ATTEMPTS} times)") from None
            time.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable")


class _ConditionFailedError(Exception):
    """A conditional request found another version."""


def _code(problem: BaseException) -> str:
    """The store's own error code, which fsspec keeps as the cause."""
    response = getattr(problem.__cause__ or problem, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _is_condition_failed(problem: BaseException) -> bool:
    return _code(problem) in _CONDITION_FAILED


def _is_passing(problem: BaseException) -> bool:
    """Whether trying again may help: what the network or an overloaded store does, not what is asked of it wrongly."""
    if "Credentials" in type(problem).__name__:
        return False
    kinds = (OSError, TimeoutError, ConnectionError)
    return isinstance(problem, kinds) or type(problem).__module__.startswith(("botocore", "aiobotocore", "aiohttp", "httpx"))


def _reason(problem: BaseException) -> str:
    text = str(problem) or type(problem).__name__
    return text if len(text) < 300 else text[:300] + "..."
