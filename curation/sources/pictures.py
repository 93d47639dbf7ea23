"""Finding a record's pictures and fetching their bytes from where the publisher put them.

A picture is known by a *ref*, a short text that means the same to every task: a path below the source's root, a member of
an archive, a URL, a cell of a Parquet file, or a byte range of a tar.
"""

import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.catalog.spec import Images, Part, Text
from curation.catalog.template import Path as FieldPath
from curation.catalog.template import Record, Template, Unusable
from curation.errors import RejectReason
from curation.fetch.archives import ZIP_DAMAGE
from curation.fetch.picture_urls import read_picture
from curation.imaging import MAX_FILE_BYTES
from curation.sources.records import Member, is_text_member
from curation.sources.safe_paths import inside, relative_name
from curation.sources.tar_samples import tar_members

Refs = list[str] | Unusable
_NO_NAME = ("", "none", "nan", "null")
_PICTURE_EXTENSIONS = ("jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff")
_NUMBER_FIELD = "i"


def picture_refs(records: Sequence[Record], positions: Sequence[int], file: str, part: Part) -> list[Refs]:
    """The refs of each record's pictures, in order, or why they cannot be named."""
    images = part.images
    if images is None:
        return [[] for _ in records]
    refs = [_refs(record, position, file, images) for record, position in zip(records, positions, strict=True)]
    return [_checked(found, images) for found in refs]


def _checked(refs: Refs, images: Images) -> Refs:
    if isinstance(refs, Unusable):
        return refs
    if not refs and not images.optional:
        return Unusable(RejectReason.MISSING_IMAGE, "the record names no image")
    if len(refs) > images.limit:
        return Unusable(RejectReason.TOO_MANY_IMAGES, f"{len(refs)} images; the limit is {images.limit}")
    return refs


def _refs(record: Record, position: int, file: str, images: Images) -> Refs:
    if images.bytes is not None:
        return [f"{file}#{position}#{number}" for number in range(int(record.get("_num_pictures", 0)))]
    if images.members is not None:
        return _member_refs(record, file, images.members)
    try:
        return [ref for name in _names(record, images) if (ref := _ref(name, images)) is not None]
    except Unusable as problem:
        is_absent = problem.reason is RejectReason.MISSING_FIELD
        if is_absent and images.optional:
            return []
        return Unusable(RejectReason.MISSING_IMAGE, problem.detail) if is_absent else problem


def _member_refs(record: Record, file: str, extensions: Sequence[str]) -> Refs:
    wanted = tuple(extensions) or _PICTURE_EXTENSIONS
    members: Sequence[Member] = record.get("_members", ())
    found = [m for m in members if m.name.lower().endswith(wanted) and not is_text_member(m.name)]
    return [f"{file}#{member.offset}#{member.size}#.{member.name.replace('#', '_')}" for member in found]


def _names(record: Record, images: Images) -> list[str]:
    path = images.path if images.path is not None else images.url
    assert path is not None and not isinstance(path, Text)
    if images.count is not None:
        template = Template(path if isinstance(path, str) else path[0])
        return [template.render({**record, _NUMBER_FIELD: number}) for number in range(images.count)]
    if isinstance(path, list):
        return [Template(text).render(record) for text in path]
    if "{" in path:
        return [Template(path).render(record)]
    value = FieldPath.parse(path).get(record)
    if value is None:
        raise Unusable(RejectReason.MISSING_FIELD, f"field '{path}' is absent or null")
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in values):
        raise Unusable(RejectReason.UNSUPPORTED_VALUE, f"field '{path}' holds what is no image path")
    return values


def _ref(name: str, images: Images) -> str | None:
    """The ref of a picture called `name` by its record; None where publishers write "None" or "nan" for no picture."""
    if name.strip().lower() in _NO_NAME:
        return None
    if images.url is not None:
        return name.strip()
    relative = relative_name(name.strip())
    if images.strip is not None:
        return relative.removeprefix(f"{images.strip.strip('/')}/")
    return relative if images.folder in (None, ".") else f"{images.folder}/{relative}"


# --- Fetching -----------------------------------------------------------------------------------------------------------


def fetch(root: Path, ref: str, images: Images) -> bytes:
    """The bytes of a picture as published. Raises Unusable(missing_image | path_escapes | image_too_large).

    Pictures lie below `root`; those at URLs were fetched into it.
    """
    if images.url is not None:
        return read_picture(root, ref)
    if images.bytes is not None:
        return _from_parquet(root, ref, images.bytes)
    if images.members is not None:
        return _from_range(root, ref)
    if images.zip is not None:
        return _from_zip(str(inside(root, images.packed[0])), ref)
    if images.tar is not None:
        return _from_tar(inside(root, images.packed[0]), ref)
    return _from_folder(inside(root, ref), ref)


def _missing(ref: str, where: str) -> Unusable:
    return Unusable(RejectReason.MISSING_IMAGE, f"no picture '{ref}' in {where}")


def _bounded(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise Unusable(RejectReason.IMAGE_TOO_LARGE, f"{size} bytes; the limit is {MAX_FILE_BYTES}")


def _from_folder(path: Path, ref: str) -> bytes:
    try:
        if not path.is_file():
            raise _missing(ref, "the source's folder")
        _bounded(path.stat().st_size)
        return path.read_bytes()
    except OSError as problem:
        raise Unusable(RejectReason.MISSING_IMAGE, f"'{ref}' cannot be read: {problem.strerror}") from None


def _from_range(root: Path, ref: str) -> bytes:
    file, offset, size, _ = ref.rsplit("#", 3)
    _bounded(int(size))
    with inside(root, file).open("rb") as handle:
        handle.seek(int(offset))
        return handle.read(int(size))


@lru_cache(maxsize=8)
def _open_zip(path: str, _modified_ns: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _from_zip(path: str, ref: str) -> bytes:
    try:
        archive = _open_zip(path, os.stat(path).st_mtime_ns)  # noqa: PTH116
    except FileNotFoundError:
        raise _missing(ref, f"the archive {Path(path).name}, which is not there") from None
    except ZIP_DAMAGE as problem:
        raise Unusable(RejectReason.ARCHIVE_DAMAGED, f"archive {Path(path).name} is damaged: {problem}") from None
    try:
        info = archive.getinfo(ref)
        _bounded(info.file_size)
        with archive.open(info) as member:
            return member.read(info.file_size)
    except KeyError:
        raise _missing(ref, f"the archive {Path(path).name}") from None
    except ZIP_DAMAGE as problem:
        raise Unusable(RejectReason.UNREADABLE_IMAGE, f"'{ref}' in {Path(path).name}: {problem}") from None


@lru_cache(maxsize=8)
def _tar_index(path: str, _modified_ns: int) -> tuple[Mapping[str, Member], str | None]:
    """Members by name, and what is wrong with the archive after them."""
    found: dict[str, Member] = {}
    try:
        for member in tar_members(Path(path)):
            found[member.name.removeprefix("./")] = member
    except (tarfile.TarError, EOFError, OverflowError) as problem:
        return found, f"archive {Path(path).name} is damaged after {len(found)} members: {problem}"
    return found, None


def _from_tar(path: Path, ref: str) -> bytes:
    try:
        members, damage = _tar_index(str(path), path.stat().st_mtime_ns)
    except OSError:
        raise _missing(ref, f"the archive {path.name}, which is not there") from None
    member = members.get(ref)
    if member is None and damage is not None:
        raise Unusable(RejectReason.ARCHIVE_DAMAGED, damage)
    if member is None:
        raise _missing(ref, f"the archive {path.name}")
    return read_member(path, member)


def read_member(path: Path, member: Member) -> bytes:
    """The content of a tar's member. Raises Unusable(image_too_large)."""
    _bounded(member.size)
    with path.open("rb") as handle:
        handle.seek(member.offset)
        return handle.read(member.size)


def first_in_tar(path: Path, names: Iterable[str]) -> dict[str, Member]:
    """Where those of `names` lie in a tar, which is read only until all of them were met."""
    missing = set(names)
    found: dict[str, Member] = {}
    try:
        for member in tar_members(path) if missing else ():
            name = member.name.removeprefix("./")
            if name in missing:
                found[name] = member
                missing.discard(name)
            if not missing:
                break
    except (tarfile.TarError, OSError, EOFError, OverflowError):
        return found
    return found


def picture_names(root: Path, images: Images) -> Iterator[str]:
    """The pictures that there are, named as refs name them: to look for those that lie elsewhere than records say."""
    if images.zip is not None or images.tar is not None:
        path = inside(root, images.packed[0])
        try:
            modified = path.stat().st_mtime_ns
            names = _open_zip(str(path), modified).namelist() if images.zip else list(_tar_index(str(path), modified)[0])
        except ZIP_DAMAGE:
            return
        yield from (name for name in names if not name.endswith("/"))
    elif images.path is not None and not images.archives:
        for folder, folders, files in os.walk(root / (images.folder or ".")):
            folders.sort()
            below = Path(folder).relative_to(root)
            yield from ((below / name).as_posix() for name in files)


def _from_parquet(root: Path, ref: str, column: str) -> bytes:
    file, row, number = ref.rsplit("#", 2)
    path = inside(root, file)
    first, values = _row_group_holding(str(path), path.stat().st_mtime_ns, column, int(row))
    value: Any = values[int(row) - first].as_py()
    value = value[int(number)] if isinstance(value, list) else value
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes) or not data:
        raise Unusable(RejectReason.MISSING_IMAGE, f"row {row} of {file} holds no image bytes in '{column}'")
    _bounded(len(data))
    return data


def _row_group_holding(path: str, modified_ns: int, column: str, row: int) -> tuple[int, pa.ChunkedArray]:
    first = 0
    for group, num_rows in enumerate(_row_group_sizes(path, modified_ns)):
        if row < first + num_rows:
            return first, _group_column(path, modified_ns, column, group)
        first += num_rows
    raise Unusable(RejectReason.MISSING_IMAGE, f"no row {row} in {Path(path).name}")


@lru_cache(maxsize=64)
def _row_group_sizes(path: str, _modified_ns: int) -> tuple[int, ...]:
    metadata = pq.read_metadata(path)
    return tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))


@lru_cache(maxsize=1)
def _group_column(path: str, _modified_ns: int, column: str, group: int) -> pa.ChunkedArray:
    with pq.ParquetFile(path) as parquet:
        return parquet.read_row_group(group, columns=[column]).column(column)
