"""Sign one source: the n-grams of its texts, by which near duplicates are found, and which of them are boilerplate.

They depend on the source and on how n-grams are cut, and on nothing else: another source, mixture, threshold or number of
bands never computes them again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curation.dedup.boilerplate import SAMPLED_ITEMS, frequent_values
from curation.dedup.shingles import role_keys, shingle_sets
from curation.fingerprint import fingerprint
from curation.near.item_texts import item_texts
from curation.near.shingle_files import SHINGLES_SUFFIX, read_shingles, write_shingles
from curation.runtime.pool import Pool
from curation.steps.step import Artefact, created_now
from curation.storage.store import Store, is_published, publish, read_manifest, write_table
from curation.tables import ITEMS, Int64s, id_bits

VERSION = 2


@dataclass(frozen=True, slots=True)
class SignTask:
    """One file of samples; its items go to `items`, their n-grams to `shingles`."""

    samples: str
    items: str
    shingles: str
    prompts: Sequence[str]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sign:
    """The text signatures of one ingested source; `prompts` are its response-format prompts, which count for nothing, and
    `settings` those of `DedupSpec.signing`."""

    source: str
    prompts: tuple[str, ...]
    settings: Mapping[str, Any]

    def run(self, ingested: Artefact, store: Store, pool: Pool) -> Artefact:
        """The published signatures, made now unless they are there already."""
        made_of = {
            "step": "sign",
            "version": VERSION,
            "prompts": self.prompts,
            "settings": dict(self.settings),
            "ingested": ingested.fingerprint,
        }
        folder = store.shingles(self.source, fingerprint(made_of))
        if not is_published(folder):
            tasks = [
                SignTask(
                    str(path),
                    str(folder / path.name.replace("samples", "items")),
                    str(folder / path.name.replace("samples", "shingles").replace(".parquet", SHINGLES_SUFFIX)),
                    self.prompts,
                    self.settings,
                )
                for path in ingested.files("samples")
            ]
            counts = pool.map(sign_texts, tasks, label=f"sign {self.source}")
            write_table(folder / "frequent-00000.parquet", _frequent(tasks))
            publish(folder, {
                "source": self.source,
                "fingerprint": folder.name,
                "settings": made_of,
                "counts": {"items": [items for items, _ in counts], "shingles": [shingles for _, shingles in counts]},
                "created": created_now(),
            })  # fmt: skip
        return Artefact(folder, read_manifest(folder))


def sign_texts(task: SignTask) -> tuple[int, int]:
    """Write the items and n-grams of one file of samples; returns how many there are of each."""
    items, shingles = Path(task.items), Path(task.shingles)
    if items.exists() and shingles.exists():
        sets = read_shingles(shingles)
        return len(sets), len(sets.values)
    samples = pl.read_parquet(task.samples, columns=["conversations", "images"])
    said = item_texts(samples, task.prompts, by_turn=task.settings["unit"] == "turn")
    facts = [_pixels(samples["images"]), said.answer_chars]
    if task.settings["key"] == "question":
        said = said.questions()
    sets = shingle_sets(
        said.texts, said.roles, said.edges, ngram=task.settings["ngram"], sign_ngram=task.settings["sign_ngram"]
    )
    questions, answers = role_keys(said.texts, said.roles, said.edges)
    columns = [said.rows, said.turns, questions, answers, sets.number_keys, *(fact[said.rows] for fact in facts)]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, ITEMS, strict=True)]
    write_shingles(shingles, sets)
    write_table(items, pa.Table.from_arrays(arrays, schema=ITEMS))
    return len(sets), len(sets.values)


def _pixels(images: pl.Series) -> Int64s:
    sizes = pl.element().struct.field("width").cast(pl.Int64) * pl.element().struct.field("height").cast(pl.Int64)
    areas: Int64s = images.to_frame("images").select(pl.col("images").list.eval(sizes).list.sum())["images"].to_numpy()
    return areas


def _frequent(tasks: Sequence[SignTask]) -> pa.Table:
    """How many of the source's sampled items hold each of its frequent n-grams. The samples with the smallest id bits are
    taken, whatever file they are in; equal texts count once."""
    chosen = pl.DataFrame(schema={"bits": pl.UInt64, "set_key": pl.UInt64, "file": pl.Int32, "item": pl.Int64})
    for number, task in enumerate(tasks):
        ids = pl.read_parquet(task.samples, columns=["sample_id"])["sample_id"]
        rows = pl.read_parquet(task.items, columns=["row", "turn"])
        keys = read_shingles(Path(task.shingles)).set_keys
        found = pl.DataFrame({"bits": id_bits(ids)[rows["row"].to_numpy()], "set_key": keys, "turn": rows["turn"]})
        found = found.with_columns(file=pl.lit(number, pl.Int32), item=pl.int_range(pl.len()))
        both = pl.concat([chosen, found.drop("turn")])
        both = both.sort("bits", "file", "item").unique("set_key", keep="first", maintain_order=True)
        chosen = both.head(SAMPLED_ITEMS)
    sets = [
        read_shingles(Path(tasks[file].shingles)).taken(part["item"].to_numpy())
        for (file,), part in chosen.partition_by("file", as_dict=True).items()
    ]
    values, counts = frequent_values(sets)
    sampled = np.full(len(values), len(chosen), np.int64)
    return pa.table({"value": values, "num_items": counts, "sampled_items": sampled})
