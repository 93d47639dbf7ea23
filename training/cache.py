"""A folder of fetched files with a size limit, shared by all processes of a host.

Files are named by their content, so releases share shards. The kernel's file locks are all the coordination: a file being
fetched is locked by its writer, and the lock goes when the writer dies, so what a killed process leaves is recognised,
counted and removed by whoever comes next. The least recently opened files make room; one that is open stays readable.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from training.errors import StreamError

_PART = ".part"
_LOCK_NAME = ".lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileCache:
    """Files below `folder`, at most `limit_bytes` of them together, those being written counted with their final size."""

    folder: Path
    limit_bytes: int

    def open(self, key: str, num_bytes: int, fill: Callable[[int], object]) -> int:
        """A descriptor of the file `key`, which `fill` writes to a descriptor when the cache has it not.

        One process fills while others that want the same file wait. Raises StreamError for a file over the limit.
        """
        path = self.folder / key
        found = self._open_present(path)
        if found is not None:
            return found
        if num_bytes > self.limit_bytes:
            raise StreamError(
                f"a file of {num_bytes:,} bytes does not fit the cache '{self.folder}' of {self.limit_bytes:,} bytes; raise "
                "cache_bytes"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked_part(path) as part:
            found = self._open_present(path)  # another process may have filled it while this one waited
            if found is not None:
                path.with_name(path.name + _PART).unlink(missing_ok=True)
                return found
            self._make_room(num_bytes, part)
            fill(part)
            path.with_name(path.name + _PART).replace(path)
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @staticmethod
    def _open_present(path: Path) -> int | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        os.utime(descriptor)
        return descriptor

    @contextmanager
    def _locked_part(self, path: Path) -> Iterator[int]:
        part = path.with_name(path.name + _PART)
        while True:
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_same_file(descriptor, part):
                break
            os.close(descriptor)  # renamed or removed while this process waited for the lock
        try:
            yield descriptor
        except BaseException:
            if _is_same_file(descriptor, part):
                part.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def _make_room(self, num_bytes: int, part: int) -> None:
        """Reserve `num_bytes` for the file behind the descriptor `part`, removing what was not opened for longest."""
        with (self.folder / _LOCK_NAME).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.ftruncate(part, 0)
            present: list[tuple[int, int, Path]] = []
            for path in self.folder.iterdir():
                if path.name == _LOCK_NAME or (path.suffix == _PART and _remove_if_abandoned(path)):
                    continue
                try:
                    found = path.stat()
                except FileNotFoundError:
                    continue
                present.append((found.st_mtime_ns, found.st_size, path))
            total = sum(size for _, size, _ in present)
            for _, size, path in sorted(present):
                if total + num_bytes <= self.limit_bytes:
                    break
                if path.suffix != _PART:
                    path.unlink(missing_ok=True)
                    total -= size
            os.ftruncate(part, num_bytes)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _remove_if_abandoned(part: Path) -> bool:
    """Remove a half-written file that nobody is writing."""
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        part.unlink(missing_ok=True)
        return True
    finally:
        os.close(descriptor)
