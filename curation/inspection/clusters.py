"""Clusters of duplicates as a person reads them: a keeper and what goes with it, or answers that contradict each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curation.catalog.spec import Catalog
from curation.errors import PlanError
from curation.mixture.spec import Mixture, participants
from curation.steps.deduplicate import newest_pool
from curation.storage.store import Store, latest, read_manifest
from curation.tables import FINDINGS, VERDICTS, id_bits, keyed_bits

MAX_MEMBERS = 12
"""Members of one cluster that are shown; a cluster can hold thousands."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Samples that belong together: `keeper` and up to MAX_MEMBERS of the `size` others.

    Every member is a row of SAMPLES with `reason` and `detail`; `kind` is the reason of the first, or the finding.
    """

    kind: str
    size: int
    keeper: Mapping[str, Any]
    members: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Clusters:
    """Some of a pool's clusters, and how many there are by kind, with their samples."""

    pool: str
    counts: Mapping[str, Mapping[str, int]]
    shown: Sequence[Cluster]


def clusters(store: Store, catalog: Catalog, mixture: Mixture, number: int, kind: str | None = None) -> Clusters:
    """`number` clusters of the mixture's pool, chosen by a keyed hash of their keepers' ids; only those of `kind` if given.

    Raises PlanError when the mixture was not de-duplicated yet, or has no clusters of that kind.
    """
    folder = newest_pool(store, list(participants(mixture, catalog.sources)), mixture.dedup)
    if folder is None:
        raise PlanError(f"mixture '{mixture.name}' was not de-duplicated yet under these settings; `curate build` does it")
    rows = _belonging(folder)
    found = rows.group_by("kind", "cluster_id").agg(size=pl.len()).sort("kind", "cluster_id")
    counts = {
        name: {"clusters": num, "samples": samples}
        for name, num, samples in found.group_by("kind").agg(pl.len(), pl.col("size").sum()).sort("kind").iter_rows()
    }
    if kind is not None:
        found = found.filter(pl.col("kind") == kind)
        if found.is_empty() and kind not in counts:
            raise PlanError(f"mixture '{mixture.name}' has no clusters of kind '{kind}'; it has {', '.join(counts) or 'none'}")
    order = pl.Series("order", keyed_bits(id_bits(found["cluster_id"]), "clusters"))
    # Kinds take turns, so that the rare ones are seen too.
    turn = pl.col("order").rank("ordinal").over("kind")
    chosen = found.with_columns(order).with_columns(turn=turn).sort("turn", "kind").head(number)
    members = rows.join(chosen.select("kind", "cluster_id"), on=["kind", "cluster_id"], how="semi").sort("sample_id")
    members = members.group_by("kind", "cluster_id", maintain_order=True).head(MAX_MEMBERS)
    samples = _samples(store, [*chosen["cluster_id"], *members["sample_id"]])
    shown = []
    for row in chosen.iter_rows(named=True):
        own = members.filter((pl.col("kind") == row["kind"]) & (pl.col("cluster_id") == row["cluster_id"]))
        listed = [{**samples[item["sample_id"]], "reason": item["reason"], "detail": item["detail"]} for item in own.to_dicts()]
        shown.append(Cluster(row["kind"], row["size"], samples[row["cluster_id"]], listed))
    return Clusters(read_manifest(folder)["fingerprint"], counts, shown)


def _belonging(folder: Path) -> pl.DataFrame:
    """Columns kind, cluster_id, sample_id, reason, detail: every sample that goes with another one."""
    verdicts = pl.concat(
        [pl.LazyFrame(VERDICTS.empty_table()), *map(pl.scan_parquet, sorted(folder.glob("verdicts-*.parquet")))]
    )
    dropped = verdicts.filter(pl.col("twin_id").is_not_null()).select(
        kind="reason", cluster_id="twin_id", sample_id="sample_id", reason="reason", detail="detail"
    )
    findings = pl.concat(
        [pl.LazyFrame(FINDINGS.empty_table()), *map(pl.scan_parquet, sorted(folder.glob("findings-*.parquet")))]
    )
    told = findings.filter(pl.col("sample_id") != pl.col("cluster_id")).select(
        kind="finding",
        cluster_id="cluster_id",
        sample_id="sample_id",
        reason=pl.lit(None, pl.String),
        detail=pl.lit("same pictures and same question, other answer; both are kept"),
    )
    return pl.concat([dropped, told]).collect()


def _samples(store: Store, sample_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    wanted = pl.Series("sample_id", sample_ids, pl.String).unique()
    names = wanted.str.replace(r"-[0-9a-f]{24}(-d\d+)?$", "")
    found: dict[str, dict[str, Any]] = {}
    for name in names.unique().sort():
        folder = latest(store.root / "sources" / name)
        files = sorted(folder.glob("samples-*.parquet")) if folder else []
        own = wanted.filter(names == name)
        rows = pl.scan_parquet(files).filter(pl.col("sample_id").is_in(own.implode())).collect() if files else pl.DataFrame()
        found |= {row["sample_id"]: row for row in rows.to_dicts()}
    return found
