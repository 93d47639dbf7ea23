"""Folders below `<root>/upstream` that are whole or not there, on this machine only: what is fetched can be fetched again."""

import os
import threading
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curation.shard_format import MANIFEST_NAME
from curation.storage.store import LATEST_NAME, read_object, write_json

_LOCKS: dict[str, threading.RLock] = defaultdict(threading.RLock)


def alone_in(folder: Path) -> threading.RLock:
    """A lock on what is fetched into `folder`: sources under way together may want the same, and one of them gets it."""
    return _LOCKS[str(folder)]


def is_whole(folder: Path) -> bool:
    """Whether everything that belongs into `folder` is there."""
    return (folder / MANIFEST_NAME).exists()


def make_whole(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Flush what is in `folder` to disk, then write the manifest, which makes it whole."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
    write_json(folder / MANIFEST_NAME, manifest)


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of a whole folder."""
    return read_object(folder / MANIFEST_NAME)


def point_to_newest(folder: Path) -> None:
    """Note beside a whole folder that it is the newest of its kind."""
    if newest(folder.parent) != folder:
        write_json(folder.parent / LATEST_NAME, {"folder": folder.name})


def newest(parent: Path) -> Path | None:
    """The newest whole folder below `parent`, or None when there is none."""
    pointer = parent / LATEST_NAME
    if not pointer.exists():
        return None
    folder = parent / str(read_object(pointer).get("folder"))
    return folder if is_whole(folder) else None
