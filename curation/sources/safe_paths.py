"""Names that come from data, turned into paths that cannot leave their folder."""

import os
from pathlib import Path, PurePosixPath

from curation.errors import RejectReason
from curation.template import Unusable


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
    if real != real_root and not real.startswith(real_root + os.sep):
        raise Unusable(RejectReason.PATH_ESCAPES, f"'{name[:200]}' is a link out of its folder")
    return Path(real)
