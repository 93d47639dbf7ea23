"""Clean one source: judge its samples one by one, and compute the keys by which duplicates are found.

Keys are stored per source and depend on nothing else, so another source or mixture never computes them again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curation.cleaning import image_keys, judged, normalised, text_keys
from curation.fingerprint import fingerprint
from curation.runtime.pool import Pool
from curation.steps.step import Artefact, created_now
from curation.storage.store import Store, is_published, point_to_latest, publish, read_manifest, write_table
from curation.tables import SIGNATURES

VERSION = 2


@dataclass(frozen=True, slots=True)
class CleanTask:
    """One file of samples, whose signatures go to `target`."""

    samples: str
    target: str
    prompts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Clean:
    """The cleaning of one ingested source; `prompts` are its response-format prompts, which count for nothing."""

    source: str
    prompts: tuple[str, ...] = ()

    def run(self, ingested: Artefact, store: Store, pool: Pool) -> Artefact:
        """The published signatures, made now unless they are there already."""
        settings = {"step": "clean", "version": VERSION, "prompts": self.prompts, "ingested": ingested.fingerprint}
        folder = store.signatures(self.source, fingerprint(settings))
        if not is_published(folder):
            tasks = [
                CleanTask(str(path), str(folder / path.name.replace("samples", "signatures")), self.prompts)
                for path in ingested.files("samples")
            ]
            pool.map(sign_samples, tasks, label=f"clean {self.source}")
            publish(folder, _manifest(self.source, folder, settings))
        point_to_latest(folder)
        return Artefact(folder, read_manifest(folder))


def sign_samples(task: CleanTask) -> None:
    """Write the SIGNATURES of one file of samples."""
    target = Path(task.target)
    if target.exists():
        return
    samples = pl.read_parquet(task.samples, columns=["sample_id", "source", "conversations", "images"])
    turns = samples.select(pl.col("conversations").list.eval(pl.element().struct.field("value")))["conversations"]
    flat = normalised(turns.explode(), task.prompts)
    ends = np.cumsum(turns.list.len().to_numpy())
    said = [part.tolist() for part in np.split(np.array(flat.to_list(), dtype=object), ends[:-1])]
    shown = samples.select(pl.col("images").list.eval(pl.element().struct.field("pixels")))["images"].to_list()
    reasons = _reasons(turns, flat)
    columns = [samples["sample_id"], samples["source"], text_keys(said), image_keys(shown), reasons]
    arrays = [_array(column, field.type) for column, field in zip(columns, SIGNATURES, strict=True)]
    write_table(target, pa.Table.from_arrays(arrays, schema=SIGNATURES))


def _array(column: Any, kind: pa.DataType) -> pa.Array:
    return pa.array(column.to_list() if isinstance(column, pl.Series) else column, kind)


def _reasons(turns: pl.Series, flat: pl.Series) -> list[str | None]:
    lengths = turns.list.len().to_numpy()
    rows = np.repeat(np.arange(len(turns)), lengths)
    places = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    answers = pl.DataFrame({"row": rows, "text": flat, "place": places}).filter(pl.col("place") % 2 == 1)
    found = judged(answers)
    reasons: list[str | None] = [None] * len(turns)
    for row, reason in found.iter_rows():
        reasons[row] = reason
    return reasons


def _manifest(source: str, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    files = sorted(folder.glob("signatures-*.parquet"))
    reasons = (
        pl.concat([pl.read_parquet(path, columns=["reason"]) for path in files]) if files else pl.DataFrame({"reason": []})
    )
    dropped = reasons.drop_nulls().group_by("reason").len().sort("reason")
    counts = {"samples": len(reasons), "dropped": {str(reason): int(num) for reason, num in dropped.iter_rows()}}
    return {"source": source, "fingerprint": folder.name, "settings": settings, "counts": counts, "created": created_now()}
