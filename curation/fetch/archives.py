"""Which files make an archive, and its members as one forward stream that trusts nothing in it.

Publishers split large archives into parts (`x.tar.gz_part1` .. `_part12`, `_part_aa` ..) that are one stream when joined, so a
damaged or missing part ends the stream there: members before it are given whole, and the damage is told afterwards. Nothing is
unpacked to disk, no name from an archive is used as a path, and neither headers nor decompression can claim unbounded memory.
"""

import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from curation.fetch.gunzip import Beyond, Damage, Garbled, Gunzip
from curation.fetch.local_zip import local_zip_members
from curation.fetch.streams import Content, ForwardFile, JoinedFile, Packed
from curation.shard_format import BLOCK_BYTES, TarMember

_PART = re.compile(r"^(?P<archive>.+?)[._-]part[._-]?(?P<number>\d+|[a-z]{1,3})$", re.IGNORECASE)
_SKIP_BYTES = 1 << 20
ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, RuntimeError, ValueError)
"""What zipfile raises for what is in a file. NotImplementedError is a RuntimeError, a name that is no UTF-8 a ValueError."""

_OTHERS = "the others"


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive called `name` and the files whose bytes, one after the other, are it.

    `lack` says what is known to be wrong before it is read: a part that is missing or could not be had.
    """

    name: str
    parts: tuple[str, ...]
    lack: str | None = None

    def below(self, root: Path) -> "Archive":
        """The archive with the absolute paths of its parts."""
        return Archive(self.name, tuple(str(root / part) for part in self.parts), self.lack)

    def named_parts(self) -> list[tuple[str, str]]:
        """A name for each part that says nothing of where it lies, and its path."""
        if len(self.parts) == 1 and PurePosixPath(self.parts[0]).name == PurePosixPath(self.name).name:
            return [(self.name, self.parts[0])]
        return [(f"{self.name}/{PurePosixPath(part).name}", part) for part in self.parts]


@dataclass(frozen=True, slots=True)
class PictureArchives:
    """The archives that hold the pictures whose paths begin with `folder` (all pictures when empty).

    `lack` says why there are none. The parts of these archives are absolute paths.
    """

    folder: str
    archives: tuple[Archive, ...]
    lack: str | None = None

    @classmethod
    def of_part(cls, archives: Sequence[Archive], lacks: Iterable[str]) -> "PictureArchives":
        """Those of all pictures of a part, of which `lacks` could not be had: what those hold is lost with them."""
        there = [archive for archive in archives if archive.name != _OTHERS]
        lack = "; ".join([*(archive.lack or "" for archive in archives if archive.name == _OTHERS), *lacks]) or None
        if there and lack:
            there.append(Archive(_OTHERS, (), lack))
        return cls("", tuple(there), None if there else lack)


@dataclass(slots=True)
class Reading:
    """What a pass over an archive met besides members: how many, what was passed over, and where it broke."""

    num_members: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    damage: str | None = None
    is_garbled: bool = False
    """Whether the last members before the damage may be wrong although nothing showed it."""
    is_beyond: bool = False
    """Whether the pass ended only because no more was to be read."""


@dataclass(frozen=True, slots=True)
class StreamedMember:
    """A regular file in an archive: its name in canonical relative form, its size, and its bytes on demand."""

    name: str
    size: int
    content: Content

    def read(self) -> bytes:
        """All bytes; only before the next member is asked for. Raises Damage when the archive breaks inside."""
        data = self.content.read(self.size)
        if len(data) != self.size:
            raise Damage(f"member '{self.name}' has {len(data)} of its {self.size} bytes")
        return data


# --- Which files belong together ----------------------------------------------------------------------------------------


def group_archives(names: Sequence[str]) -> list[Archive]:
    """Files as archives: parts of one archive joined in numeric (or alphabetic) order, each other file by itself.

    Gaps in the numbering are known as a lack: what follows a gap cannot be read.
    """
    grouped: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        match = _PART.match(name)
        archive, number = (match["archive"], _part_number(match["number"])) if match else (name, 0)
        grouped.setdefault(archive if match else name, []).append((number, name))
    return [_joined(name, sorted(parts)) for name, parts in sorted(grouped.items())]


def _part_number(text: str) -> int:
    if text.isdigit():
        return int(text)
    number = 0
    for letter in text.lower():
        number = number * 26 + ord(letter) - ord("a")
    return number


def _joined(name: str, parts: Sequence[tuple[int, str]]) -> Archive:
    first = parts[0][0]
    if first > 1:
        return Archive(name, (), f"its first part is missing (the first there is '{PurePosixPath(parts[0][1]).name}')")
    for place, (number, _) in enumerate(parts):
        if number != first + place:
            before = PurePosixPath(parts[place - 1][1]).name
            return Archive(name, tuple(part for _, part in parts[:place]), f"the part after '{before}' is missing")
    return Archive(name, tuple(part for _, part in parts))


# --- Members ------------------------------------------------------------------------------------------------------------


def stream_members(archive: Archive, root: Path, reading: Reading) -> Iterator[StreamedMember]:
    """The regular files of an archive below `root`, in its order. Never raises for what is inside: see `reading.damage`.

    Links, devices and names that are absolute or climb are passed over and counted in `reading.skipped`.
    """
    yield from members_of(lambda: JoinedFile([root / part for part in archive.parts]), archive, reading)


def members_of(
    opened: Callable[[], AbstractContextManager[Packed]], archive: Archive, reading: Reading
) -> Iterator[StreamedMember]:
    """As `stream_members`, of an archive whose bytes `opened` gives."""
    try:
        with opened() as joined:
            for member in _members(joined, archive, reading):
                if (name := _safe_name(member.name)) is None:
                    reading.skipped["unsafe name"] += 1
                    continue
                reading.num_members += 1
                yield StreamedMember(name, member.size, member.content)
    except (Damage, tarfile.TarError, *ZIP_DAMAGE) as problem:
        detail = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        reading.damage = f"after {reading.num_members} members: {archive.lack or detail}"
        reading.is_garbled = isinstance(problem, Garbled)
        reading.is_beyond = isinstance(problem, Beyond)
        return
    if archive.lack is not None:
        reading.damage = f"after {reading.num_members} members: {archive.lack}"


def _safe_name(name: str) -> str | None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        return None
    return str(path)


def _members(joined: Packed, archive: Archive, reading: Reading) -> Iterator[StreamedMember]:
    head = joined.peek(4)
    if not head:
        raise Damage(archive.lack or "it is empty")
    if head[:2] == b"\x1f\x8b":
        unpacked = Gunzip(joined)
        yield from _tar_members(ForwardFile(unpacked), reading)
        while unpacked.read(_SKIP_BYTES):  # the checksum stands at the very end
            pass
    elif head[:2] == b"PK":
        if not isinstance(joined, io.IOBase):
            raise Beyond("it is a zip, which cannot be read from its beginning only")
        yield from _zip_members(joined, archive, reading)
    else:
        yield from _tar_members(ForwardFile(joined), reading)


def _tar_members(stream: ForwardFile, reading: Reading) -> Iterator[StreamedMember]:
    try:
        with tarfile.TarFile(fileobj=stream, mode="r", errors="replace", tarinfo=TarMember) as tar:  # type: ignore[arg-type]
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # a tar of a million pictures is no list of a million headers
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    reading.skipped["link" if info.islnk() or info.issym() else "special file"] += 1
                    continue
                stream.expect_at(info.offset_data)
                yield StreamedMember(info.name, info.size, stream)
    except (tarfile.ReadError, OverflowError) as problem:
        raise Garbled(f"{problem} (at byte {stream.tell():,} of the unpacked stream)") from None
    # tarfile takes a damaged header for the end: the real end is a block of zeros.
    if stream.last_read != bytes(BLOCK_BYTES):
        kind = Garbled if stream.last_read else Damage
        raise kind(f"no header and no end mark before byte {stream.tell():,} of the unpacked stream: damaged or cut short")


def _zip_members(joined: "io.IOBase", archive: Archive, reading: Reading) -> Iterator[StreamedMember]:
    try:
        directory = zipfile.ZipFile(joined)
    except ZIP_DAMAGE as problem:
        joined.seek(0)
        yield from (StreamedMember(name, len(data), io.BytesIO(data)) for name, data in local_zip_members(joined))
        raise Damage(f"its directory is missing or damaged ({problem}): cut short") from None
    with directory:
        for info in sorted(directory.infolist(), key=lambda info: info.header_offset):
            kind = info.external_attr >> 16 & 0o170000
            if info.filename.endswith("/"):  # is_dir() fails on a name of no letters
                continue
            if kind not in (0, 0o100000):
                reading.skipped["link" if kind == 0o120000 else "special file"] += 1
                continue
            yield StreamedMember(info.filename, info.file_size, _ZipContent(directory, info))


@dataclass(frozen=True, slots=True)
class _ZipContent:
    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, whatever the entry decompresses to."""
        try:
            with self.archive.open(self.info) as member:
                return member.read(size)
        except ZIP_DAMAGE as problem:
            raise MemberDamage(f"member '{self.info.filename}': {problem}") from None


class MemberDamage(Damage):
    """One member that cannot be read where the others still can."""
