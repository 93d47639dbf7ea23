"""Questions to the search index: what matches, how many, what is alike. Every answer is a page, never the whole."""

import re
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from curation.explore.index import spaced

PAGE_ROWS = 25
COUNT_LIMIT = 10_000
NUM_ALIKE = 12
_ALIKE_WORDS = 12
_ALIKE_MAX_ROWS = 5_000
"""A word in more samples than this says nothing about which are alike, and costs most to look up."""
_ALIKE_ROWS = 16_000
"""Rows that may be ranked for being alike, over all words: ranking takes 3 us a row."""
_TERM = re.compile(r'"([^"]*)"|(\S+)')
_WORD = re.compile(r"\w+")
_LETTER = re.compile(r"[a-z0-9]")
FACETS = ("source", "category", "verdict", "reason")


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """What is looked for: words or "whole phrases" (all must occur; `word*` for beginnings), and a value a facet."""

    text: str = ""
    facets: Mapping[str, str] = field(default_factory=dict)
    after: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """A page of rows; `num` matches in all, at most COUNT_LIMIT + 1 counted; `after` begins the next page, 0 if none."""

    rows: Sequence[Mapping[str, Any]]
    num: int
    after: int


class Index:
    """An opened search index, for reading, in any thread."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
        self._database.row_factory = sqlite3.Row
        self._lock = threading.Lock()
        listed = self._rows("SELECT token, kind, value, num FROM facet ORDER BY kind, num DESC, value")
        self._tokens = {(row["kind"], row["value"]): row["token"] for row in listed}
        self.facets: dict[str, list[tuple[str, int]]] = {kind: [] for kind in FACETS}
        for row in listed:
            self.facets[row["kind"]].append((row["value"], row["num"]))

    def close(self) -> None:
        """Give the file back."""
        self._database.close()

    def find(self, query: Query) -> Found:
        """The rows that match, in the order of the index, from `query.after` on."""
        match = self._match(query)
        if match is None:
            return Found([], 0, 0)
        if match:
            some, matching = "SELECT rowid FROM words WHERE words MATCH ? AND rowid > ? ORDER BY rowid LIMIT ?", [match]
            every = "SELECT 1 FROM words WHERE words MATCH ? LIMIT ?"
        else:
            some, matching = "SELECT number FROM row WHERE number > ? ORDER BY number LIMIT ?", []
            every = "SELECT 1 FROM row LIMIT ?"
        where = f"SELECT * FROM row WHERE number IN ({some}) ORDER BY number"
        rows = self._rows(where, *matching, query.after, PAGE_ROWS + 1)
        num = int(self._rows(f"SELECT count(*) AS num FROM ({every})", *matching, COUNT_LIMIT + 1)[0]["num"])
        page = rows[:PAGE_ROWS]
        return Found(page, num, int(page[-1]["number"]) if len(rows) > PAGE_ROWS else 0)

    def row(self, identifier: str) -> Mapping[str, Any] | None:
        """The row of a sample or rejected record."""
        return next(iter(self._rows("SELECT * FROM row WHERE id = ?", identifier)), None)

    def duplicates(self, row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The twin of a dropped sample, and the samples dropped for the same keeper."""
        keeper = row["twin_id"] or row["id"]
        return self._rows(
            "SELECT * FROM row WHERE (id = ? OR twin_id = ?) AND id != ? ORDER BY twin_id IS NOT NULL, number LIMIT ?",
            keeper, keeper, row["id"], PAGE_ROWS,
        )  # fmt: skip

    def alike(self, row: Mapping[str, Any], text: str) -> list[Mapping[str, Any]]:
        """Rows that share the rarest words of `text`, most alike first."""
        words = sorted({word.lower() for word in _WORD.findall(spaced(text)) if not _LETTER.fullmatch(word.lower())})
        known: list[tuple[int, str]] = []
        for word in words[:2_000]:
            for found in self._rows("SELECT term, doc FROM vocabulary WHERE term = ?", word):
                if 1 < found["doc"] <= _ALIKE_MAX_ROWS:
                    known.append((found["doc"], word))
        if not known:
            return []
        rarest = sorted(known)[:_ALIKE_WORDS]
        total = accumulate(num_rows for num_rows, _ in rarest)
        chosen = [word for (_, word), so_far in zip(rarest, total, strict=True) if so_far <= _ALIKE_ROWS]
        match = "text : (" + " OR ".join(f'"{word}"' for word in chosen) + ")"
        return self._rows(
            "SELECT row.* FROM (SELECT rowid, rank FROM words WHERE words MATCH ? AND rowid != ? ORDER BY rank LIMIT ?) "
            "AS best JOIN row ON row.number = best.rowid ORDER BY best.rank, row.number",
            match, row["number"], NUM_ALIKE,
        )  # fmt: skip

    def _match(self, query: Query) -> str | None:
        """The query for FTS5: "" for everything, None when a facet's value does not occur."""
        terms = [term for found in _TERM.finditer(query.text) if (term := _fts_term(found[1] or found[2] or ""))]
        parts = [f"text : ({' AND '.join(terms)})"] if terms else []
        for kind, value in query.facets.items():
            token = self._tokens.get((kind, value))
            if token is None:
                return None
            parts.append(f'facets : "{token}"')
        return " AND ".join(parts)

    def _rows(self, statement: str, *values: Any) -> list[Mapping[str, Any]]:
        with self._lock:
            return [dict(row) for row in self._database.execute(statement, values)]


def _fts_term(text: str) -> str:
    """A word or phrase as an FTS5 string, which nothing in it can end; "" for what holds no word."""
    is_beginning = text.endswith("*")
    words = _WORD.findall(spaced(text))
    return f'"{" ".join(words)}"{" *" if is_beginning else ""}' if words else ""
