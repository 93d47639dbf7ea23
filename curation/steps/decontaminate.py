"""Hold a pool against evaluation sets: verdicts with what leaked dropped, and the leakage table.

The benchmarks' items and thumbnails are gathered once; every file of thumbnails and of samples is then compared by itself, so
memory is that of the benchmarks and one file, whatever the pool's size.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curation.decontamination.contacts import CONTACTS, HITS, PICTURE_HITS, Items, benchmark_items, contacts
from curation.decontamination.leakage import STAGE, decontaminated, leakage
from curation.dedup.look_alike_rule import LookAlikeRule
from curation.dedup.near_image import Thumbnails, alike_between
from curation.errors import SourceError
from curation.fingerprint import fingerprint
from curation.mixture.decontamination import LEAKAGE_NAME, DecontaminationSpec
from curation.runtime.pool import Pool
from curation.steps.step import Artefact, created_now
from curation.storage.store import Store, is_published, publish, read_manifest, replacing, write_table
from curation.tables import THUMBNAILS, VERDICTS

VERSION = 4
ROWS_PER_FILE = 1_000_000
_ITEM_TABLES = ("facts", "pictures", "questions", "grams")
_KINDS: dict[str, dict[str, type[pl.DataType]]] = {"contacts": CONTACTS, "hits": HITS, "pictures": PICTURE_HITS}
_COUNTS = ("records", "samples", "rejected")
_ALIKE = {"pixels": pl.String, "twin": pl.String}


def decontaminated_fingerprint(pool: str, benchmarks: Mapping[str, str], spec: DecontaminationSpec) -> str:
    """Name of the pool `pool` once held against `benchmarks` (name -> fingerprint)."""
    return fingerprint(
        {"step": STAGE, "version": VERSION, "pool": pool, "benchmarks": dict(sorted(benchmarks.items())), "spec": spec}
    )


@dataclass(frozen=True, slots=True)
class AlikeTask:
    """A file of thumbnails, compared with those in `benchmarks`; pairs go to `target`."""

    thumbnails: str
    benchmarks: str
    target: str


@dataclass(frozen=True, slots=True)
class ContactTask:
    """A file of samples, held against the items in `work`; what is met goes to `target`-contacts, -hits and -pictures."""

    samples: str
    work: str
    alike: Sequence[str]
    prompts: tuple[str, ...]
    spec: DecontaminationSpec
    target: str


@dataclass(frozen=True, slots=True)
class Decontaminate:
    """A pool held against benchmarks; `prompts` are each source's response-format prompts, which count for nothing."""

    spec: DecontaminationSpec
    prompts: Mapping[str, tuple[str, ...]]

    def run(
        self,
        pooled: Artefact,
        ingested: Mapping[str, Artefact],
        benchmarks: Mapping[str, Artefact],
        store: Store,
        pool: Pool,
    ) -> Artefact:
        """The published verdicts, made now unless they are there already.

        Raises SourceError when a benchmark has no usable item: nothing would be found, whatever leaked.
        """
        for name, artefact in benchmarks.items():
            counts = artefact.manifest["counts"]
            if not counts["samples"]:
                reasons = ", ".join(f"{reason} {number:,}" for reason, number in counts["rejected"].items()) or "no records"
                raise SourceError(
                    f"benchmark '{name}': none of its {counts['records']:,} records is usable ({reasons}); "
                    "mend its row in the catalog, or leave it out of `decontaminate:`"
                )
            if counts["rejected"]:
                refused = counts["records"] - counts["samples"]
                pool.reporter.note(f"benchmark {name}: {refused:,} of {counts['records']:,} records are unusable and not held")
        inputs = {name: artefact.fingerprint for name, artefact in benchmarks.items()}
        folder = store.pool(decontaminated_fingerprint(pooled.fingerprint, inputs, self.spec))
        if not is_published(folder):
            work = store.work(STAGE, folder.name)
            publish(folder, self._made(folder, work, pooled, ingested, benchmarks, pool))
        store.discard_work(STAGE, folder.name)
        return Artefact(folder, read_manifest(folder))

    def _made(
        self,
        folder: Path,
        work: Path,
        pooled: Artefact,
        ingested: Mapping[str, Artefact],
        benchmarks: Mapping[str, Artefact],
        pool: Pool,
    ) -> dict[str, Any]:
        sizes = _write_items(benchmarks, work, self.spec)
        found = {name: self._met(name, artefact, work, pool) for name, artefact in sorted(ingested.items())}
        met, hits, pictures = (_gathered(found, kind) for kind in ("contacts", "hits", "pictures"))
        folder.mkdir(parents=True, exist_ok=True)
        for path in pooled.folder.glob("*.parquet"):
            if not path.name.startswith("verdicts-"):
                with replacing(folder / path.name) as temporary:
                    shutil.copyfile(path, temporary)
        empty = pl.DataFrame(VERDICTS.empty_table())
        verdicts = pl.concat([empty, *(pl.read_parquet(path) for path in pooled.files("verdicts"))])
        verdicts = decontaminated(verdicts, met, self.spec)
        for number in range(-(-len(verdicts) // ROWS_PER_FILE)):
            rows = verdicts.slice(number * ROWS_PER_FILE, ROWS_PER_FILE)
            write_table(folder / f"verdicts-{number:05d}.parquet", rows.to_arrow().cast(VERDICTS))
        table = leakage(sizes, met, hits, pictures, verdicts)
        write_table(folder / LEAKAGE_NAME, table.to_arrow())
        write_table(folder / "contacts-00000.parquet", met.sort("sample_id", "benchmark", "signal").to_arrow())
        read = {
            name: {"fingerprint": artefact.fingerprint, **{key: artefact.manifest["counts"][key] for key in _COUNTS}}
            for name, artefact in sorted(benchmarks.items())
        }
        return _manifest(folder.name, pooled, read, verdicts, self.spec)

    def _met(self, name: str, artefact: Artefact, work: Path, pool: Pool) -> list[str]:
        alike: list[str] = []
        thumbnails = artefact.files("thumbnails")
        if self.spec.near_images and thumbnails and (work / "thumbnails.parquet").exists():
            tasks = [
                AlikeTask(str(path), str(work / "thumbnails.parquet"), str(work / f"alike-{name}-{number:05d}.parquet"))
                for number, path in enumerate(thumbnails)
            ]
            alike = pool.map(find_alike, tasks, label=f"compare pictures of {name} with benchmarks")
        prompts = self.prompts.get(name, ())
        samples = [
            ContactTask(str(path), str(work), alike, prompts, self.spec, str(work / f"met-{name}-{number:05d}"))
            for number, path in enumerate(artefact.files("samples"))
        ]
        return pool.map(find_contacts, samples, label=f"hold {name} against benchmarks")


def _write_items(benchmarks: Mapping[str, Artefact], work: Path, spec: DecontaminationSpec) -> pl.DataFrame:
    """Write the items and thumbnails of all benchmarks to `work`; returns columns benchmark, items, images."""
    columns = ["sample_id", "source", "conversations", "images"]
    files = [path for name in sorted(benchmarks) for path in benchmarks[name].files("samples")]
    found = [pl.read_parquet(path, columns=columns) for path in files]
    names = pl.DataFrame({"benchmark": sorted(benchmarks)}, schema={"benchmark": pl.String})
    if not found:
        items = Items(
            pl.DataFrame(schema={"item": pl.Int64, "item_id": pl.String, "benchmark": pl.String, "has_pictures": pl.Boolean}),
            pl.DataFrame(schema={"item": pl.Int64, "pixels": pl.String}),
            pl.DataFrame(schema={"item": pl.Int64, "text": pl.String}),
            pl.DataFrame(schema={"item": pl.Int64, "gram": pl.UInt64}),
        )
    else:
        items = benchmark_items(pl.concat(found), spec)
    for table in _ITEM_TABLES:
        with replacing(work / f"items-{table}.parquet") as temporary:
            getattr(items, table).write_parquet(temporary)
    thumbnails = [path for name in sorted(benchmarks) for path in benchmarks[name].files("thumbnails")]
    if thumbnails:
        distinct = pl.concat([pl.read_parquet(path) for path in thumbnails]).unique("pixels").sort("pixels")
        write_table(work / "thumbnails.parquet", distinct.to_arrow().cast(THUMBNAILS))
    counted = items.facts.group_by("benchmark").agg(items=pl.len())
    shown = items.pictures.join(items.facts, on="item").group_by("benchmark").agg(images=pl.col("pixels").n_unique())
    sizes = names.join(counted, on="benchmark", how="left").join(shown, on="benchmark", how="left")
    return sizes.with_columns(pl.col("items", "images").fill_null(0).cast(pl.Int64))


def find_alike(task: AlikeTask) -> str:
    """Write the pairs (columns pixels, twin) of a source's and the benchmarks' pictures that look alike but differ."""
    target = Path(task.target)
    if not target.exists():
        ours, theirs = (pl.read_parquet(path) for path in (task.thumbnails, task.benchmarks))
        found = alike_between(_thumbnails(ours), _thumbnails(theirs), LookAlikeRule())
        pairs = pl.DataFrame({"pixels": ours["pixels"][found.left], "twin": theirs["pixels"][found.right]}, schema=_ALIKE)
        with replacing(target) as temporary:
            pairs.filter(pl.col("pixels") != pl.col("twin")).write_parquet(temporary)
    return task.target


def _thumbnails(rows: pl.DataFrame) -> Thumbnails:
    packed = np.frombuffer(bytearray().join(rows["thumbnail"].to_list()), np.uint8).reshape(len(rows), -1)
    return Thumbnails(packed, rows["aspect"].to_numpy())


def find_contacts(task: ContactTask) -> str:
    """Write what one file of samples meets."""
    last = Path(f"{task.target}-pictures.parquet")
    if not last.exists():
        items = Items(*(pl.read_parquet(Path(task.work) / f"items-{table}.parquet") for table in _ITEM_TABLES))
        samples = pl.read_parquet(task.samples, columns=["sample_id", "conversations", "images"])
        alike = pl.concat([pl.DataFrame(schema=_ALIKE), *(pl.read_parquet(path) for path in task.alike)]).unique()
        met = contacts(samples, items, alike, task.prompts, task.spec)
        for kind in _KINDS:
            with replacing(Path(f"{task.target}-{kind}.parquet")) as temporary:
                getattr(met, kind).write_parquet(temporary)
    return task.target


def _gathered(found: Mapping[str, Sequence[str]], kind: str) -> pl.DataFrame:
    tables = [pl.DataFrame(schema=_KINDS[kind]).with_columns(source=pl.lit(None, pl.String))]
    for name, targets in found.items():
        tables += [pl.read_parquet(f"{target}-{kind}.parquet").with_columns(source=pl.lit(name)) for target in targets]
    return pl.concat(tables).unique(maintain_order=True)


def _manifest(
    name: str, pooled: Artefact, benchmarks: Mapping[str, Any], verdicts: pl.DataFrame, spec: DecontaminationSpec
) -> dict[str, Any]:
    counts: dict[str, dict[str, Any]] = {
        source: {"samples": entry["samples"], "kept": 0, "dropped": {}} for source, entry in pooled.manifest["counts"].items()
    }
    tallied = verdicts.group_by("source", "verdict", "reason").len().sort("source", "reason")
    for source, verdict, reason, number in tallied.iter_rows():
        if verdict == "keep":
            counts[source]["kept"] += number
        else:
            counts[source]["dropped"][reason] = number
    return {
        **pooled.manifest,
        "fingerprint": name,
        "pool": pooled.fingerprint,
        "benchmarks": benchmarks,
        "decontaminate": spec.model_dump(mode="json"),
        "counts": counts,
        "created": created_now(),
    }
