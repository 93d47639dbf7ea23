"""What a run works with: the catalog, the root and the pool, opened from plain settings that a schedule can hold."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import curation
from curation.catalog import Catalog, load_catalog
from curation.errors import ConfigurationError
from curation.runtime.pool import InProcessPool, Pool, RayPool
from curation.runtime.progress import reporter_for
from curation.store import Store

DEFAULT_ROOT = "lake"
DEFAULT_CATALOG = "catalog.yaml"
_PACKAGE = Path(curation.__file__).parent


@dataclass(frozen=True, slots=True)
class Job:
    """An opened catalog, root and pool."""

    catalog: Catalog
    store: Store
    pool: Pool


@contextmanager
def open_job(root: str, catalog: str, *, is_quiet: bool = False) -> Iterator[Job]:
    """A job that is the only writer of its root while the block runs; the pool ends with it.

    Raises CatalogError or StoreError when the catalog or root cannot be used.
    """
    job = Job(load_catalog(shipped_file(catalog)), Store.open(root), open_pool(is_quiet=is_quiet))
    try:
        with job.store.single_writer(job.pool.reporter.note):
            yield job
    finally:
        job.pool.close()


def open_pool(*, is_quiet: bool = False) -> Pool:
    """The pool that `CURATION_RUNTIME` names: `ray` (default) or `process`, one task after another in this process."""
    runtime = os.environ.get("CURATION_RUNTIME", "ray")
    reporter = reporter_for(sys.stderr, is_quiet=is_quiet)
    if runtime == "process":
        return InProcessPool(reporter)
    if runtime == "ray":
        return RayPool(reporter)
    raise ConfigurationError(f"CURATION_RUNTIME is '{runtime}'; valid: ray, process")


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
