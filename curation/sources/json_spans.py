"""Cutting large JSON files into records without parsing them whole.

Publishers call three different things `.json`: an array of records, one object keyed by id, and one object a line. The
first two have no line structure, so the boundaries between their records are found by looking at brackets, commas and quotes
of each window as numpy columns; the records are then parsed in batches by orjson, and one malformed record spoils only
itself, not the file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from itertools import pairwise
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import orjson

from curation.sources.records import CHUNK_BYTES, ByteSpan, LostSpan, Style

WINDOW_BYTES = 4 << 20
_SNIFF_BYTES = 1 << 16
_QUOTE, _BACKSLASH, _COMMA, _NEWLINE = 34, 92, 44, 10
_STEP = np.zeros(256, np.int8)
_STEP[[ord("["), ord("{")]] = 1
_STEP[[ord("]"), ord("}")]] = -1
_IS_STRUCTURE = _STEP != 0
_IS_STRUCTURE[_COMMA] = True
Int64s = npt.NDArray[np.int64]


def sniff_style(head: bytes, name: str) -> Style:
    """Which of the three a file is, from its name and first bytes."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if name.lower().endswith((".jsonl", ".ndjson")):
        return "array" if _is_array_called_lines(text) else "lines"
    if text.startswith(b"["):
        return "array"
    if not text.startswith(b"{"):
        return "lines"  # no JSON value of many records; perhaps a damaged first line
    first, _, rest = text.partition(b"\n")
    following = [line.strip() for line in rest.split(b"\n")[:20] if line.strip()]
    if following:
        # Records a line start with a brace and end with one, but for a damaged line or the window's edge.
        alike = sum(line.startswith(b"{") for line in following)
        return "lines" if alike > len(following) / 2 else "object"
    try:
        record = orjson.loads(first)
    except orjson.JSONDecodeError:
        return "object" if len(head) >= _SNIFF_BYTES else "lines"
    is_keyed = isinstance(record, dict) and all(isinstance(value, dict | list) for value in record.values())
    return "object" if is_keyed and record else "lines"


def _is_array_called_lines(text: bytes) -> bool:
    """Whether a file that is called lines is one array of objects: a line of it is no value, or it is all one line."""
    if not re.match(rb"\[\s*\{", text):
        return False
    first, _, rest = text.partition(b"\n")
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        return True
    return not rest.strip()


def json_spans(path: str, file: str) -> Iterator[ByteSpan | LostSpan]:
    """Spans of about CHUNK_BYTES of the file at `path`, called `file` in origins; together they cover every record."""
    with open(path, "rb") as handle:  # noqa: PTH123
        head = handle.read(_SNIFF_BYTES)
        if not head.strip():
            return
        style = sniff_style(head, file)
        handle.seek(0)
        if style == "lines":
            yield from line_spans(handle, file, "lines")
        else:
            yield from _element_spans(handle, file, style)


def line_spans(handle: BufferedReader, file: str, style: Style) -> Iterator[ByteSpan]:
    """Spans that end at line ends. Positions count lines, blank ones included."""
    start, position = 0, 0
    handle.seek(0)
    block = bytearray(CHUNK_BYTES)
    signs = np.frombuffer(block, np.uint8)
    while num_bytes := handle.readinto(block):
        num_rest, num_ends = _skip_to_line_end(handle)
        stop = start + num_bytes + num_rest
        yield ByteSpan(file, style, start, stop, position)
        start = stop
        # numpy counts one sign five times as fast as bytes.count does.
        position += int(np.count_nonzero(signs[:num_bytes] == _NEWLINE)) + num_ends


def _skip_to_line_end(handle: BinaryIO) -> tuple[int, int]:
    """Bytes up to and with the next line end, and whether there is one; a line of any length is never held whole."""
    skipped = 0
    while piece := handle.readline(WINDOW_BYTES):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            return skipped, 1
    return skipped, 0


@dataclass(slots=True)
class _Scan:
    """Where a scan over windows stands: bracket depth, inside a string or not, backslashes just before the window."""

    depth: int = 0
    is_in_string: bool = False
    is_escaped: bool = False

    def boundaries(self, window: npt.NDArray[np.uint8]) -> tuple[Int64s, int | None]:
        """Offsets in `window` of commas between records, and of the bracket that closes the file's one value."""
        quotes = self._unescaped_quotes(window)
        signs = np.flatnonzero(_IS_STRUCTURE[window])
        inside = (np.searchsorted(quotes, signs) + self.is_in_string) % 2 == 1
        signs = signs[~inside]
        depths = self.depth + np.cumsum(_STEP[window[signs]], dtype=np.int64)
        commas = signs[(window[signs] == _COMMA) & (depths == 1)]
        closing = np.flatnonzero((depths <= 0) & (window[signs] != _COMMA))
        end = int(signs[closing[0]]) if len(closing) else None
        self.depth = int(depths[-1]) if len(depths) else self.depth
        self.is_in_string ^= bool(len(quotes) % 2)
        return commas if end is None else commas[commas < end], end

    def _unescaped_quotes(self, window: npt.NDArray[np.uint8]) -> Int64s:
        quotes = np.flatnonzero(window == _QUOTE)
        slashes = np.flatnonzero(window == _BACKSLASH)
        was_escaped, self.is_escaped = self.is_escaped, False
        if not len(slashes):
            return quotes[1:] if was_escaped and len(quotes) and quotes[0] == 0 else quotes
        # A run of backslashes escapes what follows it when its length is odd (an escaped first sign shortens its run).
        starts = np.flatnonzero(np.diff(slashes, prepend=-2) != 1)
        lengths = np.diff(starts, append=len(slashes))
        first, last = slashes[starts], slashes[starts] + lengths - 1
        lengths = lengths - ((first == 0) & was_escaped)
        escaped = (last + 1)[lengths % 2 == 1]
        if was_escaped and window[0] != _BACKSLASH:
            escaped = np.append(escaped, 0)
        self.is_escaped = bool(last[-1] == len(window) - 1 and lengths[-1] % 2 == 1)
        return quotes[~np.isin(quotes, escaped)]


def _element_spans(handle: BinaryIO, file: str, style: Style) -> Iterator[ByteSpan | LostSpan]:
    """Spans of whole elements of one JSON array or object. What follows the last whole element is a LostSpan."""
    scan = _Scan()
    offset, start, position = 0, 0, 0
    opening = re.search(rb"[\[{]", handle.read(_SNIFF_BYTES))
    start = opening.end() if opening else 0
    handle.seek(0)
    count_here, last_comma = 0, start
    while block := handle.read(WINDOW_BYTES):
        commas, end = scan.boundaries(np.frombuffer(block, np.uint8))
        for comma in commas.tolist():
            count_here += 1
            last_comma = offset + comma + 1
            if last_comma - start >= CHUNK_BYTES:
                yield ByteSpan(file, style, start, last_comma - 1, position)
                start, position, count_here = last_comma, position + count_here, 0
        if end is not None:
            yield ByteSpan(file, style, start, offset + end, position)
            yield from _after_the_end(handle, file, offset + end + 1, position + count_here + 1)
            return
        offset += len(block)
    if last_comma > start:
        yield ByteSpan(file, style, start, last_comma - 1, position)
        position += count_here
    yield _lost(handle, file, last_comma, position, "the file ends inside a record: it is cut short or a quote is missing")


def _after_the_end(handle: BinaryIO, file: str, offset: int, position: int) -> Iterator[LostSpan]:
    handle.seek(offset)
    while block := handle.read(WINDOW_BYTES):
        if block.strip():
            yield _lost(handle, file, offset, position, "text after the end of the JSON value")
            return
        offset += len(block)


def _lost(handle: BinaryIO, file: str, offset: int, position: int, detail: str) -> LostSpan:
    handle.seek(offset)
    return LostSpan(file, f"from byte {offset}: {detail}", handle.read(_SNIFF_BYTES), position)


def split_elements(data: bytes) -> list[bytes]:
    """The elements of a span of an array or object: text between its top-level commas; blank ones are left out."""
    window = np.frombuffer(data, np.uint8)
    commas, _ = _Scan(depth=1).boundaries(window)
    edges = [-1, *commas.tolist(), len(data)]
    elements = [data[before + 1 : after].strip() for before, after in pairwise(edges)]
    return [element for element in elements if element]
