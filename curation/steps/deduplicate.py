"""De-duplicate the pool: verdicts over the samples of all sources of a mixture, from their stored signatures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from curation.dedup.exact import verdicts
from curation.fingerprint import fingerprint
from curation.steps.step import Artefact, created_now
from curation.store import Store, is_published, publish, read_manifest, write_table
from curation.tables import SIGNATURES, VERDICTS

VERSION = 1
ROWS_PER_FILE = 1_000_000


def pool_fingerprint(signatures: Mapping[str, str]) -> str:
    """Name of the pool of these sources' signatures (source -> fingerprint)."""
    return fingerprint({"step": "deduplicate", "version": VERSION, "signatures": dict(sorted(signatures.items()))})


@dataclass(frozen=True, slots=True)
class Deduplicate:
    """Exact de-duplication over sources."""

    def run(self, cleaned: Mapping[str, Artefact], store: Store) -> Artefact:
        """The published verdicts, made now unless they are there already."""
        inputs = {name: artefact.fingerprint for name, artefact in cleaned.items()}
        folder = store.pool(pool_fingerprint(inputs))
        if not is_published(folder):
            files = [path for name in sorted(cleaned) for path in cleaned[name].files("signatures")]
            empty = pl.DataFrame(SIGNATURES.empty_table()).lazy()
            found = verdicts(pl.concat([empty, *(pl.scan_parquet(path) for path in files)]))
            for number in range(-(-len(found) // ROWS_PER_FILE)):
                rows = found.slice(number * ROWS_PER_FILE, ROWS_PER_FILE)
                write_table(folder / f"verdicts-{number:05d}.parquet", rows.to_arrow().cast(VERDICTS))
            publish(folder, _manifest(folder.name, inputs, found))
        return Artefact(folder, read_manifest(folder))


def _manifest(name: str, inputs: Mapping[str, str], found: pl.DataFrame) -> dict[str, Any]:
    counts: dict[str, dict[str, Any]] = {source: {"samples": 0, "kept": 0, "dropped": {}} for source in inputs}
    for source, reason, num in found.group_by("source", "reason").len().sort("source", "reason").iter_rows():
        counts[source]["samples"] += num
        if reason is None:
            counts[source]["kept"] += num
        else:
            counts[source]["dropped"][reason] = num
    return {"fingerprint": name, "inputs": dict(inputs), "counts": counts, "created": created_now()}
