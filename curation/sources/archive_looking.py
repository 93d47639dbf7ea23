"""Looking at the pictures of one archive in one forward pass: wanted members are examined as they pass by.

Results are named by the archive's content and the pictures wanted of it, so a later attempt (after another archive was mended)
reads no archive again that it has read. A member that is not wanted by its own name but may be a lost picture in another case
or folder is set aside undecoded; which of them are taken is decided when all archives of the folder have passed.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pyarrow as pa

from curation.errors import RejectReason
from curation.fetch.archives import Archive, MemberDamage, Reading, StreamedMember, stream_members
from curation.fetch.gunzip import Damage
from curation.imaging import MAX_FILE_BYTES, ImageFacts
from curation.sources.looking import Album, looking
from curation.sources.mending import base_key, find_moved, stem_key
from curation.store import read_object, replacing, write_json, write_table
from curation.template import Unusable

ASIDE = pa.schema([pa.field("name", pa.string()), pa.field("offset", pa.int64()), pa.field("num_bytes", pa.int64())])
"""Members set aside: `num_bytes` at `offset` of the file beside, or null where only the name was kept."""

MARGIN_BYTES = 1 << 20
DECODERS = 2


@dataclass(frozen=True, slots=True)
class ArchiveTask:
    """The pass over `archive`, below `root`, for the refs listed in the table `wanted`; results are `stem` with suffixes."""

    root: str
    archive: Archive
    wanted: str
    stem: str
    max_pixels: int


def is_read(stem: str) -> bool:
    """Whether an archive was read before."""
    return Path(f"{stem}.json").exists()


def look_at_archive(task: ArchiveTask) -> None:
    """Write `<stem>.parquet` and `.tar` (facts and pictures), `.names` and `.aside` (may-be-lost ones), then `.json`."""
    if is_read(task.stem):
        return
    wanted = set(pl.read_parquet(task.wanted)["ref"])
    reading = Reading()
    with ExitStack() as stack:
        album = stack.enter_context(looking(Path(f"{task.stem}.parquet"), task.max_pixels))
        aside = stack.enter_context(replacing(Path(f"{task.stem}.aside")))
        threads = stack.enter_context(ThreadPoolExecutor(DECODERS, "decode"))
        with aside.open("wb") as handle:
            sorter = _Sorter(wanted, album, handle, threads, task.max_pixels)
            for member in stream_members(task.archive, Path(task.root), reading):
                sorter.take(member)
            sorter.finish(reading)
    write_table(Path(f"{task.stem}.names"), pa.Table.from_pylist(sorter.aside, schema=ASIDE))
    facts = {"archive": task.archive.name, "parts": list(task.archive.parts), "members": reading.num_members}
    write_json(Path(f"{task.stem}.json"), {**facts, "skipped": dict(reading.skipped), "damage": reading.damage})


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A picture under examination, or a member set aside; `end` is how far the pass was after it."""

    name: str
    data: bytes
    end: int
    facts: "Future[ImageFacts] | None"


class _Sorter:
    """Members as they pass: examined, set aside or let go.

    A garbled stream gives wrong bytes for a while before anything shows it, so a member counts only when MARGIN_BYTES more
    have come, or the archive ended well. Meanwhile it is decoded by other threads.
    """

    def __init__(self, wanted: set[str], album: Album, handle: BinaryIO, threads: ThreadPoolExecutor, max_pixels: int) -> None:
        self.aside: list[dict[str, object]] = []
        self._wanted = wanted
        self._album = album
        self._handle = handle
        self._threads = threads
        self._max_pixels = max_pixels
        self._seen: set[str] = set()
        self._bases = Counter(base_key(ref) for ref in wanted)
        self._stems = {stem_key(ref) for ref in wanted}
        self._waiting: deque[_Waiting] = deque()
        self._passed = 0

    def take(self, member: StreamedMember) -> None:
        """One member. A second one of the same name is passed over, as no reader could tell them apart."""
        self._passed += member.size
        if member.name in self._wanted:
            if member.name not in self._seen:
                self._look(member)
        elif self._bases[base_key(member.name)] > 0:
            self._set_aside(member)
        elif stem_key(member.name) in self._stems:
            self.aside.append({"name": member.name})
        while self._waiting and self._passed - self._waiting[0].end >= MARGIN_BYTES:
            self._accept(self._waiting.popleft())

    def finish(self, reading: Reading) -> None:
        """Decide about the members that still wait."""
        if not reading.is_garbled:
            while self._waiting:
                self._accept(self._waiting.popleft())
        if reading.damage is not None:
            # What cannot be decoded in a damaged archive is its fault, and may be whole once it is mended.
            spoilt = {RejectReason.TRUNCATED_IMAGE.value, RejectReason.UNREADABLE_IMAGE.value}
            self._album.rows = [row for row in self._album.rows if row.get("reason") not in spoilt]

    def _look(self, member: StreamedMember) -> None:
        try:
            data = _bounded(member)
        except Unusable as problem:
            self._album.refuse(member.name, problem.reason, f"{member.name}: {problem.detail}")
        except _Broken:
            return  # the archive breaks here, which is said once for all that follows
        else:
            facts = self._threads.submit(self._album.examine, data, max_pixels=self._max_pixels)
            self._waiting.append(_Waiting(member.name, data, self._passed, facts))
        self._seen.add(member.name)
        self._bases[base_key(member.name)] -= 1

    def _set_aside(self, member: StreamedMember) -> None:
        try:
            self._waiting.append(_Waiting(member.name, _bounded(member), self._passed, None))
        except (Unusable, _Broken):
            return

    def _accept(self, waiting: _Waiting) -> None:
        if waiting.facts is None:
            self.aside.append({"name": waiting.name, "offset": self._handle.tell(), "num_bytes": len(waiting.data)})
            self._handle.write(waiting.data)
            return
        try:
            facts = waiting.facts.result()
        except Unusable as problem:
            self._album.refuse(waiting.name, problem.reason, f"{waiting.name}: {problem.detail}")
        else:
            self._album.store(waiting.name, waiting.data, facts)


class _Broken(Exception):
    """The archive ends inside a member."""


def _bounded(member: StreamedMember) -> bytes:
    if member.size > MAX_FILE_BYTES:
        raise Unusable(RejectReason.IMAGE_TOO_LARGE, f"{member.size} bytes; the limit is {MAX_FILE_BYTES}")
    try:
        return member.read()
    except MemberDamage as problem:
        raise Unusable(RejectReason.UNREADABLE_IMAGE, str(problem)) from None
    except Damage as problem:
        raise _Broken from problem


# --- After all archives of a folder have passed -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FolderTask:
    """The refs in `wanted` that none of the archives read as `stems` holds; results go to `done`.

    `place` is what the archives are called together; `lack` says why there are none.
    """

    wanted: str
    stems: tuple[str, ...]
    done: str
    max_pixels: int
    place: str
    lack: str | None = None


def settle_lost(task: FolderTask) -> None:
    """Find lost pictures among what was set aside, and give the others their reason."""
    if Path(task.done).exists():
        return
    wanted = pl.read_parquet(task.wanted)["ref"]
    found = {ref for stem in task.stems for ref in pl.read_parquet(f"{stem}.parquet", columns=["ref"])["ref"]}
    missing = [ref for ref in wanted if ref not in found]
    names = {str(row["name"]): (stem, row) for stem in reversed(task.stems) for row in _aside(stem)}
    where = find_moved(missing, set(wanted), [*names, *sorted(found)])
    damage = _damage(task)
    with looking(Path(task.done), task.max_pixels) as album:
        for ref in missing:
            name = where[ref].found
            if name is not None and names[name][1]["offset"] is not None:
                stem, row = names[name]
                album.look(ref, lambda stem=stem, row=row: _set_aside_bytes(stem, row), is_moved=True)  # type: ignore[misc]
            elif damage:
                album.refuse(ref, RejectReason.ARCHIVE_DAMAGED, f"{ref}: {damage}")
            else:
                detail = f"{ref}: {task.lack or f'no such picture in {task.place}'}{where[ref].hint()}"
                album.refuse(ref, RejectReason.MISSING_IMAGE, detail)


def _aside(stem: str) -> Iterator[Mapping[str, object]]:
    return pl.read_parquet(f"{stem}.names").iter_rows(named=True)


def _set_aside_bytes(stem: str, row: Mapping[str, object]) -> bytes:
    with Path(f"{stem}.aside").open("rb") as handle:
        handle.seek(int(str(row["offset"])))
        return handle.read(int(str(row["num_bytes"])))


def _damage(task: FolderTask) -> str:
    return "; ".join(
        f"archive {report['archive']} is damaged {report['damage']}"
        for report in archive_reports(task.stems)
        if report["damage"]
    )


def archive_reports(stems: Sequence[str]) -> list[dict[str, object]]:
    """What was met in each archive: archive, parts, members, skipped, damage."""
    return [read_object(Path(f"{stem}.json")) for stem in stems]
