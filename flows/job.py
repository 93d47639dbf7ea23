"""What a run works with: the catalog, the root and the pool, opened from plain settings that a schedule can hold."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import curation
from curation.catalog.file import load_catalog
from curation.catalog.spec import Catalog
from curation.run_log import RunLog, run_log
from curation.runtime.pool import InProcessPool, Pool, RayPool
from curation.runtime.progress import reporter_for
from curation.runtime.settings import runtime_settings
from curation.steps.step import Artefact
from curation.storage.store import Store, address, is_published, read_manifest

DEFAULT_ROOT = "lake"
DEFAULT_CATALOG = "catalog.yaml"
_PACKAGE = Path(curation.__file__).parent
_WORTH_WORKERS_BYTES = 4 << 30
"""Shards of less are read by one process about as soon as Ray's workers are up."""


@dataclass(frozen=True, slots=True)
class Job:
    """An opened catalog, root and pool, and the log of the run that opened them."""

    catalog: Catalog
    store: Store
    pool: Pool
    log: RunLog | None = None

    def step(self, name: str, of: str, work: Callable[[], Artefact]) -> Artefact:
        """What `work` gives, noted in the run's log."""
        return work() if self.log is None else self.log.step(name, of, work)


@contextmanager
def open_job(root: str, catalog: str, *, is_quiet: bool = False, originals: Sequence[str] = ()) -> Iterator[Job]:
    """A job that is the only writer of its root while the block runs; the pool ends with it.

    Where it computes is for the runtime settings to say. Raises ConfigurationError when they, the catalog or the root cannot
    be used.
    """
    known, store = load_catalog(shipped_file(catalog), originals), Store.open(root)
    pool = open_pool(store.root, known.local_roots(), is_quiet=is_quiet)
    try:
        with store.single_writer(pool.reporter.note):
            yield Job(known, store, pool)
    finally:
        pool.close()


@contextmanager
def logged_job(
    command: str, arguments: Mapping[str, Any], root: str, catalog: str, *, is_quiet: bool, originals: Sequence[str] = ()
) -> Iterator[Job]:
    """A job whose run leaves a log under the root: what it was asked, its steps, and how it ended."""
    with open_job(root, catalog, is_quiet=is_quiet, originals=originals) as job, run_log(job.store, command, arguments) as log:
        yield replace(job, log=log)


def open_pool(root: Path, folders: Sequence[Path] = (), *, is_quiet: bool = False) -> Pool:
    """The pool that the runtime settings name, for tasks whose files lie at `root` and `folders`."""
    settings = runtime_settings()
    reporter = reporter_for(sys.stderr, is_quiet=is_quiet)
    if settings.runtime == "process":
        return InProcessPool(reporter)
    return RayPool(reporter, settings, root=root, folders=folders)


@contextmanager
def verifying_pool(release: Path, store: Store, *, is_quiet: bool = False) -> Iterator[Pool]:
    """The pool to verify a release with: this process, or the runtime's workers where there is much to read.

    A release in object storage is verified on a copy that comes over the network and lies on this machine alone.
    """
    is_here = address(release) == str(release)
    is_large = is_here and is_published(release) and read_manifest(release).get("num_bytes", 0) >= _WORTH_WORKERS_BYTES
    pool = open_pool(store.root, is_quiet=is_quiet) if is_large else InProcessPool(reporter_for(sys.stderr, is_quiet=is_quiet))
    try:
        yield pool
    finally:
        pool.close()


def shipped_file(name: str) -> Path:
    """`name` as given when it exists; else the file of that name that came with the package (catalog, mixtures)."""
    path = Path(name)
    if path.exists() or path.is_absolute():
        return path
    for folder in (_PACKAGE.parent, _PACKAGE / "shipped"):
        if (folder / "catalog.yaml").exists() and (folder / name).exists():
            return folder / name
    return path


def mixture_file(text: str) -> tuple[Path, str | None]:
    """A mixture's file, and its stage where `text` reads `FILE#STAGE`."""
    path = shipped_file(text)
    if path.exists() or "#" not in text:
        return path, None
    name, _, stage = text.rpartition("#")
    return shipped_file(name), stage
