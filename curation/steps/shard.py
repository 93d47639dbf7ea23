"""Make a release: pick samples by the plan, shuffle them, and write them as WebDataset shards with an index.

The shuffle is external, so memory does not grow with the mixture: *render* turns each file of samples into the JSON members
it contributes, ordered by their place in the stream; *write* merges, for one shard, its slice of every rendered file. Each
text is written once and read once on the way; pictures go straight from the sources' tars into the shard.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curation.catalog.spec import Catalog, Category
from curation.errors import PlanError
from curation.facts import PLACES, read_source
from curation.fingerprint import fingerprint
from curation.mixing.balance import Plan, plan
from curation.mixing.guard import check_guard
from curation.mixing.picking import chosen, held, is_counted_by_hand, kept_rows, left_out
from curation.mixing.selection import NamesOf, final_verdicts, occurrences, stream_order
from curation.mixture.decontamination import LEAKAGE_NAME
from curation.mixture.spec import Mixture, participants
from curation.references import lacking_pixels, without_pixels
from curation.report import write_report
from curation.runtime.pool import Pool
from curation.shard_format import INDEX_COLUMNS, INDEX_NAME, SCHEMA_VERSION, VERDICTS_NAME, ShardEntry
from curation.sharding.rendering import SourceFacts
from curation.sharding.tasks import RenderTask, WriteTask, index_part, render_samples, write_one_shard
from curation.steps.step import Artefact, created_now, versions
from curation.storage.store import (
    Store,
    bring_tars,
    is_published,
    point_to_latest,
    publish,
    read_manifest,
    replacing,
    write_table,
)
from curation.tables import REMOVED_TURNS, VERDICTS, counts_by
from curation.token_counts import WORDS, TokenizerFile

VERSION = 4
_SAYS_NOTHING_OF_SAMPLES = {"guard", "reproduces", "tokenizer", "warn_repeat"}


@dataclass(frozen=True, slots=True)
class Shard:
    """The release of one mixture over a de-duplicated pool."""

    catalog: Catalog
    mixture: Mixture

    def fingerprint(self, ingested: Mapping[str, Artefact], pool_verdicts: Artefact) -> str:
        """Name of the release: all that its bytes depend on."""
        tokenizer = self._tokenizer()
        return fingerprint(
            {
                "step": "shard",
                "version": [VERSION, SCHEMA_VERSION],
                "mixture": self.mixture.model_dump(mode="json", exclude=_SAYS_NOTHING_OF_SAMPLES),
                "pool": pool_verdicts.fingerprint,
                "sources": {name: [artefact.fingerprint, self._facts(name)] for name, artefact in sorted(ingested.items())},
                **({"tokenizer": tokenizer.sha256} if tokenizer else {}),
            }
        )

    def folder(self, store: Store, ingested: Mapping[str, Artefact], pool_verdicts: Artefact) -> Path:
        """Where the release lies or will lie."""
        return store.release(self.mixture.name, self.fingerprint(ingested, pool_verdicts))

    def run(
        self,
        ingested: Mapping[str, Artefact],
        pool_verdicts: Artefact,
        store: Store,
        pool: Pool,
        accepted: Sequence[str] = (),
    ) -> Artefact:
        """The published release, made now unless it is there already.

        Raises PlanError when the mixture cannot be met, GuardError when a source that is not `accepted` all but vanished.
        """
        folder = self.folder(store, ingested, pool_verdicts)
        if not is_published(folder):
            work = store.work(f"release-{self.mixture.name}", folder.name)
            empty = pl.DataFrame(VERDICTS.empty_table())
            verdicts = pl.concat([empty, *(pl.read_parquet(path) for path in pool_verdicts.files("verdicts"))])
            check_guard(self.mixture, verdicts, accepted)
            referring = [a for a in ingested.values() if a.manifest["counts"].get("by_reference")]
            verdicts = without_pixels(verdicts, lacking_pixels([path for a in referring for path in a.files("samples")]))
            planned = self.plan(ingested, verdicts)
            if not planned.total:
                raise PlanError(f"mixture '{self.mixture.name}': its sources hold no samples; see `curate sources` for why")
            entries = self._write(verdicts, planned, ingested, _removed_turns(pool_verdicts), folder, work, pool)
            manifest = self._manifest(folder, entries, planned, ingested, pool_verdicts)
            write_report(folder, manifest, {name: artefact.folder for name, artefact in ingested.items()})
            publish(folder, manifest)
        store.discard_work(f"release-{self.mixture.name}", folder.name)
        point_to_latest(folder)
        return Artefact(folder, read_manifest(folder))

    def plan(self, ingested: Mapping[str, Artefact], verdicts: pl.DataFrame) -> Plan:
        """The quotas over the samples that the pool keeps and the mixture's conditions let pass."""
        available = kept_counts(self.catalog, self.mixture, verdicts)
        files: dict[str, Mapping[str, int]] = {}
        for name in available:
            source = self.catalog.sources[name]
            if name in ingested and is_counted_by_hand(self.mixture, source):
                facts = read_source(ingested[name].files("samples"))
                found = held(self.mixture, source, facts, kept_rows(facts, verdicts, name))
                available[name], files[name] = found.available, found.by_file
        return plan(self.mixture, available, categories(self.catalog), files)

    def _tokenizer(self) -> TokenizerFile | None:
        return None if self.mixture.tokenizer is None else TokenizerFile.find(Path(self.mixture.tokenizer))

    def _facts(self, name: str) -> SourceFacts:
        source = self.catalog.sources[name]
        prompts = source.prompts if self.mixture.prompts(name) else ()
        return SourceFacts(name, source.category.value, source.license, prompts, self.mixture.prompt_placement)

    def _write(
        self,
        verdicts: pl.DataFrame,
        planned: Plan,
        ingested: Mapping[str, Artefact],
        removed: pl.DataFrame,
        folder: Path,
        work: Path,
        pool: Pool,
    ) -> list[ShardEntry]:
        taken, not_taken = self._choose(verdicts, planned, ingested)
        write_table(folder / VERDICTS_NAME, final_verdicts(verdicts, not_taken).to_arrow().cast(VERDICTS))
        files = [(path, name) for name in sorted(ingested) for path in ingested[name].files("samples")]
        ordered = stream_order(taken, self.mixture.seed).with_row_index("position")
        stream = ordered.join(removed, on="sample_id", how="left", maintain_order="left")
        edges = _shard_edges(stream, self.mixture.shard_bytes)
        renders = list(_render_tasks(stream, files, work, {name: self._facts(name) for name in ingested}, self._tokenizer()))
        pool.map(render_samples, renders, label=f"render {self.mixture.name}")
        for artefact in ingested.values():
            bring_tars(artefact.folder)
        picture_folders = {name: str(artefact.folder) for name, artefact in ingested.items()}
        rendered = [(task.target, task.source.name) for task in renders]
        writes = [
            WriteTask(str(folder), str(work), self.mixture.name, number, start, stop, rendered, picture_folders)
            for number, (start, stop) in enumerate(pairwise(edges))
        ]
        entries = pool.map(write_one_shard, writes, label=f"write {self.mixture.name}")
        parts = [pq.read_table(index_part(work, task.number)) for task in writes]
        write_table(folder / INDEX_NAME, _with_facts(parts, self.catalog))
        return entries

    def _choose(
        self, verdicts: pl.DataFrame, planned: Plan, ingested: Mapping[str, Artefact]
    ) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
        """The occurrences of the mixture in no order, each with the file and row of its sample; and what is left out."""
        taken = [pl.DataFrame(schema=PLACES)]
        not_taken: list[pl.DataFrame] = []
        first_file = 0
        for name in sorted(ingested):
            source, facts = self.catalog.sources[name], read_source(ingested[name].files("samples"), first_file)
            first_file += len(ingested[name].files("samples"))
            kept = kept_rows(facts, verdicts, name)
            choice = chosen(self.mixture, source, facts, kept, planned.quotas[name], _names_in(facts))
            rows, repeats = occurrences(choice.times)
            columns = facts.select(column for column in PLACES if column != "repeat")[rows]
            taken.append(columns.with_columns(repeat=pl.Series(repeats)).select(PLACES.keys()))
            not_taken.append(left_out(self.mixture, source, facts, kept, choice))
        return pl.concat(taken), not_taken

    def _manifest(
        self,
        folder: Path,
        entries: Sequence[ShardEntry],
        planned: Plan,
        ingested: Mapping[str, Artefact],
        pool_verdicts: Artefact,
    ) -> dict[str, Any]:
        index, tokenizer = pl.read_parquet(folder / INDEX_NAME), self._tokenizer()
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.mixture.name,
            "fingerprint": folder.name,
            "num_samples": len(index),
            "num_bytes": sum(entry.num_bytes for entry in entries),
            "tokens": tokenizer.unit if tokenizer else WORDS,
            "shards": [asdict(entry) for entry in entries],
            "tables": {name: _file_facts(folder / name) for name in (INDEX_NAME, VERDICTS_NAME)},
            "categories": counts_by(index, "category"),
            "sources": counts_by(index, "source"),
            "mixture": self.mixture.model_dump(mode="json", exclude={"tokenizer"}),
            "licenses": {name: self.catalog.sources[name].license for name in sorted(ingested)},
            "plan": {name: asdict(quota) for name, quota in planned.quotas.items()},
            "warnings": list(planned.warnings),
            "inputs": {
                "pool": pool_verdicts.fingerprint,
                "sources": {name: artefact.fingerprint for name, artefact in sorted(ingested.items())},
            },
            **(
                {"leakage": pl.read_parquet(leaked).to_dicts()}
                if (leaked := pool_verdicts.folder / LEAKAGE_NAME).exists()
                else {}
            ),
            "conservation": {name: _conservation(name, ingested[name], pool_verdicts) for name in sorted(ingested)},
            "versions": versions(),
            "created": created_now(),
        }


def categories(catalog: Catalog) -> dict[str, Category]:
    """Category of every source."""
    return {name: source.category for name, source in catalog.sources.items()}


def kept_counts(catalog: Catalog, mixture: Mixture, verdicts: pl.DataFrame) -> dict[str, int]:
    """Samples that the pool keeps, for every source of the mixture."""
    counts = dict.fromkeys(participants(mixture, catalog.sources), 0)
    kept = verdicts.filter(pl.col("verdict") == "keep").group_by("source").len()
    counts.update({source: num for source, num in kept.iter_rows() if source in counts})
    return counts


def _names_in(facts: pl.DataFrame) -> NamesOf:
    return lambda rows: facts["sample_id"].gather(rows).to_list()


def _removed_turns(pool_verdicts: Artefact) -> pl.DataFrame:
    """Columns sample_id, removed: the question-answer turns that kept samples lose to de-duplication by turn."""
    empty = pl.DataFrame(REMOVED_TURNS.empty_table())
    rows = pl.concat([empty, *(pl.read_parquet(path) for path in pool_verdicts.files("turns"))])
    return rows.group_by("sample_id").agg(removed=pl.col("turn").sort())


def _shard_edges(stream: pl.DataFrame, shard_bytes: int) -> list[int]:
    """Positions at which shards begin, and the end of the last: a new one wherever the running size passes the target."""
    sizes = stream["about_bytes"].to_numpy()
    before = np.cumsum(sizes) - sizes
    starts = np.flatnonzero(np.diff(before // shard_bytes, prepend=-1))
    return [*starts.tolist(), len(stream)]


def _render_tasks(
    stream: pl.DataFrame,
    files: Sequence[tuple[Path, str]],
    work: Path,
    facts: Mapping[str, SourceFacts],
    tokenizer: TokenizerFile | None,
) -> Sequence[RenderTask]:
    tasks: list[RenderTask] = []
    assigned = stream.select("position", "file", "row", "repeat", "removed").partition_by(
        "file", as_dict=True, include_key=False
    )
    for number, (path, name) in enumerate(files):
        if (number,) not in assigned:
            continue
        listed = work / f"assigned-{number:06d}.parquet"
        with replacing(listed) as temporary:
            assigned[(number,)].write_parquet(temporary)
        target = work / f"rendered-{number:06d}.arrow"
        tasks.append(RenderTask(str(path), str(listed), str(target), facts[name], tokenizer))
    return tasks


def _with_facts(parts: Sequence[pa.Table], catalog: Catalog) -> pa.Table:
    index = pl.DataFrame(pa.concat_tables(parts))
    names = {name: source.category.value for name, source in catalog.sources.items()}
    index = index.with_columns(category=pl.col("source").replace_strict(names, return_dtype=pl.String))
    table = index.select(INDEX_COLUMNS).to_arrow()
    strings = [
        pa.field(f.name, pa.string()) if pa.types.is_large_string(f.type) or f.type == pa.string_view() else f
        for f in table.schema
    ]
    return table.cast(pa.schema(strings))


def _file_facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as handle:
        return {"num_bytes": path.stat().st_size, "sha256": hashlib.file_digest(handle, "sha256").hexdigest()}


def _conservation(name: str, ingested: Artefact, pool_verdicts: Artefact) -> dict[str, Any]:
    """The life of a source's records in figures: records = samples + rejected, samples = kept + dropped."""
    counts = ingested.manifest["counts"]
    pooled = pool_verdicts.manifest["counts"][name]
    return {
        "records": counts["records"],
        "rejected": counts["rejected"],
        "samples": counts["samples"],
        "dropped": pooled["dropped"],
        "kept": pooled["kept"],
        "repaired": counts["repaired"],
    }
