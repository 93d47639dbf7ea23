"""Names that come from data, turned into paths that cannot leave their folder.

A snapshot in a Hugging Face cache is a folder of links into the `blobs` beside it; those links are followed, and no others.
"""

import os
from functools import lru_cache
from pathlib import Path, PurePosixPath

from curation.catalog.template import Unusable
from curation.errors import RejectReason


def relative_name(name: str) -> str:
    """`name` in a canonical form without leading `./`. Raises Unusable(path_escapes) when it is absolute or climbs."""
    path = PurePosixPath(name)
    has_drive = len(name) > 1 and name[1] == ":"
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or has_drive:
        raise Unusable(RejectReason.PATH_ESCAPES, f"'{name[:200]}' leaves its folder")
    return str(path)


def inside(root: Path, name: str) -> Path:
    """`root/name` with links followed. Raises Unusable(path_escapes) when that lies outside `root`."""
    real_root = os.path.realpath(root)
    real = os.path.realpath(os.path.join(real_root, relative_name(name)))  # noqa: PTH118
    if not _is_within(real, real_root):
        raise Unusable(RejectReason.PATH_ESCAPES, f"'{name[:200]}' is a link out of its folder")
    return Path(real)


def stays_inside(root: Path, path: Path) -> bool:
    """Whether `path`, links followed, lies below `root`."""
    return _is_within(os.path.realpath(path), os.path.realpath(root))


def _is_within(real: str, real_root: str) -> bool:
    if real == real_root or real.startswith(real_root + os.sep):
        return True
    blobs = _blobs(real_root)
    return blobs is not None and real.startswith(blobs + os.sep)


@lru_cache(maxsize=64)
def _blobs(real_root: str) -> str | None:
    """The folder of blobs that belongs to a snapshot of a Hugging Face cache, or None when `real_root` is in none."""
    for folder in (Path(real_root), *Path(real_root).parents):
        repository = folder.parent.parent
        if folder.parent.name == "snapshots" and "--" in repository.name:
            blobs = repository / "blobs"
            # The folder itself, not a link to anywhere.
            return str(blobs) if blobs.is_dir() and os.path.realpath(blobs) == str(blobs) else None
    return None
