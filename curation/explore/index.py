"""The search index of a release: one SQLite file with every sample and rejected record of its sources, made once.

Texts are indexed by word (FTS5, contentless: texts themselves stay in Parquet, but for a short excerpt). Source, category,
verdict and reason are words of a second indexed column, so a search with filters is one intersection of posting lists,
however common the words or rare the filters are.
"""

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl

from curation.runtime.progress import Reporter
from curation.shard_format import IMAGE_MARKER, VERDICTS_NAME
from curation.storage.store import Store, latest, read_manifest, replacing

VERSION = 1
EXCERPT_CHARS = 240
REJECTED = "rejected"
_ROWS_AT_ONCE = 20_000
_SCHEMA = """
CREATE TABLE facet (token TEXT PRIMARY KEY, kind TEXT, value TEXT, num INTEGER);
CREATE TABLE row (
    number INTEGER PRIMARY KEY, id TEXT, source TEXT, category TEXT, verdict TEXT, reason TEXT, twin_id TEXT,
    question TEXT, answer TEXT, num_images INTEGER, num_tokens INTEGER, file TEXT, place INTEGER
);
CREATE VIRTUAL TABLE words USING fts5(text, facets, content='', prefix='2 3 4', tokenize='unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE vocabulary USING fts5vocab(words, 'row');
"""
_INDEXES = """
CREATE UNIQUE INDEX row_id ON row(id);
CREATE INDEX row_twin ON row(twin_id) WHERE twin_id IS NOT NULL;
"""
_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af])")


def spaced(text: str) -> str:
    """`text` with each sign of a script without spaces as a word of its own, so that any part of it is found."""
    return _UNSPACED.sub(r" \1 ", text)


def index_path(store: Store, release: Path) -> Path:
    """Where the index of a release lies."""
    return store.root / "cache" / "explore" / f"{release.name}-{VERSION}.sqlite"


def make_index(store: Store, release: Path, reporter: Reporter) -> Path:
    """The index of a release, made unless it is there; a killed attempt leaves none."""
    path = index_path(store, release)
    if path.exists():
        return path
    manifest = read_manifest(release)
    with replacing(path) as temporary, closing(sqlite3.connect(temporary)) as database:
        database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-200000;" + _SCHEMA)
        facets = _Facets()
        number = 0
        for source, fingerprint in sorted(manifest["inputs"]["sources"].items()):
            reporter.note(f"index {source}")
            folder = store.source(source, fingerprint)
            read_manifest(folder)  # brings its tables, where the root is elsewhere
            verdicts = _verdicts(release, source)
            category = _category(manifest, source)
            for rows in _rows(folder, source, category, verdicts):
                number = _insert(database, rows, facets, number)
        database.executemany("INSERT INTO facet VALUES (?, ?, ?, ?)", facets.rows())
        database.execute("INSERT INTO words(words) VALUES ('optimize')")
        database.executescript(_INDEXES)
        database.commit()
    return path


class _Facets:
    """The words that stand for sources, categories, verdicts and reasons, numbered as they come."""

    def __init__(self) -> None:
        self._tokens: dict[tuple[str, str], str] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def words(self, row: Mapping[str, Any]) -> str:
        found: list[str] = []
        for kind in ("source", "category", "verdict", "reason"):
            if row[kind] is not None:
                key = (kind, str(row[kind]))
                self._counts[key] = self._counts.get(key, 0) + 1
                found.append(self._tokens.setdefault(key, f"{kind[0]}x{len(self._tokens)}"))
        return " ".join(found)

    def rows(self) -> Iterator[tuple[str, str, str, int]]:
        for (kind, value), token in self._tokens.items():
            yield token, kind, value, self._counts[(kind, value)]


def _category(manifest: Mapping[str, Any], source: str) -> str:
    return str(manifest["plan"][source]["category"])


def _verdicts(release: Path, source: str) -> pl.DataFrame:
    columns = ["sample_id", "verdict", "reason", "twin_id"]
    return pl.scan_parquet(release / VERDICTS_NAME).filter(pl.col("source") == source).select(columns).collect()


def _rows(folder: Path, source: str, category: str, verdicts: pl.DataFrame) -> Iterator[list[dict[str, Any]]]:
    fixed = {"source": source, "category": category}
    for path in sorted(folder.glob("samples-*.parquet")):
        columns = ["sample_id", "conversations", "num_images", "num_tokens"]
        samples = pl.read_parquet(path, columns=columns).join(verdicts, on="sample_id", how="left", maintain_order="left")
        turns = pl.col("conversations").list.eval(pl.element().struct.field("value"))
        samples = samples.with_row_index("place").select(
            pl.col("sample_id").alias("id"), "verdict", "reason", "twin_id", "num_images", "num_tokens", "place",
            text=turns.list.join("\n"), question=turns.list.get(0), answer=turns.list.get(1, null_on_oob=True),
        )  # fmt: skip
        for part in samples.iter_slices(_ROWS_AT_ONCE):
            yield [fixed | {"file": path.name} | row for row in part.iter_rows(named=True)]
    absent = {"twin_id": None, "num_images": None, "num_tokens": None, "answer": None, "verdict": REJECTED}
    for path in sorted(folder.glob("rejected-*.parquet")):
        rejected = pl.read_parquet(path, columns=["record_id", "reason", "detail", "raw"]).with_row_index("place")
        for part in rejected.iter_slices(_ROWS_AT_ONCE):
            for_all = fixed | absent | {"file": path.name}
            yield [for_all | _refused(row) for row in part.iter_rows(named=True)]


def _refused(row: Mapping[str, Any]) -> dict[str, Any]:
    raw = (row["raw"] or b"").decode("utf-8", "replace")
    shown = f"{row['detail'] or ''} \u00b7 {raw}"
    return {"id": row["record_id"], "reason": row["reason"], "text": raw, "question": shown, "place": row["place"]}


_COLUMNS = (
    "id",
    "source",
    "category",
    "verdict",
    "reason",
    "twin_id",
    "question",
    "answer",
    "num_images",
    "num_tokens",
    "file",
    "place",
)


def _insert(database: sqlite3.Connection, rows: Sequence[Mapping[str, Any]], facets: _Facets, number: int) -> int:
    numbered = list(enumerate(rows, start=number + 1))
    database.executemany(
        f"INSERT INTO row VALUES (?{', ?' * len(_COLUMNS)})",
        ((place, *map(_shortened(row).get, _COLUMNS)) for place, row in numbered),
    )
    database.executemany(
        "INSERT INTO words(rowid, text, facets) VALUES (?, ?, ?)",
        ((place, spaced(row["text"] or ""), facets.words(row)) for place, row in numbered),
    )
    return number + len(rows)


def _shortened(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "question": _excerpt(row["question"]), "answer": _excerpt(row["answer"])}


def _excerpt(text: str | None) -> str | None:
    if text is None:
        return None
    short = " ".join(text.replace(IMAGE_MARKER, " ").split())
    return short if len(short) <= EXCERPT_CHARS else short[:EXCERPT_CHARS] + "\u2026"


def newest_release(store: Store) -> Path | None:
    """The release published last under the root, over all mixtures; None when there is none."""
    found = [folder for name in store.names("releases") if (folder := latest(store.root / "releases" / name))]
    return max(found, key=lambda folder: str(read_manifest(folder)["created"]), default=None)
