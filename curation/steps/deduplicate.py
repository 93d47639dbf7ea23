"""De-duplicate the pool: verdicts over the samples of all sources of a mixture, from their stored signatures.

A mixture without `dedup:` drops exact duplicates, by the keys that cleaning stores. With it, near duplicates are sought too, by
the n-grams that signing stores; both are clustered anew from signatures whenever the set of sources or a setting changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curation.dedup.exact import verdicts
from curation.fingerprint import fingerprint
from curation.mixture.dedup import DedupSpec
from curation.model_files import model_fingerprint
from curation.runtime.pool import InProcessPool, Pool
from curation.steps.step import Artefact, created_now
from curation.storage.store import Store, is_published, latest, publish, read_manifest, write_table
from curation.tables import SIGNATURES, VERDICTS

VERSION = 1
NEAR_VERSION = 5
ROWS_PER_FILE = 1_000_000


def pool_fingerprint(signatures: Mapping[str, str], spec: DedupSpec | None = None) -> str:
    """Name of the pool of these sources' signatures (source -> fingerprint), judged under `spec`."""
    made_of: dict[str, Any] = {"step": "deduplicate", "version": VERSION, "signatures": dict(sorted(signatures.items()))}
    if spec is not None:
        # Only the order among this pool's own sources can change it.
        own = spec.model_copy(update={"sources": [name for name in spec.sources if name in signatures]})
        made_of |= {"near_version": NEAR_VERSION, "dedup": own.model_dump()}
        if spec.semantic is not None:  # the same model is the same wherever it lies
            semantic = made_of["dedup"]["semantic"]
            semantic |= {key: model_fingerprint(Path(semantic[key])) for key in ("model", "vision_model") if semantic[key]}
    return fingerprint(made_of)


def newest_pool(store: Store, sources: Sequence[str], spec: DedupSpec | None) -> Path | None:
    """The pool of these sources' newest signatures, judged under `spec`; None when it is not there."""
    signatures = {name: latest(store.root / "signatures" / name) for name in sources}
    fingerprints = {name: folder.name for name, folder in signatures.items() if folder is not None}
    folder = store.pool(pool_fingerprint(fingerprints, spec))
    return folder if len(fingerprints) == len(signatures) and is_published(folder) else None


@dataclass(frozen=True, slots=True)
class Deduplicate:
    """De-duplication over sources: exact without `spec`, under its settings with it."""

    spec: DedupSpec | None = None

    def run(
        self,
        cleaned: Mapping[str, Artefact],
        store: Store,
        signed: Mapping[str, Artefact] | None = None,
        pool: Pool | None = None,
        ingested: Mapping[str, Artefact] | None = None,
        embedded: Mapping[str, Artefact] | None = None,
    ) -> Artefact:
        """The published verdicts, made now unless they are there already.

        `signed` is needed where there is a `spec`, `ingested` (for pictures) where that says `near_images`, `embedded` where it
        says `semantic`.
        """
        inputs = {name: artefact.fingerprint for name, artefact in cleaned.items()}
        folder = store.pool(pool_fingerprint(inputs, self.spec))
        if not is_published(folder):
            facts: dict[str, Any] = {}
            if self.spec is None:
                _exact(cleaned, folder)
            else:
                # Compiled code is loaded only where it is used.
                from curation.steps.near_pool import NearPool

                work = store.work("pool", folder.name)
                made = (cleaned, signed or {}, ingested or {}, embedded or {})
                facts = NearPool(self.spec, *made, work, pool or InProcessPool()).write(folder)
            publish(folder, _manifest(folder, inputs) | facts)
        store.discard_work("pool", folder.name)
        return Artefact(folder, read_manifest(folder))


def _signatures(cleaned: Mapping[str, Artefact]) -> pl.LazyFrame:
    files = [path for name in sorted(cleaned) for path in cleaned[name].files("signatures")]
    empty = pl.DataFrame(SIGNATURES.empty_table()).lazy()
    return pl.concat([empty, *(pl.scan_parquet(path) for path in files)])


def _exact(cleaned: Mapping[str, Artefact], folder: Path) -> None:
    found = verdicts(_signatures(cleaned))
    for number in range(-(-len(found) // ROWS_PER_FILE)):
        rows = found.slice(number * ROWS_PER_FILE, ROWS_PER_FILE)
        write_table(folder / f"verdicts-{number:05d}.parquet", rows.to_arrow().cast(VERDICTS))


def _manifest(folder: Path, inputs: Mapping[str, str]) -> dict[str, Any]:
    counts: dict[str, dict[str, Any]] = {source: {"samples": 0, "kept": 0, "dropped": {}} for source in inputs}
    rows = pl.concat([pl.LazyFrame(VERDICTS.empty_table()), *map(pl.scan_parquet, sorted(folder.glob("verdicts-*.parquet")))])
    found = rows.group_by("source", "verdict", "reason").len().sort("source", "reason").collect()
    for source, verdict, reason, num in found.iter_rows():
        counts[source]["samples"] += num
        if verdict == "keep":
            counts[source]["kept"] += num
        else:
            counts[source]["dropped"][reason] = num
    return {"fingerprint": folder.name, "inputs": dict(inputs), "counts": counts, "created": created_now()}
