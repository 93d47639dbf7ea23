"""The second pass of ingestion as a whole: every picture that a part's records name, looked at where it lies.

Loose pictures and those in archives that can be read at any place are looked at in groups of refs; other archives as streams,
one pass each. Then lost ones are looked for. What was read of an archive is kept under the root as long as any archive of the
source is damaged: when that one is mended, the others need not be read again.
"""

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from curation.catalog.images import Images
from curation.errors import RejectReason
from curation.fetch.archives import Archive, PictureArchives
from curation.fingerprint import fingerprint
from curation.runtime.pool import Pool
from curation.sources.archive_looking import (
    ArchiveReader,
    ArchiveTask,
    FolderTask,
    archive_reports,
    look_at_archive,
    one_pass_each,
    settle_lost,
)
from curation.sources.looking import LookTask, look_at_pictures, looked_path
from curation.sources.mending import find_moved
from curation.sources.pictures import picture_names
from curation.storage.store import Store, replacing
from curation.upstream.inputs import PartInputs

VERSION = 5
MIN_LOOK_PICTURES, MAX_LOOK_PICTURES = 64, 1_024
TASKS_A_PART = 100_000


@dataclass(slots=True)
class PicturePass:
    """The pictures of one source. `hashes`: SHA-256 of the source's files by `<part>/<name>`."""

    source: str
    hashes: Mapping[str, str]
    store: Store
    work: Path
    pool: Pool
    reports: list[dict[str, Any]] = field(default_factory=list)

    def look(self, number: int, inputs: PartInputs, refs: pl.Series) -> list[Path]:
        """Look at the pictures of part `number`, named by `refs` (sorted, each once); returns where their facts are."""
        images = inputs.part.images
        assert images is not None
        first = number * TASKS_A_PART
        if inputs.archives or images.archives:
            return self._in_archives(number, first, inputs.archives, images, refs)
        return self._at_place(first, inputs.picture_root or inputs.root, images, refs)

    # --- Loose pictures, and archives that can be read at any place ------------------------------------------------------

    def _at_place(self, first: int, root: Path, images: Images, refs: pl.Series) -> list[Path]:
        groups = _groups(refs)
        looks = [LookTask(str(root), images, tuple(group), str(self.work), first + n) for n, group in enumerate(groups)]
        self.pool.map(look_at_pictures, looks, label=f"look at pictures of {self.source}")
        looked = [looked_path(self.work, task.number) for task in looks]
        if images.path is None:
            return looked
        missing = _missing(looked) if looked else {}
        if not missing:
            return looked
        where = find_moved(list(missing), set(refs), picture_names(root, images))
        lost = [(ref, where[ref].found, detail + where[ref].hint()) for ref, detail in missing.items()]
        after = [
            LookTask(
                str(root), images, (), str(self.work), first + len(looks) + n, tuple(lost[start : start + MAX_LOOK_PICTURES])
            )
            for n, start in enumerate(range(0, len(lost), MAX_LOOK_PICTURES))
        ]
        self.pool.map(look_at_pictures, after, label=f"look for lost pictures of {self.source}")
        return looked + [looked_path(self.work, task.number) for task in after]

    # --- Archives read as streams ---------------------------------------------------------------------------------------

    def _in_archives(
        self, number: int, first: int, groups: Sequence[PictureArchives], images: Images, refs: pl.Series
    ) -> list[Path]:
        folders: list[FolderTask] = []
        tasks: list[ArchiveTask] = []
        for n, (group, wanted) in enumerate(_by_archives(groups, refs)):
            reads = self._reads_of(number, group, wanted, images)
            stems = tuple(task.readers[0].stem for task in reads)
            tasks += reads
            names = ", ".join(archive.name for archive in group.archives)
            done = str(looked_path(self.work, first + n))
            folders.append(FolderTask(self._wanted(wanted)[0], stems, done, images.max_pixels, names, group.lack))
        look_at_archives(tasks, self.pool, self.source)
        self.pool.map(settle_lost, folders, label=f"look for lost pictures of {self.source}")
        read = [stem for folder in folders for stem in folder.stems]
        self.reports += archive_reports(read)
        return [Path(f"{stem}.parquet") for stem in read] + [Path(folder.done) for folder in folders]

    def archive_reads(self, number: int, inputs: PartInputs, refs: pl.Series) -> list[ArchiveTask]:
        """The passes that the pictures of part `number` take over archives which are streams."""
        images = inputs.part.images
        if images is None or not (inputs.archives or images.archives):
            return []
        groups = _by_archives(inputs.archives, refs)
        return [task for group, wanted in groups for task in self._reads_of(number, group, wanted, images)]

    def _reads_of(self, number: int, group: PictureArchives, wanted: pl.Series, images: Images) -> list[ArchiveTask]:
        table, digest = self._wanted(wanted)
        stems = [self._stem(number, archive, digest, images) for archive in group.archives]
        return [
            ArchiveTask(archive, (ArchiveReader(table, stem, images.max_pixels),))
            for archive, stem in zip(group.archives, stems, strict=True)
        ]

    @property
    def _cache(self) -> Path:
        return self.store.root / "cache" / "looks" / self.source

    def _wanted(self, refs: pl.Series) -> tuple[str, str]:
        """A table of refs, named by what it holds, and that name."""
        digest = hashlib.sha256("\0".join(refs).encode()).hexdigest()[:32]
        self._cache.mkdir(parents=True, exist_ok=True)
        path = self._cache / f"wanted-{digest}.parquet"
        if not path.exists():
            with replacing(path) as temporary:
                refs.rename("ref").to_frame().write_parquet(temporary)
        return str(path), digest

    def _stem(self, number: int, archive: Archive, wanted: str, images: Images) -> str:
        """Where the results of an archive's pass lie: named by its bytes, what is wanted of it, and how it is looked at."""
        content = [self.hashes[f"{number}/{name}"] for name, _ in archive.named_parts()]
        name = fingerprint([VERSION, archive.name, content, archive.lack, wanted, images.max_pixels])
        return str(self._cache / name)

    @property
    def is_incomplete(self) -> bool:
        """Whether any archive was damaged, so that a later run may find more."""
        return any(report["damage"] for report in self.reports)

    def finish(self) -> None:
        """Forget what was read of archives, unless a later run will want it."""
        if not self.is_incomplete:
            shutil.rmtree(self._cache, ignore_errors=True)


def look_at_archives(reads: Sequence[ArchiveTask], pool: Pool, whose: str) -> None:
    """Read archives, each once for all that want pictures of it; what was read before is not read again."""
    pool.map(look_at_archive, one_pass_each(reads), label=f"look at pictures of {whose}")


def _groups(refs: pl.Series) -> list[list[str]]:
    """Refs in groups whose size follows from their number alone."""
    size = min(MAX_LOOK_PICTURES, max(MIN_LOOK_PICTURES, len(refs) // 64))
    return [refs[start : start + size].to_list() for start in range(0, len(refs), size)]


def _missing(looked: Sequence[Path]) -> dict[str, str]:
    """Refs of pictures that are not there, in order, each with its detail."""
    is_missing = pl.col("reason") == RejectReason.MISSING_IMAGE.value
    facts = pl.concat([pl.read_parquet(path, columns=["ref", "reason", "detail"]).filter(is_missing) for path in looked])
    return dict(facts.select("ref", "detail").iter_rows())


def _by_archives(groups: Sequence[PictureArchives], refs: pl.Series) -> list[tuple[PictureArchives, pl.Series]]:
    """Which refs are wanted of which archives; refs of a folder without archives too."""
    by_folder = {group.folder: group for group in groups}
    wanted: dict[str, list[str]] = defaultdict(list)
    for ref in refs:
        folder = "" if "" in by_folder else ref.split("/", 1)[0] if "/" in ref else ""
        wanted[folder].append(ref)
    return [
        (by_folder.get(folder) or PictureArchives(folder, (), "the release has no archive for it"), pl.Series("ref", found))
        for folder, found in sorted(wanted.items())
    ]
