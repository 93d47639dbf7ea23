"""A small world of upstream sources for `make demo`: every layout, every place for pictures, every kind of dirt.

`generate` draws the pictures, writes each source in the format a publisher would have chosen, and says what it planted, so
that what curation finds can be held against it. The questions are true of the pictures. Same seed, same bytes.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from flows.demo.document_sources import chart_quiz, receipts, table_code, table_sums, text_lines
from flows.demo.figure_sources import box_claims, cell_plates, circuits, polygons, shape_counts, shape_exam
from flows.demo.planted import Planted, PlantedSource
from flows.demo.scene_sources import albums, alt_texts, relations, scenes
from flows.demo.text_sources import phrasebook, print_outs, small_talk, sum_exam, word_sums
from flows.demo.upstream import Upstream

LEDGER_NAME = "planted.json"

SOURCES: dict[str, Callable[[Upstream], None]] = {
    "phrasebook": phrasebook,
    "small-talk": small_talk,
    "word-sums": word_sums,
    "table-sums": table_sums,
    "polygons": polygons,
    "print-outs": print_outs,
    "table-code": table_code,
    "circuits": circuits,
    "cell-plates": cell_plates,
    "receipts": receipts,
    "text-lines": text_lines,
    "chart-quiz": chart_quiz,
    "shape-counts": shape_counts,
    "box-claims": box_claims,
    "scenes": scenes,
    "relations": relations,
    "albums": albums,
    "alt-texts": alt_texts,
}

BENCHMARKS: dict[str, Callable[[Upstream], None]] = {"shape-exam": shape_exam, "sum-exam": sum_exam}
"""Evaluation sets, of which some sources hold a few questions and pictures."""


def generate(folder: Path, *, seed: int = 0, scale: int = 1) -> Planted:
    """Write sources and benchmarks below `folder`, one sub-folder each, and the ledger as `planted.json` beside them.

    `scale` multiplies the sound records; the dirt and the benchmarks stay as they are. Files that hold the right bytes already
    are not touched, other files in the folders are removed. Raises ValueError when `scale` is more than a source can make up.
    """
    if scale < 1:
        raise ValueError(f"scale is {scale}; it multiplies the number of records and must be at least 1")
    ledgers: dict[str, PlantedSource] = {}
    for name, make in (SOURCES | BENCHMARKS).items():
        upstream = Upstream(name, seed=seed, scale=scale)
        make(upstream)
        _write(folder / name, upstream.files)
        if name in SOURCES:
            ledgers[name] = upstream.planted
    planted = Planted.of(ledgers, seed=seed, scale=scale)
    _write_file(folder / LEDGER_NAME, planted.to_json())
    return planted


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for old in sorted(folder.rglob("*"), reverse=True):
        if old.is_file() and str(old.relative_to(folder)) not in files:
            old.unlink()
    for name, data in files.items():
        _write_file(folder / name, data)


def _write_file(path: Path, data: bytes) -> None:
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
