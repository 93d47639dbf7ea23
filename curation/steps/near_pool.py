"""The verdicts of a pool under `dedup:` settings, from the signatures of its sources: what `Deduplicate` writes with them."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curation.dedup.boilerplate import boilerplate
from curation.dedup.buckets import Capped, Pairs, join_pairs, split_pairs
from curation.dedup.keepers import NOBODY, Sweep
from curation.dedup.look_alike_rule import LookAlikeRule
from curation.dedup.look_alikes import LookAlikes
from curation.dedup.meaning import PICTURE_SIDE
from curation.dedup.minhash import Boilerplate
from curation.dedup.pair_rule import (
    Contest,
    Items,
    Outcome,
    combined,
    contest,
    outcome,
    picture_reuse,
    preferred,
    said_alike,
    show_the_same,
)  # fmt: skip
from curation.dedup.shingles import Hashes
from curation.dedup.similarity import BOTH_EMPTY, WHOLE, Similarities
from curation.dedup.verdict_rows import Measured, conflicts, removed_turns, sample_decisions, verdict_rows
from curation.mixture.dedup import DedupSpec, SemanticSpec
from curation.near.images import NearImages
from curation.near.meanings import SemanticJoin, SemanticMatches, VectorFile
from curation.near.shingle_files import SHINGLES_SUFFIX
from curation.near.texts import ItemFacts, ItemFile, Matches, NearJoin
from curation.runtime.pool import InProcessPool, Pool
from curation.steps.step import Artefact
from curation.storage.store import write_table
from curation.tables import FINDINGS, ITEMS, REMOVED_TURNS, SIGNATURES, VERDICTS, mix_bits

ROWS_PER_FILE = 1_000_000
ITEMS_WORTH_A_POOL = 100_000
"""Below this many items another process costs more than it saves."""

BYTES_PER_SAMPLE = 450
BYTES_PER_ITEM = 200
BASE_BYTES = 400 << 20
RUNTIME_BYTES, WORKER_BYTES = 500 << 20, 300 << 20
"""What Ray's own processes and each idle worker take."""

_NO_EDGES = np.zeros(0, np.uint32)


@dataclass(frozen=True)
class NearPool:
    """One pool: its sources' `cleaned`, `signed` and (where pictures that look alike are sought) `ingested` and (where meaning
    counts) `embedded` artefacts, and a folder for work on the way."""

    spec: DedupSpec
    cleaned: Mapping[str, Artefact]
    signed: Mapping[str, Artefact]
    ingested: Mapping[str, Artefact]
    embedded: Mapping[str, Artefact]
    work: Path
    pool: Pool

    def write(self, folder: Path) -> dict[str, Any]:
        """Write verdicts, removed turns and findings to `folder`; returns what its manifest says of them."""
        samples, items = self._loaded
        self._declare(len(samples), len(items))
        looks, seen = self._near_images.find(self.pool) if self.spec.near_images else (None, {})
        if looks is not None:
            self._note_unseen(seen["not_compared"])
            items = replace(items, groups=looks.groups(_by_sample(items.pictures, items, len(samples)))[items.sample])
        by_id = samples["sample_id"].arg_sort().to_numpy().astype(np.int64)
        places = np.empty(len(by_id), np.uint32)
        places[by_id] = np.arange(len(by_id), dtype=np.uint32)
        ranks = preferred(samples.select("source", "pixels", "answer_chars", place=pl.Series(places)), self.spec)
        samples = samples.select("sample_id", "source", "reason")
        del places
        field = contest(items, ranks, self.spec)
        del ranks
        decided, measured, capped = self._decided(items, field, looks)
        decisions = sample_decisions(items, decided, len(samples))
        for number, start in enumerate(range(0, len(by_id), ROWS_PER_FILE)):
            rows = by_id[start : start + ROWS_PER_FILE]
            found = verdict_rows(samples, rows, decisions, items, measured, self.spec, looks)
            write_table(folder / f"verdicts-{number:05d}.parquet", found.to_arrow().cast(VERDICTS))
        removed = removed_turns(samples, items, decided, decisions)
        write_table(folder / "turns-00000.parquet", removed.to_arrow().cast(REMOVED_TURNS))
        differing = conflicts(samples, items, decided, self.spec)
        write_table(folder / "findings-00000.parquet", differing.to_arrow().cast(FINDINGS))
        return {
            "dedup": self.spec.model_dump(mode="json"),
            "removed_turns": len(removed),
            "findings": {
                "conflicting_answer": {"clusters": differing["cluster_id"].n_unique(), "samples": len(differing)},
                "picture_reuse": picture_reuse(items, decided),
            },
            "capped": asdict(capped),
        } | ({"near_images": seen} if seen else {})

    def _decided(self, items: Items, field: Contest, looks: LookAlikes | None) -> tuple[Outcome, Measured, Capped]:
        sweep, capped = Sweep(field.rivals), Capped()
        labels, similarities = [_NO_EDGES], [np.zeros((0, 4), np.float32)]
        pool = self.pool if len(items) >= ITEMS_WORTH_A_POOL else InProcessPool(self.pool.reporter)
        if self.spec.text == "near":
            capped = self._join.propose(ItemFacts(field.labels, field.groups, items.answers), pool)
        beside: list[tuple[Pairs, Similarities]] = []
        if looks is not None:
            said, left_out = said_alike(items, field, self.spec.bucket_cap)
            beside.append((said, _said_the_same(len(said))))
            capped += left_out
        meant: SemanticMatches | None = None
        if self.spec.semantic is not None:
            groups = self._meaning_groups(items, self.spec.semantic)
            meant, left_out = self._semantic.find(ItemFacts(field.labels, groups, items.answers), pool)
            capped += left_out
            if self.spec.semantic.vision_model is None:
                beside.append((meant.pairs, meant.similarities))
                meant = None
        if capped.buckets:
            self.pool.reporter.note(
                f"de-duplicate: {capped.buckets:,} buckets of up to {capped.largest:,} texts were over the cap of "
                f"{self.spec.bucket_cap:,}: {capped.pairs:,} pairs were not compared (raise `dedup: bucket_cap` for more)"
            )
        decided = 0
        for matched in self._matches(len(field.entrants), pool):
            found = matched
            for pairs, measured in beside:
                found = _joined(found, pairs, measured, decided)
            if looks is not None:
                found = found.taken(show_the_same(items, field, found.worse, found.better, looks))
            if meant is not None:  # their pictures are the same pixels, or near by the model
                found = _joined(found, meant.pairs, meant.similarities, decided)
            used = sweep.advance(found.worse, found.better, found.until)
            decided = found.until
            labels.append(found.worse[used])
            similarities.append(found.similarities[used])
        label_of_item = np.full(len(items), NOBODY, np.uint32)
        label_of_item[field.order] = field.label[field.leader]
        kept_by = Measured(np.concatenate(labels), np.concatenate(similarities), label_of_item)
        return outcome(items, field, sweep.state, sweep.keeper, self.spec), kept_by, capped

    def _matches(self, num_labels: int, pool: Pool) -> Iterator[Matches]:
        """Near texts, range by range; the last range ends with all labels."""
        if self.spec.text == "near":
            yield from self._join.matches(num_labels, pool)
        yield Matches(_NO_EDGES, _NO_EDGES, np.zeros((0, 4), np.float32), num_labels)

    def _note_unseen(self, number: int) -> None:
        if number:
            self.pool.reporter.note(
                f"de-duplicate: {number:,} pairs of pictures were not compared: too many look alike in hash"
            )

    @cached_property
    def _near_images(self) -> NearImages:
        artefacts = [self.ingested[name] for name in sorted(self.cleaned)]
        thumbnails, samples = (
            [path for artefact in artefacts for path in artefact.files(prefix)] for prefix in ("thumbnails", "samples")
        )
        return NearImages(thumbnails, samples, self.work, LookAlikeRule(mirrored=self.spec.mirrored_images))

    @cached_property
    def _join(self) -> NearJoin:
        return NearJoin(list(self._item_files()), self._boilerplate(), self.spec, self.work)

    def _meaning_groups(self, items: Items, spec: SemanticSpec) -> Hashes:
        """By item: only those of one group may mean the same. Pictures that have vectors are left to these; without a vision
        model they must be the same, or may look alike where that counts; without a text model texts must be equal."""
        pictures = items.groups if spec.vision_model is None else items.pictures.copy()
        if spec.vision_model is not None:
            seen = [
                np.load(file.path, mmap_mode="r")[:, PICTURE_SIDE, :].any(axis=1)
                for file in self._semantic.files
                if file.num_items
            ]
            pictures[np.concatenate([np.zeros(0, np.bool_), *seen])] = np.uint64(1)
        if spec.model is None:
            return combined(pictures, items.questions, items.answers)
        return combined(pictures, items.numbers if self.spec.same_numbers else np.zeros_like(pictures))

    @cached_property
    def _semantic(self) -> SemanticJoin:
        assert self.spec.semantic is not None
        return SemanticJoin(list(self._vector_files()), self.spec.semantic, self.spec.bucket_cap, self.work)

    def _vector_files(self) -> Iterator[VectorFile]:
        start = 0
        for name in sorted(self.embedded):
            artefact = self.embedded[name]
            paths = sorted(artefact.folder.glob("vectors-*.npy"))
            for path, num_items in zip(paths, artefact.manifest["counts"]["items"], strict=True):
                yield VectorFile(str(path), start, num_items)
                start += num_items

    def _declare(self, num_samples: int, num_items: int) -> None:
        is_alone = isinstance(self.pool, InProcessPool)
        workers = 1 if is_alone or num_items < ITEMS_WORTH_A_POOL else os.cpu_count() or 1
        told = BASE_BYTES + num_samples * BYTES_PER_SAMPLE + num_items * BYTES_PER_ITEM
        told += 0 if is_alone else RUNTIME_BYTES + workers * WORKER_BYTES
        told += self._join.declared_bytes(workers) if self.spec.text == "near" else 0
        told += self._near_images.declared_bytes(1 if is_alone else os.cpu_count() or 1) if self.spec.near_images else 0
        told += self._semantic.declared_bytes(workers) if self.spec.semantic is not None else 0
        self.pool.reporter.note(f"de-duplicate: {num_samples:,} samples, at most {told / 1e9:.1f} GB of memory")

    def _item_files(self) -> Iterator[ItemFile]:
        start = 0
        for name in sorted(self.signed):
            artefact = self.signed[name]
            counts = artefact.manifest["counts"]
            paths = sorted(artefact.folder.glob(f"shingles-*{SHINGLES_SUFFIX}"))
            for path, num_items, num_shingles in zip(paths, counts["items"], counts["shingles"], strict=True):
                yield ItemFile(str(path), start, num_items, num_shingles)
                start += num_items

    def _boilerplate(self) -> Boilerplate:
        parts = [pl.read_parquet(path) for name in sorted(self.signed) for path in self.signed[name].files("frequent")]
        schema = {"value": pl.UInt32, "num_items": pl.Int64, "sampled_items": pl.Int64}
        found = pl.concat([pl.DataFrame(schema=schema), *parts])
        values, counts, sampled = (found[column].to_numpy() for column in schema)
        return boilerplate(values, counts, sampled, self.spec.boilerplate_share)

    @cached_property
    def _loaded(self) -> tuple[pl.DataFrame, Items]:
        """All samples (columns sample_id, source, reason, pixels, answer_chars) and all items, in the order of the files."""
        tables, parts = [pl.DataFrame(SIGNATURES.empty_table()).drop("text_key")], [pl.DataFrame(ITEMS.empty_table())]
        for name in sorted(self.cleaned):
            signatures, items = self.cleaned[name].files("signatures"), self.signed[name].files("items")
            for signature_file, item_file in zip(signatures, items, strict=True):
                parts.append(pl.read_parquet(item_file))
                tables.append(pl.read_parquet(signature_file).drop("text_key"))
        offsets = np.cumsum([0, *(len(table) for table in tables[:-1])])
        shifted = [
            part.with_columns(sample=pl.col("row").cast(pl.Int64) + offset)
            for part, offset in zip(parts, offsets.tolist(), strict=True)
        ]
        found, samples = pl.concat(shifted), pl.concat(tables)
        del tables, parts, shifted
        sample = found["sample"].to_numpy()
        pictures = picture_keys(samples["image_key"])
        firsts = np.searchsorted(sample, np.arange(len(samples)))
        facts = found[["pixels", "answer_chars"]][firsts]
        return samples.drop("image_key").hstack(facts), Items(
            sample,
            found["turn"].to_numpy().astype(np.int64),
            pictures[sample],
            pictures[sample],
            found["question_key"].to_numpy(),
            found["answer_key"].to_numpy(),
            found["number_key"].to_numpy(),
            samples["reason"].is_null().to_numpy()[sample],
        )


def picture_keys(image_keys: pl.Series) -> Hashes:
    """64 bits of each 16-byte key of pictures: 0 where it is all zeros, which stands for no pictures."""
    halves = np.frombuffer(b"".join(image_keys.to_list()), "<u8").reshape(-1, 2).astype(np.uint64)
    return np.where(halves.any(axis=1), np.maximum(mix_bits(halves[:, 0]) ^ halves[:, 1], np.uint64(1)), np.uint64(0))


def _by_sample(values: Hashes, items: Items, num_samples: int) -> Hashes:
    """Of `values` by item those of each sample's first."""
    return values[np.searchsorted(items.sample, np.arange(num_samples))]


def _joined(found: Matches, others: Pairs, measured: Similarities, start: int) -> Matches:
    """`found`, whose range begins at `start`, with those of the sorted pairs `others` in that range that it has not."""
    first, last = np.searchsorted(others, np.array([start, found.until], np.uint64) << np.uint64(32))
    both = np.concatenate([join_pairs(found.worse, found.better), others[first:last]])
    pairs, firsts = np.unique(both, return_index=True)
    worse, better = split_pairs(pairs)
    return Matches(worse, better, np.concatenate([found.similarities, measured[first:last]])[firsts], found.until)


def _said_the_same(number: int) -> Similarities:
    """Similarities of pairs that say the very same."""
    whole = np.full((number, 4), BOTH_EMPTY)
    whole[:, WHOLE] = 1
    return whole
