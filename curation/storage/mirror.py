"""A root in object storage: artefacts are made in a local folder, published to the store, and brought back when needed.

Object stores have no rename and no lock, so nothing here relies on either: every object is written whole under its final
name, an artefact's files go first, then `files.json` with their sizes and hashes, and its manifest last. What is there is
known by name, never by listing. The local folder (the *mirror*) is a cache: it can be deleted at any time.

Tables come with an artefact's manifest; its *bulk* (tars of pictures and shards) only when somebody reads it.
"""

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec  # type: ignore[import-untyped]
from xxhash import xxh3_128

from curation.errors import StoreError
from curation.shard_format import MANIFEST_NAME
from curation.storage.objects import Objects

MARKER = ".remote.json"
FILES_NAME = "files.json"
CACHE_VARIABLE = "CURATION_CACHE"
_TEMPORARY = ".writing-"
_BULK_SUFFIX = ".tar"
_BLOCK_BYTES = 4 << 20
_DEPTH = 4
"""An artefact's folder lies at most this deep below its root."""


def is_url(root: str) -> bool:
    """Whether `root` names a place in object storage (or any file system that fsspec knows) and no folder."""
    return "://" in root


@dataclass(frozen=True, slots=True)
class Mirror:
    """The local folder `root` that stands for everything below `url`."""

    root: Path
    url: str

    @classmethod
    def of_url(cls, url: str) -> "Mirror":
        """The mirror of `url`, made when missing. Raises StoreError for an URL with credentials or an unknown scheme."""
        if "@" in urlsplit(url).netloc:
            raise StoreError("the root's URL holds credentials; give them by environment or profile, and the URL without them")
        url = url.rstrip("/")
        cache = Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/curation").expanduser().absolute()
        root = cache / hashlib.sha256(url.encode()).hexdigest()[:16]
        mirror = cls(root, url)
        _ = mirror.objects  # an unknown scheme or a missing package is told now
        root.mkdir(parents=True, exist_ok=True)
        _write(root / MARKER, json.dumps({"url": url}).encode())
        return mirror

    @property
    def objects(self) -> Objects:
        """The remote side. Raises StoreError when no package for its scheme is installed."""
        return _objects(self.url)

    def key(self, path: Path) -> str:
        """Name of a local path on the remote side, below `url`."""
        return path.relative_to(self.root).as_posix()

    def address(self, path: Path) -> str:
        """The URL of a local path."""
        return self.url if path == self.root else f"{self.url}/{self.key(path)}"

    def pull(self, folder: Path) -> bool:
        """Bring manifest and tables of a published artefact; False when there is none."""
        manifest = self.objects.read(f"{self.key(folder)}/{MANIFEST_NAME}")
        if manifest is None:
            return False
        for name, facts in self._files(folder).items():
            if not name.endswith(_BULK_SUFFIX):
                self._pull_file(folder, name, facts)
        _write(folder / MANIFEST_NAME, manifest)
        return True

    def pull_bulk(self, folder: Path) -> None:
        """Bring an artefact's tars, as far as they are not here."""
        for name, facts in self._files(folder).items():
            self._pull_file(folder, name, facts)

    @contextmanager
    def fresh_copy(self, folder: Path) -> Iterator[Path]:
        """A copy of an artefact as it lies on the remote side, whatever the mirror holds; gone when the block ends."""
        with tempfile.TemporaryDirectory(dir=self.root, prefix=_TEMPORARY) as place:
            copy = Path(place) / folder.name
            for name in [*self._files(folder), MANIFEST_NAME]:
                self.objects.download(f"{self.key(folder)}/{name}", copy / name)
            yield copy

    def push(self, folder: Path, manifest: bytes) -> None:
        """Publish an artefact: its files, then their list, then `manifest`. A manifest already there stays."""
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        facts = {name: _facts(path) for name, path in files.items() if name not in (MANIFEST_NAME, FILES_NAME)}
        for name in facts:
            self.objects.upload(files[name], f"{self.key(folder)}/{name}")
        self.objects.write(f"{self.key(folder)}/{FILES_NAME}", _encoded({"files": facts}))
        self.objects.create(f"{self.key(folder)}/{MANIFEST_NAME}", manifest)

    def read_pointer(self, path: Path) -> bytes | None:
        """A small file that changes, as it is now on the remote side."""
        return self.objects.read(self.key(path))

    def write_pointer(self, path: Path, data: bytes) -> None:
        """Replace a small file, unless somebody else changed it meanwhile. Raises StoreError then."""
        key = self.key(path)
        version = self.objects.version(key)
        if not self.objects.replace(key, data, version):
            raise StoreError(f"{self.url}/{key}: another writer changed it at the same moment; run the same command again")

    def names(self, folder: Path) -> set[str]:
        """Names below a folder on the remote side: for people to choose from, never to decide what is there."""
        return self.objects.names(self.key(folder))

    def _files(self, folder: Path) -> Mapping[str, Any]:
        listed = self.objects.read(f"{self.key(folder)}/{FILES_NAME}")
        if listed is None:
            raise StoreError(f"{self.address(folder)}: {FILES_NAME} is missing beside the manifest; publish the artefact anew")
        files: Mapping[str, Any] = json.loads(listed)["files"]
        return files

    def _pull_file(self, folder: Path, name: str, facts: Mapping[str, Any]) -> None:
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise StoreError(f"{self.address(folder)}: {FILES_NAME} names '{name}', which leaves the artefact")
        if target.exists() and target.stat().st_size == facts["num_bytes"]:
            return
        self.objects.download(f"{self.key(folder)}/{name}", target)
        found = _facts(target)
        if found != facts:
            target.unlink()
            raise StoreError(f"{self.address(folder)}/{name}: found {found}, the artefact's {FILES_NAME} says {dict(facts)}")


def mirror_of(path: Path) -> Mirror | None:
    """The mirror that a path below a root lies in, or None under a plain folder."""
    for parent in (path, *path.parents[:_DEPTH]):
        marker = parent / MARKER
        if marker.is_file():
            return Mirror(parent, str(json.loads(marker.read_bytes())["url"]))
    return None


@lru_cache(maxsize=8)
def _objects(url: str) -> Objects:
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as problem:
        raise StoreError(f"root '{url}': {problem}") from None
    fs.use_listings_cache = False
    return Objects(fs, path.rstrip("/"), url)


def _facts(path: Path) -> dict[str, Any]:
    digest = xxh3_128()
    with path.open("rb") as handle:
        while block := handle.read(_BLOCK_BYTES):
            digest.update(block)
    return {"num_bytes": path.stat().st_size, "xxh3_128": digest.hexdigest()}


def _encoded(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{threading.get_ident()}-{path.name}")
    temporary.write_bytes(data)
    temporary.replace(path)
