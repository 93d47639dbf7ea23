"""Pictures on the web that the records of a part name: listed once for the records as they are, and fetched below the root."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from curation.catalog.spec import Part
from curation.fetch.hashes import remembered_hashes
from curation.fetch.picture_urls import fetch_pictures, forget_gone, picture_name
from curation.fingerprint import fingerprint
from curation.runtime.pool import Pool
from curation.sources.url_listing import list_urls, url_tasks
from curation.storage.store import Store

PICTURES = "pictures"


def fetched_pictures(
    source: str, root: Path, records: Sequence[str], part: Part, store: Store, pool: Pool
) -> tuple[Path, tuple[str, ...]]:
    """The folder of fetched pictures, and those in it that the records of a part name, sorted.

    Raises FetchError when so many did not come that a later run may get them.
    """
    folder = store.root / "upstream" / PICTURES
    urls = _named_urls(source, root, records, part, store, pool)
    fetch_pictures(urls, folder, pool.reporter)
    return folder, tuple(sorted(name for url in urls if (folder / (name := picture_name(url))).exists()))


def forget_pictures(source: str, store: Store) -> None:
    """Let the next ingestion ask again for the pictures of a source that were not there."""
    for path in _listings(source, store).glob("*/*.parquet"):
        forget_gone(pl.read_parquet(path)["url"].to_list(), store.root / "upstream" / PICTURES)


def _listings(source: str, store: Store) -> Path:
    return store.root / "cache" / "urls" / source


def _named_urls(source: str, root: Path, records: Sequence[str], part: Part, store: Store, pool: Pool) -> list[str]:
    """The URLs, sorted, each once. Records that were read for them before, by the same part, are not read again."""
    listings = _listings(source, store)
    files = [(name, root / name) for name in records]
    hashes = remembered_hashes(files, listings / "hashes.parquet", pool, label=f"hash {source}")
    said = part.model_dump(mode="json", exclude={"location"}, exclude_defaults=True)
    folder = listings / fingerprint([said, hashes["file"].to_list(), hashes["sha256"].to_list()])
    tasks = url_tasks(root, records, part, folder)
    pool.map(list_urls, tasks, label=f"list pictures of {source}")
    found: set[str] = set()
    for task in tasks:
        found.update(pl.read_parquet(task.target)["url"])
    return sorted(found)
