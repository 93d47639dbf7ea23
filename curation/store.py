"""Where artefacts lie under the root, and how they come to be there whole or not at all.

An artefact is a folder named by the fingerprint of what made it. Files are written under a temporary name and renamed; the
manifest is written last, and a folder without manifest is not there for any reader. So a run killed at any moment leaves
only work that the next run finishes in place.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import StoreError
from curation.shard_format import MANIFEST_NAME

LATEST_NAME = "latest.json"
_TEMPORARY = ".writing-"
_SORTED = ["sample_id", "source", "shard", "position"]
_REPETITIVE = ["source", "category", "origin_file", "stage", "verdict", "reason", "conversations.list.element.from"]


@dataclass(frozen=True, slots=True)
class Store:
    """The root folder of everything curation makes."""

    root: Path

    @classmethod
    def open(cls, root: str) -> "Store":
        """The store at `root`, made when missing. Raises StoreError when it cannot be read or written there."""
        if "://" in root:
            raise StoreError(f"root '{root}': only folders are supported as yet; give the path of a folder")
        path = Path(root).expanduser().absolute()
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path, prefix=_TEMPORARY):
                pass
        except OSError as problem:
            raise StoreError(f"root '{path}' cannot be written ({problem.strerror}); choose another with --root") from None
        return cls(path)

    @classmethod
    def at(cls, root: str) -> "Store":
        """The store at `root` for reading. Raises StoreError when it is not there."""
        path = Path(root).expanduser().absolute()
        if not path.is_dir():
            raise StoreError(f"root '{path}' is no folder; nothing was ingested there yet (give another with --root)")
        return cls(path)

    def source(self, name: str, fingerprint: str) -> Path:
        """Folder of one source's checked samples."""
        return self.root / "sources" / name / fingerprint

    def signatures(self, name: str, fingerprint: str) -> Path:
        """Folder of one source's verdicts on single samples and its duplicate keys."""
        return self.root / "signatures" / name / fingerprint

    def pool(self, fingerprint: str) -> Path:
        """Folder of the verdicts over several sources."""
        return self.root / "pools" / fingerprint

    def release(self, mixture: str, fingerprint: str) -> Path:
        """Folder of one published mixture."""
        return self.root / "releases" / mixture / fingerprint

    def work(self, kind: str, fingerprint: str) -> Path:
        """Folder for half-done work that a later run may take up; made when missing."""
        folder = self._work(kind, fingerprint)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def discard_work(self, kind: str, fingerprint: str) -> None:
        """Delete work whose result is published; there may be none."""
        shutil.rmtree(self._work(kind, fingerprint), ignore_errors=True)

    def _work(self, kind: str, fingerprint: str) -> Path:
        return self.root / "work" / f"{kind}-{fingerprint}"

    @contextmanager
    def single_writer(self) -> Iterator[None]:
        """Hold the root for writing; a second writer waits. The operating system frees it when the process dies."""
        with (self.root / ".writer.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def is_published(folder: Path) -> bool:
    """Whether the artefact at `folder` is whole."""
    return (folder / MANIFEST_NAME).exists()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a published artefact. Raises StoreError when there is none."""
    if not is_published(folder):
        raise StoreError(f"{folder}: no {MANIFEST_NAME}, so nothing was published there")
    return read_object(folder / MANIFEST_NAME)


def publish(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Make the artefact at `folder` visible: sweep temporary files away, flush the others to disk, write the manifest."""
    for path in folder.rglob("*"):
        if path.name.startswith(_TEMPORARY):
            path.unlink()
        elif path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
    write_json(folder / MANIFEST_NAME, manifest)


def point_to_latest(folder: Path) -> None:
    """Note beside a published artefact that it is the newest of its name."""
    pointer = folder.parent / LATEST_NAME
    if latest(folder.parent) != folder:
        write_json(pointer, {"fingerprint": folder.name})


def latest(parent: Path) -> Path | None:
    """The newest published artefact below `parent`, or None when there is none."""
    pointer = parent / LATEST_NAME
    if not pointer.exists():
        return None
    folder = parent / str(read_object(pointer).get("fingerprint"))
    return folder if is_published(folder) else None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Raises StoreError when it is not there or is none."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as problem:
        raise StoreError(f"{path}: cannot be read ({problem.strerror})") from None
    except ValueError as problem:
        raise StoreError(f"{path}: not valid JSON ({problem}); delete its folder and run again") from None
    if not isinstance(value, dict):
        raise StoreError(f"{path}: expected a JSON object; delete its folder and run again")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file to `path`, whole or not at all; equal tables give equal bytes."""
    with replacing(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="lz4",
            row_group_size=50_000,
            use_dictionary=_REPETITIVE,
            write_statistics=_SORTED,
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends well, and is removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
