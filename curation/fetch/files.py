"""Files below any fsspec URL (`s3://bucket/prefix`), copied into a folder here: whole under their name, or not there.

What was listed is remembered with sizes and tags (ETag, or what else the store tells of a version); a half-copied file is
continued when its tag is still the same. A folder that is complete is not asked for again until `refresh` is wanted.
Credentials are the store's own affair: its client takes them from the environment.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec  # type: ignore[import-untyped]

from curation.errors import FetchError
from curation.fetch.addresses import shown_url, without_secrets
from curation.fingerprint import fingerprint
from curation.runtime.progress import Reporter, Track
from curation.storage.store import read_object, write_json

STATE_FOLDER = ".fetch"
LISTING = "listing.json"
CONNECTIONS = 8
ATTEMPTS = 3
_BLOCK_BYTES = 4 << 20
_TAGS = ("ETag", "etag", "md5Hash", "VersionId", "LastModified", "mtime", "created")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a store: its name below the root, size in bytes, and what changes when its content does."""

    name: str
    size: int
    tag: str


def fetch_files(
    url: str, patterns: Sequence[str], places: Sequence[str], folder: Path, reporter: Reporter, *, refresh: bool = False
) -> dict[str, str]:
    """Copy what matches `patterns` and what lies in `places` (files or folders), both below `url`, into `folder`.

    Returns why by name for files that could not be copied. Raises FetchError when the store cannot be asked at all, or
    nothing matches.
    """
    listing = folder / STATE_FOLDER / f"{fingerprint([list(patterns), list(places)])}-{LISTING}"
    if listing.exists() and not refresh:
        files = [StoredFile(**entry) for entry in read_object(listing)["files"]]
        if all(_is_here(file, folder) for file in files):
            return {}
    files = list_files(url, patterns, places)
    write_json(listing, {"root": shown_url(url), "files": [asdict(file) for file in files]})
    missing = [file for file in files if not _is_here(file, folder)]
    failures: dict[str, str] = {}
    store, root = _store(url)
    total = sum(file.size for file in missing) >> 20
    with reporter.track(f"fetch {shown_url(url)} (MiB)", total) as track, ThreadPoolExecutor(CONNECTIONS, "fetch") as threads:
        jobs = {file.name: threads.submit(_copy, store, root, file, folder, track) for file in missing}
        for name, job in jobs.items():
            try:
                job.result()
            except FetchError as problem:
                failures[name] = f"{shown_url(url)}/{name}: {problem}"
    return failures


def forget_listings(folder: Path) -> None:
    """Let the next fetch into `folder` ask the store again; files that are still the same are not copied again."""
    for path in (folder / STATE_FOLDER).glob(f"*-{LISTING}"):
        path.unlink()


def list_files(url: str, patterns: Sequence[str], places: Sequence[str] = ()) -> list[StoredFile]:
    """What matches `patterns` or lies in `places`, sorted by name. Raises FetchError when nothing matches a pattern."""
    store, root = _store(url)
    found: dict[str, dict[str, Any]] = {}
    try:
        for pattern in patterns:
            matched = store.glob(f"{root}/{pattern}", detail=True)
            if not any(info["type"] == "file" for info in matched.values()):
                raise FetchError(f"no file matches '{pattern}' below {shown_url(url)}")
            found |= matched
        for place in places:
            base = root if place in ("", ".") else f"{root}/{place}"
            if store.exists(base):
                found |= store.find(base, detail=True)
    except FetchError:
        raise
    except Exception as problem:  # every store raises errors of its own
        raise FetchError(f"{shown_url(url)} cannot be listed: {_words(problem)}") from None
    return sorted(_stored(root, found), key=lambda file: file.name)


def _stored(root: str, found: dict[str, dict[str, Any]]) -> Iterator[StoredFile]:
    for path, info in found.items():
        if info["type"] != "file":
            continue
        name = path[len(root) :].lstrip("/") if path.startswith(root) else path
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or "\\" in name or parts[0] == STATE_FOLDER:
            raise FetchError(f"the store holds a file called '{name}', which leaves its folder")
        tag = next((str(info[key]) for key in _TAGS if info.get(key)), "")
        yield StoredFile(name, int(info["size"] or 0), tag)


def _store(url: str) -> tuple[Any, str]:
    try:
        store, root = fsspec.core.url_to_fs(url)
    except ImportError as problem:
        hint = " (pip install 'cambrian-curation[s3]')" if url.startswith("s3://") else ""
        raise FetchError(f"{shown_url(url)}: {problem}{hint}") from None
    except ValueError as problem:
        raise FetchError(f"{shown_url(url)}: {without_secrets(str(problem))}") from None
    store.invalidate_cache()
    return store, str(root).rstrip("/")


def _is_here(file: StoredFile, folder: Path) -> bool:
    path = folder / file.name
    receipt = _state(file, folder, "json")
    return path.exists() and path.stat().st_size == file.size and receipt.exists() and read_object(receipt)["tag"] == file.tag


def _state(file: StoredFile, folder: Path, suffix: str) -> Path:
    return folder / STATE_FOLDER / f"{fingerprint(file.name)}.{suffix}"


def _copy(store: Any, root: str, file: StoredFile, folder: Path, track: Track) -> None:
    """Copy one file, from where an earlier attempt at the same version ended. Raises FetchError."""
    part = _state(file, folder, f"{fingerprint([file.tag, file.size])}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _append(store, f"{root}/{file.name}", part, file, track)
            break
        except FetchError:
            raise
        except Exception as problem:  # every store raises errors of its own
            if attempt == ATTEMPTS or isinstance(problem, FileNotFoundError | PermissionError):
                raise FetchError(_words(problem)) from None
    size = part.stat().st_size
    if size != file.size:
        part.unlink()
        raise FetchError(f"{size:,} bytes came, expected {file.size:,}")
    target = folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with part.open("rb") as handle:
        os.fsync(handle.fileno())
    part.replace(target)
    write_json(_state(file, folder, "json"), asdict(file))


def _append(store: Any, path: str, part: Path, file: StoredFile, track: Track) -> None:
    start = part.stat().st_size if part.exists() else 0
    with part.open("ab") as target:
        if start >= file.size:
            return
        with store.open(path, "rb", block_size=_BLOCK_BYTES) as source:
            source.seek(start)
            while block := source.read(_BLOCK_BYTES):
                start += len(block)
                if start > file.size:
                    raise FetchError(f"more than the {file.size:,} bytes that were listed come")
                target.write(block)
                track.advance((start >> 20) - ((start - len(block)) >> 20))


def _words(problem: Exception) -> str:
    text = str(problem).strip().split("\n", 1)[0]
    return without_secrets(f"{type(problem).__name__}: {text}"[:500])
