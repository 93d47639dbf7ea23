"""The third pass of ingestion: mapped records meet the facts of their pictures and become samples or rejects."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curation.errors import RejectReason
from curation.sources.columns import Said
from curation.sources.mapping import ChunkPass
from curation.sources.records import Reject
from curation.sources.sample_rows import Origins, sample_table
from curation.storage.store import write_table
from curation.tables import IMAGE

MISNAMED = "extension_corrected"
MOVED = "image_path_repaired"


@dataclass(frozen=True, slots=True)
class JoinTask:
    """Chunk `number`, mapped already; `facts` holds the facts of all pictures of its part."""

    source: str
    facts: str
    folder: str
    work: str
    number: int


def join_chunk(task: JoinTask) -> None:
    """Write `samples-N` and the rejects of this pass."""
    this = ChunkPass(task.source, Path(task.folder), Path(task.work), task.number, "join")
    if this.is_finished():
        return
    mapped = pl.read_parquet(this.mapped)
    facts = _facts_of(Path(task.facts), mapped["refs"].explode().drop_nulls().unique())
    kept: list[Mapping[str, Any]] = []
    images: list[list[Mapping[str, Any]]] = []
    rejects: list[Reject] = []
    repairs: Counter[str] = Counter()
    for row in mapped.iter_rows(named=True):
        found = [facts[ref] for ref in row["refs"]]
        broken = next((fact for fact in found if fact["reason"] is not None), None)
        if broken is not None:
            reason = RejectReason(broken["reason"])
            rejects.append(Reject.of(row["origin_file"], row["origin_position"], reason, broken["detail"], row["raw"]))
            continue
        repairs.update(row["repairs"])
        repairs[MISNAMED] += sum(fact["is_misnamed"] for fact in found)
        repairs[MOVED] += sum(fact["is_moved"] for fact in found)
        kept.append(row)
        images.append([{field.name: fact[field.name] for field in IMAGE} for fact in found])
    if kept:
        said = Said.of([row["turns"] for row in kept])
        write_table(this.samples, sample_table(task.source, said, images, _origins(kept)))
    this.finish(rejects, +repairs)


def _facts_of(path: Path, refs: pl.Series) -> dict[str, Mapping[str, Any]]:
    facts = pl.scan_parquet(path).join(pl.LazyFrame({"ref": refs}), on="ref", how="semi").collect()
    return {row["ref"]: row for row in facts.iter_rows(named=True)}


def _origins(rows: Sequence[Mapping[str, Any]]) -> Origins:
    names = ("origin_file", "origin_position", "origin_id", "annotation_file")
    files, positions, ids, annotations = ([row[name] for row in rows] for name in names)
    return Origins(files, positions, ids, annotations)
