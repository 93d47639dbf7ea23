"""One pass over a release's record files, which gives every source its own.

A release is one large JSONL (or one JSON array) in which records of many sources lie mixed. It is cut into pieces; each is
routed by a task of its own, and then every source's lines are joined in their order, as published, byte for byte. Beside a
source's `<file>` lies `<file>.lines`: the number of each line in the upstream file (int64, little-endian), so that an origin
still means the file that everybody can download. Lines that are no record belong to no source: they go to a quarantine of the
upstream.
"""

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa

from curation.errors import RejectReason
from curation.fetch.local import is_whole, make_whole, manifest_of, point_to_newest
from curation.fingerprint import fingerprint
from curation.runtime.pool import Pool
from curation.sources.claims import Claim, Kind, Outcome, Router
from curation.sources.json_spans import json_spans, sniff_style, split_elements
from curation.sources.records import ByteSpan, LostSpan
from curation.sources.routed_files import LINES_SUFFIX, JoinTask, Segment, join_segments
from curation.storage.store import Store, replacing, write_table
from curation.tables import RAW_LIMIT_BYTES, REJECTED, record_id

VERSION = 1
PIECE_BYTES = 64 << 20
MAX_LINE_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Routed:
    """A routed release: `folder` holds one folder a claim, each with the record files that have rows of it."""

    folder: Path
    manifest: Mapping[str, Any]

    def files(self, claim: str) -> tuple[str, ...]:
        """The record files of a claim, relative to `folder/<claim>`, by their upstream names."""
        root = self.folder / claim
        found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        return tuple(sorted(name for name in found if not name.endswith(LINES_SUFFIX)))

    def image_folders(self, claim: str) -> tuple[str, ...]:
        """The first image folders that rows of a claim name; a picture outside any folder is in no archive."""
        counts = self.manifest["claimed"].get(claim, {"by": []})["by"]
        return tuple(sorted({entry["folder"] for entry in counts if entry["folder"]}))


def routed(
    upstream: str, root: Path, files: Sequence[tuple[str, str]], claims: Sequence[Claim], store: Store, pool: Pool
) -> Routed:
    """The rows of `upstream` by claim, made now unless they are there; `files` are (name below `root`, sha256)."""
    name = fingerprint(
        {"version": VERSION, "claims": [[claim.name, claim.rows.model_dump()] for claim in claims], "files": files}
    )
    folder = store.root / "upstream" / upstream / "routed" / name
    if not is_whole(folder):
        work = store.work(f"route-{upstream}", name)
        make_whole(folder, _route(upstream, root, [file for file, _ in files], claims, folder, work, pool))
        store.discard_work(f"route-{upstream}", name)
        for older in [path for path in folder.parent.iterdir() if path.is_dir() and path != folder]:
            shutil.rmtree(older)  # as large as the release, and made again in a pass
    point_to_newest(folder)
    return Routed(folder, manifest_of(folder))


def _route(
    upstream: str, root: Path, files: Sequence[str], claims: Sequence[Claim], folder: Path, work: Path, pool: Pool
) -> dict[str, Any]:
    spans = [span for file in files for span in _spans(root / file, file)]
    lost = [span for span in spans if isinstance(span, LostSpan)]
    tasks = [
        PieceTask(str(root / span.file), span, tuple(claims), str(work / f"piece-{number:06d}"))
        for number, span in enumerate(span for span in spans if isinstance(span, ByteSpan))
    ]
    pieces = pool.map(route_piece, tasks, label=f"route {upstream}")
    first = _first_lines(tasks, pieces)
    joins = [
        JoinTask(str(folder / claim.name / file), tuple(segments))
        for number, claim in enumerate(claims)
        for file in files
        if (segments := _segments(number, file, tasks, pieces, first))
    ]
    pool.map(join_segments, joins, label=f"share out {upstream}")
    write_table(folder / "rejected-00000.parquet", _quarantine(upstream, tasks, pieces, first, lost))
    return _manifest(upstream, files, claims, pieces, len(lost))


def _first_lines(tasks: Sequence["PieceTask"], pieces: Sequence["Piece"]) -> list[int]:
    """The number, within its file, of each piece's first line."""
    first: list[int] = []
    for number, task in enumerate(tasks):
        if task.span.style != "lines":
            first.append(task.span.first_position)  # elements of an array are numbered when it is cut
        elif number == 0 or task.span.file != tasks[number - 1].span.file:
            first.append(0)
        else:
            first.append(first[-1] + pieces[number - 1].num_lines)
    return first


def _quarantine(
    upstream: str, tasks: Sequence["PieceTask"], pieces: Sequence["Piece"], first: Sequence[int], lost: Sequence[LostSpan]
) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {"record_id": record_id(upstream, span.file, span.first_position), "source": upstream, "origin_file": span.file,
         "origin_position": span.first_position, "reason": span.reason.value, "detail": span.detail, "raw": span.raw}
        for span in lost
    ]  # fmt: skip
    for task, piece, start in zip(tasks, pieces, first, strict=True):
        for reject in piece.rejects:
            line = start + reject["line"]
            origin = {"source": upstream, "origin_file": task.span.file, "origin_position": line}
            why = {name: reject[name] for name in ("reason", "detail", "raw")}
            rows.append({"record_id": record_id(upstream, task.span.file, line), **origin, **why})
    return pa.Table.from_pylist(rows, schema=REJECTED)


def _segments(
    claim: int, file: str, tasks: Sequence["PieceTask"], pieces: Sequence["Piece"], first: Sequence[int]
) -> list[Segment]:
    return [
        Segment(task.target, *place, start)
        for task, piece, start in zip(tasks, pieces, first, strict=True)
        if task.span.file == file and (place := piece.segments.get(claim)) is not None
    ]


def _manifest(
    upstream: str, files: Sequence[str], claims: Sequence[Claim], pieces: Sequence["Piece"], num_lost: int
) -> dict[str, Any]:
    counts: Counter[tuple[int | None, Kind]] = Counter()
    ambiguous: Counter[tuple[int | None, Kind]] = Counter()
    for piece in pieces:
        counts.update(piece.counts)
        ambiguous.update(piece.ambiguous)
    claimed = {
        claim.name: {
            "records": sum(count for (who, _), count in counts.items() if who == number),
            "ambiguous": sum(count for (who, _), count in ambiguous.items() if who == number),
            "by": _by_kind(counts, number),
        }
        for number, claim in enumerate(claims)
    }
    num_rejected = sum(len(piece.rejects) for piece in pieces) + num_lost
    return {
        "upstream": upstream,
        "files": list(files),
        "counts": {
            "records": sum(counts.values()) + num_rejected,
            "claimed": sum(entry["records"] for entry in claimed.values()),
            "ambiguous": sum(ambiguous.values()),
            "unclaimed": sum(count for (who, _), count in counts.items() if who is None),
            "rejected": num_rejected,
        },
        "claimed": claimed,
        "ambiguous": [
            {"claim": claims[who].name if who is not None else None, "source": kind.source, "folder": kind.folder, "records": n}
            for (who, kind), n in sorted(ambiguous.items(), key=lambda item: str(item[0]))
        ],
        "unclaimed": _by_kind(counts, None),
        "version": VERSION,
    }


def _by_kind(counts: Mapping[tuple[int | None, Kind], int], who: int | None) -> list[dict[str, Any]]:
    found = [(kind, count) for (number, kind), count in counts.items() if number == who]
    found.sort(key=lambda item: (-item[1], str(item[0].source), str(item[0].folder)))
    return [{"source": kind.source, "folder": kind.folder, "records": count} for kind, count in found]


# --- One piece ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PieceTask:
    """A span of the record file at `path`: whole lines, or whole elements of one JSON array."""

    path: str
    span: ByteSpan
    claims: tuple[Claim, ...]
    target: str


@dataclass(slots=True)
class Piece:
    """What became of a piece's lines. `segments`: for each claim, (offset, bytes, offset in lines, lines) in its two files."""

    num_lines: int = 0
    segments: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)
    counts: Counter[tuple[int | None, Kind]] = field(default_factory=Counter)
    ambiguous: Counter[tuple[int | None, Kind]] = field(default_factory=Counter)
    rejects: list[dict[str, Any]] = field(default_factory=list)


def _spans(path: Path, file: str) -> Iterator[ByteSpan | LostSpan]:
    """Spans of about PIECE_BYTES that end at line ends; those of an array end between elements."""
    size = path.stat().st_size
    start = 0
    with path.open("rb") as handle:
        if sniff_style(handle.read(_BLOCK_BYTES), file) == "array":
            yield from json_spans(str(path), file)
            return
        while start < size:
            handle.seek(min(size, start + PIECE_BYTES))
            while (line := handle.readline(_BLOCK_BYTES)) and not line.endswith(b"\n"):
                pass
            stop = handle.tell()
            yield ByteSpan(file, "lines", start, stop, 0)
            start = stop


def route_piece(task: PieceTask) -> Piece:
    """Write `<target>.jsonl`, the piece's lines sorted by claim, and `<target>.lines`, their numbers within the piece."""
    router = Router(task.claims)
    piece = Piece()
    texts: dict[int, list[bytes]] = defaultdict(list)
    numbers: dict[int, list[int]] = defaultdict(list)
    outcomes: Counter[Outcome] = Counter()
    for number, line in enumerate(_lines(task) if task.span.style == "lines" else _elements(task)):
        piece.num_lines += 1
        if not line or line.isspace():
            continue
        record = _record(line, number, piece)
        if record is None:
            continue
        outcome = router.decide(record)
        outcomes[outcome] += 1
        if outcome.claim is not None:
            texts[outcome.claim].append(line)
            numbers[outcome.claim].append(number)
    for outcome, count in outcomes.items():
        piece.counts[outcome.claim, outcome.kind] += count
        if outcome.is_ambiguous:
            piece.ambiguous[outcome.claim, outcome.kind] += count
    with replacing(Path(f"{task.target}.jsonl")) as temporary, temporary.open("wb") as handle:
        at_line = 0
        for claim in sorted(texts):
            offset = handle.tell()
            joined = b"".join(texts[claim]) if task.span.style == "lines" else b"\n".join(texts[claim])
            handle.write(joined if joined.endswith(b"\n") else joined + b"\n")
            piece.segments[claim] = (offset, handle.tell() - offset, at_line, len(texts[claim]))
            at_line += len(texts[claim])
    ordered = np.array([number for claim in sorted(numbers) for number in numbers[claim]], "<i8")
    with replacing(Path(f"{task.target}{LINES_SUFFIX}")) as temporary:
        ordered.tofile(temporary)
    return piece


def _lines(task: PieceTask) -> Iterator[bytes]:
    """Lines with their ends; of one that is too long only the beginning, which is no JSON."""
    with open(task.path, "rb", buffering=_BLOCK_BYTES) as handle:  # noqa: PTH123
        handle.seek(task.span.start)
        position = task.span.start
        while position < task.span.stop:
            line = handle.readline(MAX_LINE_BYTES + 1)
            position += len(line)
            rest = line
            while not rest.endswith(b"\n") and position < task.span.stop:
                rest = handle.readline(_BLOCK_BYTES)
                position += len(rest)
            yield line.removeprefix(b"\xef\xbb\xbf") if position == len(line) else line


def _elements(task: PieceTask) -> Iterator[bytes]:
    """Elements of an array, each on a line of its own."""
    with Path(task.path).open("rb") as handle:
        handle.seek(task.span.start)
        data = handle.read(task.span.num_bytes)
    for element in split_elements(data):
        try:
            yield orjson.dumps(orjson.loads(element)) if b"\n" in element else element
        except orjson.JSONDecodeError:
            yield element


def _record(line: bytes, number: int, piece: Piece) -> Mapping[str, Any] | None:
    detail = f"more than {MAX_LINE_BYTES} bytes in a line"
    if len(line) <= MAX_LINE_BYTES:
        try:
            value = _parsed(line)
        except (ValueError, RecursionError) as problem:
            detail = str(problem)
        else:
            if isinstance(value, dict):
                return value
            detail = f"a {type(value).__name__} where a record was expected"
    raw = line[:RAW_LIMIT_BYTES].rstrip(b"\n")
    piece.rejects.append({"line": number, "reason": RejectReason.BAD_JSON.value, "detail": detail, "raw": raw})
    return None


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        if b"NaN" not in line and b"Infinity" not in line:
            raise
        return json.loads(line)


def rejected_rows(folder: Path, condition: pl.Expr) -> list[dict[str, Any]]:
    """Rows of a routed release's quarantine."""
    files = sorted(folder.glob("rejected-*.parquet"))
    return pl.scan_parquet(files).filter(condition).collect().to_dicts() if files else []
