"""What lies in a folder of unknown data: record files by kind and shape, pictures, archives of pictures.

Bounded: a folder is listed up to MAX_FILES entries, and of each file only the beginning is read.
"""

import os
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path, PurePosixPath
from typing import Literal

from curation.fetch.archives import ZIP_DAMAGE
from curation.sources.tar_samples import tar_members

MAX_FILES = 50_000
MAX_MEMBERS = 5_000
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"})
_RECORD_SUFFIXES = frozenset({".json", ".jsonl", ".ndjson", ".parquet", ".tsv", ".csv", ".tar", ".lst"})
_ALIKE = 3
"""A name in so many folders is one file a folder of the same kind."""
_HEAD_BYTES = 4_096

Kind = Literal["json", "parquet", "webdataset", "delimited", "zip"]


@dataclass(frozen=True, slots=True)
class Listing:
    """Files below `root`, names relative to it. `is_cut` when there are more than were listed."""

    root: Path
    files: tuple[str, ...]
    is_cut: bool

    @property
    def pictures(self) -> frozenset[str]:
        """Names of the loose pictures."""
        return frozenset(name for name in self.files if is_picture(name))


def list_folder(root: Path) -> Listing:
    """The files below `root` in order of their names, links left out."""
    files = list(islice(_walk(root), MAX_FILES + 1))
    return Listing(root, tuple(files[:MAX_FILES]), len(files) > MAX_FILES)


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in sorted(names):
            path = Path(folder, name)
            below = path.relative_to(root).as_posix()
            if not name.startswith(".") and below.isprintable() and not path.is_symlink():
                yield below


def is_picture(name: str) -> bool:
    """Whether a file's name says that it is a picture."""
    return PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES


def kind_of(path: Path) -> Kind | None:
    """What a file holds, told by its first bytes; None for what cannot be records."""
    try:
        with path.open("rb") as handle:
            head = handle.read(_HEAD_BYTES)
    except OSError:
        return None
    if head.startswith(b"PAR1"):
        return "parquet"
    if head[257:262] == b"ustar":
        return "webdataset"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text or b"\0" in head or is_picture(path.name):
        return None
    return "json" if text[:1] in (b"{", b"[") else "delimited"


def record_groups(listing: Listing) -> list[tuple[str, ...]]:
    """Files that may hold records, those together that are of one kind by their names: in a folder, or one a folder."""
    names = [name for name in listing.files if PurePosixPath(name).suffix.lower() in _RECORD_SUFFIXES]
    often = Counter(PurePosixPath(name).name for name in names)
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in names:
        path = PurePosixPath(name)
        is_one_a_folder = often[path.name] >= _ALIKE
        groups["*" if is_one_a_folder else str(path.parent), path.name if is_one_a_folder else path.suffix].append(name)
    return [tuple(group) for group in groups.values()]


def patterns_for(files: Sequence[str], listing: Listing) -> list[str]:
    """Glob patterns that match exactly `files` of the listing: one pattern when there is one, or else their names."""
    if len(files) == 1:
        return [literal(files[0])]
    parts = [PurePosixPath(name).parts for name in files]
    if len({len(each) for each in parts}) == 1:
        columns = list(zip(*parts, strict=True))
        pattern = "/".join(_common(column) for column in columns)
        matched = {
            name for name in listing.files if PurePosixPath(name).match(pattern) and name.count("/") == pattern.count("/")
        }
        if matched == set(files):
            return [pattern]
    return [literal(name) for name in files]


def _common(names: Sequence[str]) -> str:
    if len(set(names)) == 1:
        return literal(names[0])
    start = _common_start(names)
    end = _common_start([name[len(start) :][::-1] for name in names])[::-1]
    return f"{literal(start)}*{literal(end)}"


def _common_start(names: Sequence[str]) -> str:
    alike = takewhile(lambda signs: len(set(signs)) == 1, zip(*names, strict=False))
    return "".join(signs[0] for signs in alike)


def literal(name: str) -> str:
    """A glob pattern that matches `name` and nothing else."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


def archives_of_pictures(listing: Listing) -> Mapping[str, frozenset[str]]:
    """The names of pictures in each zip or tar, for tars among their first members."""
    found: dict[str, frozenset[str]] = {}
    for name in listing.files:
        if PurePosixPath(name).suffix.lower() in (".zip", ".tar"):
            members = frozenset(member for member in _members(listing.root / name) if is_picture(member))
            if members:
                found[name] = members
    return found


def _members(path: Path) -> list[str]:
    """Names in an archive; of one that is damaged those before the damage."""
    names: list[str] = []
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                return archive.namelist()
        for member in islice(tar_members(path), MAX_MEMBERS):
            names.append(member.name.removeprefix("./"))
    except (tarfile.TarError, OverflowError, *ZIP_DAMAGE):
        return names
    return names
