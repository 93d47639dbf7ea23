"""How lines of text are cut into columns: separator, quotes, header. Told by the first lines alone."""

import csv
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from curation.guessing.words import ALL_NAMES, plain_name

_SEPARATORS = {".csv": ",\t;|", ".tsv": "\t,;|", ".lst": " \t,|"}
_ANY_SEPARATORS = "\t,;| "
_NAME = re.compile(r"[^\W\d][\w .\-/()?]{0,39}")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_LINE_BREAK = re.compile(r"\\n(?![a-z])")
"""A line break written as two characters, and not the beginning of a LaTeX command."""
MIN_LINES = 2


def guess_reader(text: str, name: str) -> dict[str, Any] | None:
    """The `reader` of a catalog row for a file that begins with `text` (whole lines); None when no separator fits."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < MIN_LINES:
        return None
    for separator in _SEPARATORS.get(PurePosixPath(name).suffix.lower(), _ANY_SEPARATORS):
        for rows, is_quoted in _cuttings(text, lines, separator):
            if rows is not None and len(rows) >= MIN_LINES:
                return _reader(rows, separator, is_quoted=is_quoted)
    return None


def _cuttings(text: str, lines: Sequence[str], separator: str) -> list[tuple[list[list[str]] | None, bool]]:
    """Rows cut plainly and with quotes: those ways in which all have the same number of cells, two at least."""
    plain: list[list[str]] | None = _even([line.split(separator) for line in lines])
    if '"' not in text:
        return [(plain, False)]
    try:
        quoted = _even([row for row in csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True) if row])
    except csv.Error:
        quoted = None
    starts = any(cell.startswith('"') and cell.endswith('"') for row in plain or [] for cell in row)
    return [(quoted, True), (plain, False)] if starts or plain is None else [(plain, False), (quoted, True)]


def _even(rows: list[list[str]]) -> list[list[str]] | None:
    widths = {len(row) for row in rows}
    return rows if len(widths) == 1 and widths.pop() > 1 else None


def _reader(rows: list[list[str]], separator: str, *, is_quoted: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"format": "delimited"}
    if separator != "\t":
        found["separator"] = separator
    if _is_header(rows[0], rows[1:]):
        found["header"] = True
    else:
        found["columns"] = [f"column_{number + 1}" for number in range(len(rows[0]))]
    if is_quoted:
        found["quoting"] = True
    if any(_LINE_BREAK.search(cell) for row in rows for cell in row):
        found["unescape"] = True
    return found


def _is_header(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the others: words, all different, of which one is usual or stands above numbers."""
    if len(set(first)) < len(first) or not all(_NAME.fullmatch(cell) for cell in first):
        return False
    if any(plain_name(cell) in ALL_NAMES for cell in first):
        return True
    columns = list(zip(*rest, strict=True))
    return any(all(_NUMBER.fullmatch(cell) for cell in column) for column in columns)
