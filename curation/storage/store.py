"""Where artefacts lie under the root, and how they come to be there whole or not at all.

An artefact is a folder named by the fingerprint of what made it. Files are written under a temporary name and renamed; the
manifest is written last, and a folder without manifest is not there for any reader. So a run killed at any moment leaves
only work that the next run finishes in place.

Under a root in object storage the same folders lie in a local mirror: publishing writes through to the store, and what is
asked for and not here is brought (`curation/storage/mirror.py`).
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import StoreError
from curation.shard_format import MANIFEST_NAME
from curation.storage.lease import Lease, hold_lease
from curation.storage.mirror import Mirror, is_url, mirror_of

LATEST_NAME = "latest.json"
_TEMPORARY = ".writing-"
_HELD: dict[Path, Lease] = {}
"""Leases that this process holds, by mirror: whoever publishes there makes sure of it first."""
_SORTED = ["sample_id", "source", "shard", "position"]
_REPETITIVE = ["source", "category", "origin_file", "stage", "verdict", "reason", "conversations.list.element.from"]


@dataclass(frozen=True, slots=True)
class Store:
    """The root folder of everything curation makes."""

    root: Path

    @classmethod
    def open(cls, root: str) -> "Store":
        """The store at `root`, made when missing. Raises StoreError when it cannot be read or written there."""
        if is_url(root):
            mirror = Mirror.of_url(root)
            mirror.objects.check_writable()
            return cls(mirror.root)
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
        if is_url(root):
            return cls(Mirror.of_url(root).root)
        path = Path(root).expanduser().absolute()
        if not path.is_dir():
            raise StoreError(f"root '{path}' is no folder; nothing was ingested there yet (give another with --root)")
        return cls(path)

    @classmethod
    def if_there(cls, root: str) -> "Store | None":
        """The store at `root` for reading, or None before anything was made there. Raises StoreError as `at` does."""
        if not is_url(root) and not Path(root).expanduser().exists():
            return None
        return cls.at(root)

    def names(self, kind: str) -> list[str]:
        """Names of what there is of a `kind` (sources, releases, ...): for people to choose from."""
        found = {path.name for path in (self.root / kind).glob("*") if path.is_dir()}
        mirror = mirror_of(self.root)
        return sorted(found | mirror.names(self.root / kind) if mirror else found)

    def source(self, name: str, fingerprint: str) -> Path:
        """Folder of one source's checked samples."""
        return self.root / "sources" / name / fingerprint

    def benchmark(self, name: str, fingerprint: str) -> Path:
        """Folder of one evaluation set, read like a source."""
        return self.root / "benchmarks" / name / fingerprint

    def signatures(self, name: str, fingerprint: str) -> Path:
        """Folder of one source's verdicts on single samples and its duplicate keys."""
        return self.root / "signatures" / name / fingerprint

    def shingles(self, name: str, fingerprint: str) -> Path:
        """Folder of the n-grams of one source's texts."""
        return self.root / "shingles" / name / fingerprint

    def embeddings(self, name: str, fingerprint: str) -> Path:
        """Folder of the vectors of one source's texts."""
        return self.root / "embeddings" / name / fingerprint

    def facts(self, name: str, fingerprint: str) -> Path:
        """Folder of the facts of one source's samples."""
        return self.root / "facts" / name / fingerprint

    def survivors(self, fingerprint: str) -> Path:
        """Folder of the rows that a pool keeps."""
        return self.root / "survivors" / fingerprint

    def curriculum(self, name: str, fingerprint: str) -> Path:
        """Folder of the ordered list of releases of a mixture with stages."""
        return self.root / "curricula" / name / fingerprint

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
    def single_writer(self, note: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Hold the root for writing; a second writer waits, which `note` tells.

        When the process dies, the operating system frees a folder, and the lease of a root in object storage runs out.
        """
        with (self.root / ".writer.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            mirror = mirror_of(self.root)
            if mirror is None:
                yield
                return
            with hold_lease(mirror.objects, note=note) as lease:
                _HELD[self.root] = lease
                try:
                    yield
                finally:
                    del _HELD[self.root]


def is_published(folder: Path) -> bool:
    """Whether the artefact at `folder` is whole; its tables are here then, its tars too unless it came from elsewhere."""
    if (folder / MANIFEST_NAME).exists():
        return True
    mirror = mirror_of(folder)
    return mirror is not None and mirror.pull(folder)


def bring_tars(folder: Path) -> None:
    """Make sure that the tars of a published artefact are here; nothing to do under a plain folder."""
    mirror = mirror_of(folder)
    if mirror is not None:
        mirror.pull_bulk(folder)


@contextmanager
def as_stored(folder: Path) -> Iterator[Path]:
    """The artefact at `folder` as it is stored: a fresh copy of what lies in object storage, or the folder itself."""
    mirror = mirror_of(folder)
    if mirror is None or not is_published(folder):
        yield folder
        return
    with mirror.fresh_copy(folder) as copy:
        yield copy


def address(path: Path) -> str:
    """What people call a path below a root: its URL in object storage, else the path."""
    mirror = mirror_of(path)
    return mirror.address(path) if mirror else str(path)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a published artefact. Raises StoreError when there is none."""
    if not is_published(folder):
        raise StoreError(f"{address(folder)}: no {MANIFEST_NAME}, so nothing was published there")
    return read_object(folder / MANIFEST_NAME)


def publish(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Make the artefact at `folder` visible: sweep temporary files away, flush the others to disk, write the manifest."""
    for path in folder.rglob("*"):
        if path.name.startswith(_TEMPORARY):
            path.unlink()
        elif path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
    mirror = mirror_of(folder)
    if mirror is not None:
        if lease := _HELD.get(mirror.root):
            lease.check()
        mirror.push(folder, _encoded(manifest))
    write_json(folder / MANIFEST_NAME, manifest)


def point_to_latest(folder: Path) -> None:
    """Note beside a published artefact that it is the newest of its name."""
    pointer = folder.parent / LATEST_NAME
    if latest(folder.parent) == folder:
        return
    value = {"fingerprint": folder.name}
    mirror = mirror_of(folder)
    if mirror is not None:
        mirror.write_pointer(pointer, _encoded(value))
    write_json(pointer, value)


def latest(parent: Path) -> Path | None:
    """The newest published artefact below `parent`, or None when there is none."""
    pointer = parent / LATEST_NAME
    mirror = mirror_of(parent)
    if mirror is not None:
        data = mirror.read_pointer(pointer)
        if data is None:
            return None
        with replacing(pointer) as temporary:
            temporary.write_bytes(data)
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
        temporary.write_bytes(_encoded(value))


def _encoded(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


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
        with temporary.open("rb") as handle:
            start_writing_back(handle.fileno(), 0, 0)


def start_writing_back(descriptor: int, start: int, num_bytes: int) -> None:
    """Let the disk begin on bytes just written, so that the flush at publishing finds little to do; does not wait.

    Advice that written pages are not needed has this effect on Linux, and drops only those that are on disk already, which
    are none of those just written; sync_file_range says it better, but Python has no such call. Nothing where it is unknown.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, start, num_bytes, os.POSIX_FADV_DONTNEED)


def write_columns(path: Path, table: pa.Table) -> None:
    """Write a Parquet file of keys and numbers to `path`, whole or not at all: uncompressed, since keys do not compress."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="none", use_dictionary=["annotation_file"], write_statistics=False)


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
