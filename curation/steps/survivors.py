"""Note which samples of each source a pool keeps, row by row, so that plans need not join ten million ids."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from curation.facts import read_ids, totals_by_file
from curation.fingerprint import fingerprint
from curation.mixing.picking import kept_rows
from curation.steps.step import Artefact, created_now
from curation.storage.store import Store, is_published, publish, read_manifest, write_columns
from curation.tables import VERDICTS

VERSION = 1
KEPT = pa.schema([pa.field("kept", pa.bool_())])
"""One row a sample, in the order of the source's samples."""


def survivors_fingerprint(pool: str, facts: Mapping[str, str]) -> str:
    """Name of the survivors of a pool, given the fingerprints of its sources' facts."""
    return fingerprint({"step": "survivors", "version": VERSION, "pool": pool, "facts": dict(sorted(facts.items()))})


@dataclass(frozen=True, slots=True)
class Survivors:
    """The kept rows of every source of a pool."""

    def run(
        self, ingested: Mapping[str, Artefact], measured: Mapping[str, Artefact], pool_verdicts: Artefact, store: Store
    ) -> Artefact:
        """The published masks, made now unless they are there already."""
        names = {name: artefact.fingerprint for name, artefact in measured.items()}
        folder = store.survivors(survivors_fingerprint(pool_verdicts.fingerprint, names))
        if not is_published(folder):
            columns = ["sample_id", "source", "verdict"]
            empty = pl.DataFrame(VERDICTS.empty_table()).select(columns)
            verdicts = pl.concat([empty, *(pl.read_parquet(path, columns=columns) for path in pool_verdicts.files("verdicts"))])
            sources: dict[str, Any] = {}
            for name in sorted(ingested):
                kept = kept_rows(read_ids(ingested[name].files("samples")), verdicts, name)
                write_columns(folder / f"kept-{name}.parquet", pa.table({"kept": kept}, schema=KEPT))
                facts = [pl.read_parquet(path) for path in measured[name].files("facts")]
                sources[name] = {"files": totals_by_file(pl.concat(facts).filter(kept)) if facts else {}}
            publish(folder, _manifest(folder.name, pool_verdicts.fingerprint, sources))
        return Artefact(folder, read_manifest(folder))


def _manifest(name: str, pool: str, sources: Mapping[str, Any]) -> dict[str, Any]:
    return {"fingerprint": name, "pool": pool, "sources": dict(sources), "created": created_now()}
