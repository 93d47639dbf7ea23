"""Measure one source: the facts of its samples as narrow columns, so that plans and comparisons read no samples."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curation.facts import FACTS, read_facts, totals_by_file
from curation.fingerprint import fingerprint
from curation.runtime.pool import Pool
from curation.steps.step import Artefact, created_now
from curation.storage.store import Store, is_published, point_to_latest, publish, read_manifest, write_columns

VERSION = 2


def facts_fingerprint(ingested: str) -> str:
    """Name of the facts of an ingested source."""
    return fingerprint({"step": "measure", "version": VERSION, "ingested": ingested})


@dataclass(frozen=True, slots=True)
class MeasureTask:
    """One file of samples, whose facts go to `target`."""

    samples: str
    target: str


@dataclass(frozen=True, slots=True)
class Measure:
    """The facts of one ingested source."""

    source: str

    def run(self, ingested: Artefact, store: Store, pool: Pool) -> Artefact:
        """The published facts, made now unless they are there already."""
        folder = store.facts(self.source, facts_fingerprint(ingested.fingerprint))
        if not is_published(folder):
            tasks = [
                MeasureTask(str(path), str(folder / path.name.replace("samples", "facts")))
                for path in ingested.files("samples")
            ]
            pool.map(measure_samples, tasks, label=f"measure {self.source}")
            publish(folder, _manifest(self.source, folder, ingested.fingerprint))
        point_to_latest(folder)
        return Artefact(folder, read_manifest(folder))


def measure_samples(task: MeasureTask) -> None:
    """Write the FACTS of one file of samples."""
    target = Path(task.target)
    if not target.exists():
        facts = read_facts(Path(task.samples)).with_columns(pl.col("annotation_file").cast(pl.Categorical))
        write_columns(target, facts.select(FACTS.names).to_arrow().cast(FACTS))


def _manifest(source: str, folder: Path, ingested: str) -> dict[str, Any]:
    files = sorted(folder.glob("facts-*.parquet"))
    facts = pl.concat([pl.read_parquet(path) for path in files]) if files else pl.DataFrame(FACTS.empty_table())
    return {
        "source": source,
        "fingerprint": folder.name,
        "ingested": ingested,
        "files": totals_by_file(facts),
        "created": created_now(),
    }
