"""Ingest one source: upstream files to checked samples, their pictures, and a quarantine with reasons.

Three passes over partitions, each written under the work folder as it finishes, so that a killed run resumes:
*map* (records to turns and picture refs), *look* (each distinct picture read, decoded and stored once), and *join* (samples
whose pictures are whole; the others rejected with the picture's reason). Sources without pictures are done after *map*.
Partitions depend on the files alone, so the result is the same for any number of workers.

`begin` makes the first pass and `finish` the others, so that sources which share an archive can read it together in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from curation.catalog.spec import Benchmark, Catalog, Row, ingest_settings
from curation.fingerprint import fingerprint
from curation.references import lacking_pixels
from curation.runtime.pool import Pool
from curation.sources.archive_looking import ArchiveTask
from curation.sources.joining import JoinTask, join_chunk
from curation.sources.looking import merge_tars
from curation.sources.mapping import MapTask, map_chunk, mapped_path, read_counts
from curation.sources.readers import chunks, survey
from curation.sources.records import Span
from curation.steps.picture_pass import PicturePass
from curation.steps.step import Artefact, created_now, versions
from curation.storage.store import Store, is_published, point_to_latest, publish, read_manifest, write_table
from curation.tables import COPY_SUFFIX, copy_id
from curation.upstream.inputs import PartInputs, find_inputs, hash_inputs, inputs_digest

VERSION = 7
"""Bumped when the same files and settings would give other samples; published sources of older versions are then redone."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A source whose records are read and whose pictures are not; of one that is published already, nothing is left to do.

    `chunks`: the numbers of each part's chunks.
    """

    folder: Path
    work: Path
    inputs: Sequence[PartInputs]
    files: pl.DataFrame
    digest: str
    pictures: PicturePass
    chunks: Sequence[range]

    def refs(self, part: int) -> pl.Series:
        """All picture refs that the records of a part name, sorted."""
        return _distinct_refs([mapped_path(self.work, number) for number in self.chunks[part]])

    def archive_reads(self) -> list[ArchiveTask]:
        """The passes over archives that its pictures take, to be made together with those of other sources."""
        return [
            task
            for number, part in enumerate(self.inputs)
            if self.chunks and part.part.images is not None
            for task in self.pictures.archive_reads(number, part, self.refs(number))
        ]


@dataclass(frozen=True, slots=True)
class Ingest:
    """The ingestion of one catalog row, a source or a benchmark."""

    catalog: Catalog
    source: Row

    def run(self, store: Store, pool: Pool) -> Artefact:
        """The published samples, made now unless they are there already.

        Raises CatalogError or SourceError when the source's files cannot be found or read at all.
        """
        return self.finish(self.begin(store, pool), store, pool)

    def begin(self, store: Store, pool: Pool) -> Begun:
        """Find the source's files and read its records, unless that is published. Raises as `run` does."""
        inputs = find_inputs(self.catalog, self.source, store, pool)
        files = hash_inputs(store, self.source, inputs, pool)
        digest = inputs_digest(files)
        name = fingerprint({"step": "ingest", "version": VERSION, "settings": ingest_settings(self.source), "inputs": digest})
        place = store.benchmark if isinstance(self.source, Benchmark) else store.source
        folder = place(self.source.name, name)
        work = store.work(f"ingest-{self.source.name}", name)
        hashes = dict(files.select("file", "sha256").iter_rows())
        pictures = PicturePass(self.source.name, hashes, store, work, pool)
        if is_published(folder):
            return Begun(folder, work, inputs, files, digest, pictures, ())
        pool.reporter.note(f"ingest {self.source.name}: {len(files):,} upstream files")
        return Begun(folder, work, inputs, files, digest, pictures, self._read(folder, work, inputs, pool))

    def finish(self, begun: Begun, store: Store, pool: Pool) -> Artefact:
        """Look at the pictures, join them to their records, and publish."""
        if not is_published(begun.folder):
            self._join(begun, pool)
            publish(begun.folder, self._manifest(begun))
            begun.pictures.finish()
        store.discard_work(f"ingest-{self.source.name}", begun.folder.name)
        point_to_latest(begun.folder)
        return Artefact(begun.folder, read_manifest(begun.folder))

    def _read(self, folder: Path, work: Path, inputs: Sequence[PartInputs], pool: Pool) -> list[range]:
        """Map the records of each part; returns the numbers of their chunks."""
        found: list[range] = []
        number = 0
        for part_inputs in inputs:
            root, part = part_inputs.root, part_inputs.part
            spans: list[Span] = [span for file in part_inputs.records for span in survey(root, file, part)]
            numbered = list(enumerate(chunks(spans), start=number))
            maps = [MapTask(str(root), self.source.name, part, chunk, str(folder), str(work), n) for n, chunk in numbered]
            pool.map(map_chunk, maps, label=f"read {self.source.name}")
            found.append(range(number, number + len(numbered)))
            number += len(numbered)
        return found

    def _join(self, begun: Begun, pool: Pool) -> None:
        folder, work = begun.folder, begun.work
        num_tars = 0
        looked: list[Path] = []
        for number, part_inputs in enumerate(begun.inputs):
            images = part_inputs.part.images
            if images is None:
                continue
            looks = begun.pictures.look(number, part_inputs, begun.refs(number))
            facts = work / f"facts-{number}.parquet"
            num_tars = merge_tars(looks, folder, facts, images=images, first_tar=num_tars, earlier=looked)
            looked.append(facts)
            joins = [JoinTask(self.source.name, str(facts), str(folder), str(work), n) for n in begun.chunks[number]]
            pool.map(join_chunk, joins, label=f"join {self.source.name}")
        _name_copies(sorted(folder.glob("samples-*.parquet")))

    def _manifest(self, begun: Begun) -> dict[str, Any]:
        folder, work, inputs, files = begun.folder, begun.work, begun.inputs, begun.files
        rejected, repaired = read_counts(work)
        num_samples, num_images, num_tokens = _totals(sorted(folder.glob("samples-*.parquet")))
        has_references = any(part.images is not None and part.images.by_reference for part in self.source.parts)
        references = {"by_reference": len(lacking_pixels(sorted(folder.glob("samples-*.parquet"))))} if has_references else {}
        record_files = {f"{n}/{file}" for n, part in enumerate(inputs) for file in part.records}
        return {
            "source": self.source.name,
            "fingerprint": folder.name,
            "counts": {
                "records": num_samples + sum(rejected.values()),
                "samples": num_samples,
                "rejected": dict(sorted(rejected.items())),
                "repaired": dict(sorted(repaired.items())),
                "images": num_images,
                "tokens": num_tokens,
                **references,
            },
            "expected_records": self.source.expected.records,
            "inputs": {
                "digest": begun.digest,
                "places": [dict(part.place) for part in inputs],
                "is_original": self.source.reads_original,
                "num_files": len(files),
                "num_bytes": int(files["size"].sum()),
                "records": files.filter(pl.col("file").is_in(sorted(record_files))).to_dicts(),
            },
            "archives": [
                {**report, "parts": [PurePath(part).name for part in report["parts"]]} for report in begun.pictures.reports
            ],
            "settings": [part.model_dump(mode="json", exclude_defaults=True) for part in self.source.parts],
            "version": VERSION,
            "versions": versions(),
            "created": created_now(),
        }


def _distinct_refs(mapped: Sequence[Path]) -> pl.Series:
    """All picture refs named by the records, sorted."""
    tables = [pl.scan_parquet(path).select(pl.col("refs").explode()) for path in mapped if path.exists()]
    if not tables:
        return pl.Series("refs", [], pl.String)
    return pl.concat(tables).drop_nulls().unique().sort("refs").collect()["refs"]


def _totals(files: Sequence[Path]) -> tuple[int, int, int]:
    """Samples, pictures shown (repeats counted) and tokens."""
    if not files:
        return 0, 0, 0
    row = pl.scan_parquet(list(files)).select(pl.len(), pl.col("num_images").sum(), pl.col("num_tokens").sum()).collect().row(0)
    return int(row[0]), int(row[1]), int(row[2])


def _name_copies(files: Sequence[Path]) -> None:
    """Give records with the very same content ids of their own, numbered in order of their origin."""
    if not files:
        return
    ids = pl.read_parquet(list(files), columns=["sample_id"])["sample_id"]
    if ids.n_unique() == len(ids):
        return
    columns = ["sample_id", "origin_file", "origin_position"]
    rows = pl.concat([pl.read_parquet(path, columns=columns).with_columns(file=pl.lit(n)) for n, path in enumerate(files)])
    # An interrupted attempt may have renamed some files already: number all copies of a content anew.
    rows = rows.with_columns(sample_id=pl.col("sample_id").str.replace(COPY_SUFFIX, ""))
    repeated = rows.filter(pl.col("sample_id").is_duplicated()).sort("sample_id", "origin_file", "origin_position", "file")
    if not len(repeated):
        return
    repeated = repeated.with_columns(copy=pl.int_range(pl.len()).over("sample_id")).filter(pl.col("copy") > 0)
    for (number,), group in repeated.group_by("file"):
        _rename(files[int(str(number))], group)


def _rename(path: Path, copies: pl.DataFrame) -> None:
    table = pq.read_table(path)
    places = {(row["sample_id"], row["origin_file"], row["origin_position"]): row["copy"] for row in copies.to_dicts()}
    base_ids = pl.Series(table.column("sample_id")).str.replace(COPY_SUFFIX, "").to_list()
    keys = zip(base_ids, *(table.column(name).to_pylist() for name in ("origin_file", "origin_position")), strict=True)
    renamed = [copy_id(key[0], places.get(key, 0)) for key in keys]
    write_table(path, table.set_column(0, table.schema.field(0), [renamed]))
