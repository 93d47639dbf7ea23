"""How many samples each source has to give a mixture: as ingested, or as the publishers state. No picture is touched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from curation.catalog.spec import Catalog, Source
from curation.errors import PlanError
from curation.facts import Bools, Ints, read_ids
from curation.mixing.picking import held, is_counted_by_hand, needed_columns
from curation.mixture.spec import Mixture, participants
from curation.steps.decontaminate import decontaminated_fingerprint
from curation.steps.deduplicate import pool_fingerprint
from curation.steps.measure import facts_fingerprint
from curation.steps.survivors import survivors_fingerprint
from curation.storage.store import Store, is_published, latest, read_manifest

Basis = Literal["ingested", "published"]


@dataclass(frozen=True, slots=True)
class Totals:
    """What a source's samples amount to; `num_bytes` is what they take in shards, about."""

    samples: int
    num_tokens: int
    num_images: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class SourceTables:
    """Where one source's facts lie, and which rows of them the pool keeps (None: no pool yet, so all)."""

    facts: Sequence[Path]
    kept: Path | None
    samples: Sequence[Path]

    def read(self, columns: Sequence[str]) -> pl.DataFrame:
        """These columns of FACTS for all samples."""
        return pl.read_parquet(list(self.facts), columns=list(columns)) if self.facts and columns else pl.DataFrame()

    def read_kept(self) -> Bools:
        """Which rows the pool keeps."""
        if self.kept is None:
            return np.ones(sum(_num_rows(path) for path in self.facts), np.bool_)
        kept: Bools = pl.read_parquet(self.kept)["kept"].to_numpy()
        return kept

    def names_of(self, rows: Ints) -> list[str]:
        """The sample ids of rows."""
        return read_ids(self.samples)["sample_id"].gather(rows).to_list()


@dataclass(frozen=True, slots=True)
class Counts:
    """Samples available from each source, by annotation file too where it is known, and what to know about these figures.

    `totals` and `tables` are there for sources that were measured.
    """

    available: Mapping[str, int]
    warnings: list[str]
    files: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    totals: Mapping[str, Totals] = field(default_factory=dict)
    tables: Mapping[str, SourceTables] = field(default_factory=dict)


def published_counts(catalog: Catalog, mixture: Mixture) -> Counts:
    """The catalog's expected counts. Raises PlanError when no source of the mixture states one."""
    sources = participants(mixture, catalog.sources)
    stated = {name: source.expected.records for name, source in sources.items()}
    silent = [name for name, number in stated.items() if number is None]
    if len(silent) == len(sources):
        raise PlanError(f"mixture '{mixture.name}': no source states an expected count; plan on ingested data instead")
    warnings = [f"no expected count: {', '.join(silent)}"] if silent else []
    rounded = [name for name, source in sources.items() if source.expected.rounded]
    if rounded:
        warnings.append(f"counts of {len(rounded)} of {len(sources)} sources are rounded as published")
    if any(mixture.conditions(name, source.category) for name, source in sources.items()):
        warnings.append("`where` is not applied: published counts say nothing of single samples")
    files = {name: dict(source.expected.annotation_files or {}) for name, source in sources.items()}
    return Counts(
        {name: number or 0 for name, number in stated.items()}, warnings, {name: held for name, held in files.items() if held}
    )


def ingested_counts(store: Store, catalog: Catalog, mixture: Mixture) -> Counts:
    """Samples under the root that de-duplication keeps; where it has not run yet, all samples, with a warning."""
    sources = participants(mixture, catalog.sources)
    ingested = {name: latest(store.root / "sources" / name) for name in sources}
    missing = [name for name, folder in ingested.items() if folder is None]
    warnings = [f"not ingested yet: {', '.join(missing)}"] if missing else []
    survivors = None if missing else _survivors(store, sorted(sources), catalog, mixture)
    if survivors is None:
        warnings.append("counts are those before cleaning and de-duplication; `curate build` does both")
    available: dict[str, int] = {}
    files: dict[str, Mapping[str, int]] = {}
    totals: dict[str, Totals] = {}
    tables: dict[str, SourceTables] = {}
    for name, folder in ingested.items():
        if folder is None:
            available[name] = 0
            continue
        manifest = read_manifest(folder)
        samples = int(manifest["counts"]["samples"])
        if unseen := manifest["counts"].get("by_reference"):
            warnings.append(
                f"{name}: {unseen:,} samples have pictures known by reference only; no release holds them till then"
            )
        facts = store.facts(name, facts_fingerprint(folder.name))
        if not is_published(facts):
            available[name] = samples
            continue
        measured = survivors[1]["sources"][name]["files"] if survivors else read_manifest(facts)["files"]
        totals[name] = _totals(measured)
        kept = survivors[0] / f"kept-{name}.parquet" if survivors else None
        tables[name] = SourceTables(sorted(facts.glob("facts-*.parquet")), kept, sorted(folder.glob("samples-*.parquet")))
        available[name] = totals[name].samples
        files[name] = {file: int(figures["samples"]) for file, figures in measured.items()}
        if survivors is not None:
            warnings += _loss(name, samples, available[name])
        if mixture.conditions(name, sources[name].category):
            available[name], files[name] = _held(mixture, sources[name], tables[name])
    unmeasured = [name for name in sources if ingested[name] is not None and name not in totals]
    if unmeasured and any(is_counted_by_hand(mixture, sources[name]) for name in unmeasured):
        warnings.append(f"`where` and caps by annotation file are not applied to sources ingested by an older version: "
                        f"{', '.join(unmeasured)}; run `curate ingest`")  # fmt: skip
    return Counts(available, warnings, files, totals, tables)


def _held(mixture: Mixture, source: Source, tables: SourceTables) -> tuple[int, Mapping[str, int]]:
    found = held(mixture, source, tables.read(needed_columns(mixture, [source])), tables.read_kept())
    return found.available, found.by_file


def _totals(files: Mapping[str, Mapping[str, int]]) -> Totals:
    names = ("samples", "num_tokens", "num_images", "num_bytes")
    return Totals(*(sum(int(figures[name]) for figures in files.values()) for name in names))


def _loss(name: str, samples: int, kept: int) -> list[str]:
    """A warning where cleaning and de-duplication took most of a source away."""
    if samples and kept < samples / 2:
        return [f"source '{name}' lost {1 - kept / samples:.0%} of its {samples:,} samples to cleaning and de-duplication"]
    return []


def _survivors(store: Store, names: list[str], catalog: Catalog, mixture: Mixture) -> tuple[Path, dict[str, Any]] | None:
    """Folder and manifest of the rows that the pool of these sources keeps; None when it is not made yet."""
    signatures = {name: latest(store.root / "signatures" / name) for name in names}
    facts = {name: latest(store.root / "facts" / name) for name in names}
    made = {name: folder.name for name, folder in signatures.items() if folder is not None}
    measured = {name: folder.name for name, folder in facts.items() if folder is not None}
    if len(made) < len(names) or len(measured) < len(names):
        return None
    pool = pool_fingerprint(made, mixture.dedup)
    if mixture.decontaminate is not None:
        held = {row: latest(store.root / "benchmarks" / row) for row in mixture.decontaminate.names(list(catalog.benchmarks))}
        benchmarks = {row: folder.name for row, folder in held.items() if folder is not None}
        if len(benchmarks) < len(held):
            return None
        pool = decontaminated_fingerprint(pool, benchmarks, mixture.decontaminate)
    folder = store.survivors(survivors_fingerprint(pool, measured))
    return (folder, read_manifest(folder)) if is_published(folder) else None


def _num_rows(path: Path) -> int:
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())
