"""Looking at the pictures of one archive in one forward pass: wanted members are examined as they pass by.

A pass serves every reader that wants pictures of the archive, such as the parts and sources that share it: each has results of
its own, the same as if it had read alone. They are named by the archive's content and the pictures wanted of it, so a later
attempt (after another archive was mended) reads no archive again that it has read. A member that is not wanted by its own name
but may be a lost picture in another case or folder is set aside undecoded; which of them are taken is decided when all archives
of the folder have passed.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pyarrow as pa

from curation.catalog.template import Unusable
from curation.errors import RejectReason
from curation.examiner import Examine
from curation.fetch.archives import Archive, MemberDamage, Reading, StreamedMember, stream_members
from curation.fetch.gunzip import Damage
from curation.imaging import MAX_FILE_BYTES, ImageFacts
from curation.sources.looking import Album, looking
from curation.sources.mending import base_key, find_moved, stem_key
from curation.storage.store import read_object, replacing, write_json, write_table

ASIDE = pa.schema([pa.field("name", pa.string()), pa.field("offset", pa.int64()), pa.field("num_bytes", pa.int64())])
"""Members set aside: `num_bytes` at `offset` of the file beside, or null where only the name was kept."""

MARGIN_BYTES = 1 << 20
DECODERS = 2


@dataclass(frozen=True, slots=True)
class ArchiveReader:
    """Who wants the refs listed in the table `wanted`; its results are `stem` with suffixes."""

    wanted: str
    stem: str
    max_pixels: int


@dataclass(frozen=True, slots=True)
class ArchiveTask:
    """The pass over `archive`, whose parts are absolute paths, for `readers`."""

    archive: Archive
    readers: tuple[ArchiveReader, ...]


def one_pass_each(tasks: Iterable[ArchiveTask]) -> list[ArchiveTask]:
    """The same readers in one task an archive, in order; those that have read it are left out."""
    readers: dict[Archive, dict[str, ArchiveReader]] = defaultdict(dict)
    for task in tasks:
        readers[task.archive] |= {reader.stem: reader for reader in task.readers if not is_read(reader.stem)}
    return [ArchiveTask(archive, tuple(found.values())) for archive, found in readers.items() if found]


def is_read(stem: str) -> bool:
    """Whether an archive was read before."""
    return Path(f"{stem}.json").exists()


def look_at_archive(task: ArchiveTask) -> None:
    """For each reader write `<stem>.parquet` and `.tar` (facts and pictures), `.names` and `.aside` (may-be-lost ones), then
    `.json`."""
    readers = [reader for reader in task.readers if not is_read(reader.stem)]
    if not readers:
        return
    reading = Reading()
    with ExitStack() as stack:
        threads = ThreadPoolExecutor(DECODERS, "decode")
        sorters = [_sorter_of(reader, stack, threads) for reader in readers]
        stack.enter_context(threads)  # ends before the albums do, whatever happens
        for member in stream_members(task.archive, Path("/"), reading):
            passing = _Passing(member, threads)
            for sorter in sorters:
                sorter.take(passing)
        for sorter in sorters:
            sorter.finish(reading)
    facts = {"archive": task.archive.name, "parts": list(task.archive.parts), "members": reading.num_members}
    for reader, sorter in zip(readers, sorters, strict=True):
        write_table(Path(f"{reader.stem}.names"), pa.Table.from_pylist(sorter.aside, schema=ASIDE))
        write_json(Path(f"{reader.stem}.json"), {**facts, "skipped": dict(reading.skipped), "damage": reading.damage})


def _sorter_of(reader: ArchiveReader, stack: ExitStack, threads: ThreadPoolExecutor) -> "_Sorter":
    """A sorter for one reader; what it writes takes its names when the stack ends well."""
    wanted = set(pl.read_parquet(reader.wanted)["ref"])
    album = stack.enter_context(looking(Path(f"{reader.stem}.parquet"), reader.max_pixels))
    aside = stack.enter_context(replacing(Path(f"{reader.stem}.aside")))
    return _Sorter(wanted, album, stack.enter_context(aside.open("wb")), reader.max_pixels)


class _Passing:
    """A member as it passes by: its bytes read once, and examined once, however many readers want it."""

    def __init__(self, member: StreamedMember, threads: ThreadPoolExecutor) -> None:
        self.name = member.name
        self.size = member.size
        self._member = member
        self._threads = threads
        self._data: bytes | Unusable | _Broken | None = None
        self._facts: dict[int, Future[ImageFacts]] = {}

    def data(self) -> bytes:
        """Its bytes. Raises Unusable, or _Broken where the archive ends inside."""
        if self._data is None:
            try:
                self._data = _bounded(self._member)
            except (Unusable, _Broken) as problem:
                self._data = problem
        if isinstance(self._data, bytes):
            return self._data
        raise self._data

    def facts(self, look: Examine, max_pixels: int) -> "Future[ImageFacts]":
        """What it shows, as `look` will find; its bytes must have been read."""
        if max_pixels not in self._facts:
            self._facts[max_pixels] = self._threads.submit(look, self.data(), max_pixels=max_pixels)
        return self._facts[max_pixels]


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

    def __init__(self, wanted: set[str], album: Album, handle: BinaryIO, max_pixels: int) -> None:
        self.aside: list[dict[str, object]] = []
        self._wanted = wanted
        self._album = album
        self._handle = handle
        self._max_pixels = max_pixels
        self._seen: set[str] = set()
        self._bases = Counter(base_key(ref) for ref in wanted)
        self._stems = {stem_key(ref) for ref in wanted}
        self._waiting: deque[_Waiting] = deque()
        self._passed = 0

    def take(self, member: _Passing) -> None:
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

    def _look(self, member: _Passing) -> None:
        try:
            data = member.data()
        except Unusable as problem:
            self._album.refuse(member.name, problem.reason, f"{member.name}: {problem.detail}")
        except _Broken:
            return  # the archive breaks here, which is said once for all that follows
        else:
            facts = member.facts(self._album.examine, self._max_pixels)
            self._waiting.append(_Waiting(member.name, data, self._passed, facts))
        self._seen.add(member.name)
        self._bases[base_key(member.name)] -= 1

    def _set_aside(self, member: _Passing) -> None:
        try:
            self._waiting.append(_Waiting(member.name, member.data(), self._passed, None))
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
            if name is not None and name in found:
                _take_again(ref, name, task.stems, album)
            elif name is not None and names[name][1]["offset"] is not None:
                stem, row = names[name]
                album.look(ref, lambda stem=stem, row=row: _bytes_at(f"{stem}.aside", row), is_moved=True)  # type: ignore[misc]
            elif damage:
                album.refuse(ref, RejectReason.ARCHIVE_DAMAGED, f"{ref}: {damage}")
            else:
                detail = f"{ref}: {task.lack or f'no such picture in {task.place}'}{where[ref].hint()}"
                album.refuse(ref, RejectReason.MISSING_IMAGE, detail)


def _take_again(ref: str, name: str, stems: Sequence[str], album: Album) -> None:
    """`ref` is `name` in another case, which a record names rightly: what was found there holds for both."""
    is_it = pl.col("ref") == name
    for stem in stems:
        rows = pl.read_parquet(f"{stem}.parquet").filter(is_it).to_dicts()
        if rows and rows[0]["reason"] is None:
            album.look(ref, lambda stem=stem, row=rows[0]: _bytes_at(f"{stem}.tar", row), is_moved=True)  # type: ignore[misc]
            return
        if rows:
            album.refuse(ref, RejectReason(rows[0]["reason"]), f"{ref}: {rows[0]['detail']}")
            return


def _aside(stem: str) -> Iterator[Mapping[str, object]]:
    return pl.read_parquet(f"{stem}.names").iter_rows(named=True)


def _bytes_at(path: str, row: Mapping[str, object]) -> bytes:
    with Path(path).open("rb") as handle:
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
