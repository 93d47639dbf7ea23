"""Where samples meet the items of evaluation sets: in a picture, a question, both, or in most of a text's n-grams.

A *contact* is one sample, one benchmark and one signal, with the first item met; *hits* are the items that a source meets,
which the leakage table counts. Neither ever lists all pairs: a question that a thousand items share with ten thousand samples
makes ten thousand contacts and a thousand hits.
"""

from dataclasses import dataclass

import polars as pl

from curation.cleaning import normalised
from curation.decontamination.ngrams import covers, ngrams, without_templates
from curation.mixture.decontamination import DecontaminationSpec, Signal
from curation.tables import ROLES

CONTACTS: dict[str, type[pl.DataType]] = {
    "sample_id": pl.String,
    "benchmark": pl.String,
    "signal": pl.String,
    "item_id": pl.String,
    "cover": pl.Float64,
}
HITS: dict[str, type[pl.DataType]] = {"benchmark": pl.String, "item_id": pl.String, "signal": pl.String}
PICTURE_HITS: dict[str, type[pl.DataType]] = {"benchmark": pl.String, "pixels": pl.String}
"""Pictures of benchmarks that samples show."""


@dataclass(frozen=True, slots=True)
class Items:
    """The items of all benchmarks, as columns.

    `facts`: item (a number), item_id, benchmark, has_pictures. `pictures`: item, pixels. `questions`: item, text (normalised,
    none empty). `grams`: item, gram, templates left out.
    """

    facts: pl.DataFrame
    pictures: pl.DataFrame
    questions: pl.DataFrame
    grams: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Met:
    """Rows of CONTACTS, HITS and PICTURE_HITS, each once and sorted."""

    contacts: pl.DataFrame
    hits: pl.DataFrame
    pictures: pl.DataFrame


def benchmark_items(samples: pl.DataFrame, spec: DecontaminationSpec) -> Items:
    """The items in `samples` (columns sample_id, source, conversations, images; `source` is the benchmark)."""
    rows = samples.with_row_index("item").with_columns(pl.col("item").cast(pl.Int64))
    facts = rows.select("item", item_id="sample_id", benchmark="source", has_pictures=pl.col("images").list.len() > 0)
    questions = _questions(rows, "item", ())
    grams = ngrams(questions["text"], spec.ngram)
    owned = questions.with_row_index("row").select(pl.col("row").cast(pl.Int64), "item")
    grams = grams.join(owned, on="row").select("item", "gram").unique(maintain_order=True)
    kept = [pl.DataFrame(schema={"item": pl.Int64, "gram": pl.UInt64})]
    for (_,), group in facts.group_by("benchmark", maintain_order=True):
        own = grams.join(group, on="item", how="semi").select(row="item", gram="gram")
        share = spec.template_share
        kept.append(without_templates(own, len(group), share).select(item="row", gram="gram"))
    return Items(facts, _pictures(rows, "item"), questions, pl.concat(kept))


def contacts(
    samples: pl.DataFrame, items: Items, alike: pl.DataFrame, prompts: tuple[str, ...], spec: DecontaminationSpec
) -> Met:
    """What `samples` (columns sample_id, conversations, images) meet.

    `alike` has columns pixels, twin: pictures of samples and the benchmarks' pictures that they look like. `prompts` are left
    out of questions.
    """
    rows = samples.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    shown, asked = _pictures(rows, "row"), _questions(rows, "row", prompts)
    same = shown.select("row", "pixels", twin="pixels")
    twins = pl.concat([same, shown.join(alike, on="pixels").select("row", "pixels", "twin")])
    by_picture = twins.join(items.pictures, left_on="twin", right_on="pixels").unique(["row", "item", "twin"])
    both = by_picture.join(items.questions, on="item").join(asked, on=["row", "text"], how="semi")
    question_rows = asked.join(items.questions, on="text", how="semi")
    first = items.questions.join(items.facts, on="item").group_by("text", "benchmark", "has_pictures").agg(pl.col("item").min())
    by_question = question_rows.join(first, on="text").select("row", "item")
    met_texts = items.questions.join(question_rows.select("text").unique(), on="text", how="semi")
    said = rows.select("row", pl.col("conversations").list.eval(pl.element().struct.field("value"))).explode("conversations")
    texts = normalised(said["conversations"], prompts)
    grams = ngrams(texts, spec.ngram)
    owner = pl.DataFrame({"row": range(len(said)), "sample": said["row"]}, schema={"row": pl.Int64, "sample": pl.Int64})
    covering = covers(grams.join(owner, on="row").select(row="sample", gram="gram"), items.grams, spec.cover)
    met = {
        Signal.IMAGE: by_picture,
        Signal.IMAGE_AND_QUESTION: both,
        Signal.QUESTION: by_question,
        Signal.COVER: covering,
    }
    hit_items = {**{signal: pairs.select("item") for signal, pairs in met.items()}, Signal.QUESTION: met_texts.select("item")}
    found = pl.concat([_contacts(pairs, signal, rows, items) for signal, pairs in met.items()])
    hits = pl.concat([_hits(hit, signal, items) for signal, hit in hit_items.items()])
    pictures = by_picture.join(items.facts, on="item").select("benchmark", pixels="twin").unique().sort("benchmark", "pixels")
    return Met(found.sort("sample_id", "benchmark", "signal"), hits.unique().sort(list(HITS)), pictures)


def _pictures(rows: pl.DataFrame, key: str) -> pl.DataFrame:
    pixels = rows.select(key, pixels=pl.col("images").list.eval(pl.element().struct.field("pixels")))
    return pixels.explode("pixels").drop_nulls().unique(maintain_order=True)


def _questions(rows: pl.DataFrame, key: str, prompts: tuple[str, ...]) -> pl.DataFrame:
    """Columns `key`, text: what humans say, normalised; turns that say nothing are left out."""
    turns = rows.select(key, "conversations").explode("conversations").unnest("conversations")
    asked = turns.filter(pl.col("from") == ROLES[0]).select(key, text="value")
    asked = asked.with_columns(text=normalised(asked["text"], prompts))
    return asked.filter(pl.col("text") != "").unique(maintain_order=True)


_TEXT_SIGNALS = {Signal.QUESTION: Signal.TEXT_QUESTION, Signal.COVER: Signal.TEXT_COVER}


def _contacts(pairs: pl.DataFrame, signal: Signal, rows: pl.DataFrame, items: Items) -> pl.DataFrame:
    """One row a sample, benchmark and signal, with the item of the smallest id; `text_` rows beside, where they apply."""
    cover = pl.col("cover") if "cover" in pairs.columns else pl.lit(None, pl.Float64).alias("cover")
    full = pairs.select("row", "item", cover).join(items.facts, on="item").join(rows.select("row", "sample_id"), on="row")
    named = full.with_columns(signal=pl.lit(signal.value))
    if signal in _TEXT_SIGNALS:
        text_only = full.filter(~pl.col("has_pictures")).with_columns(signal=pl.lit(_TEXT_SIGNALS[signal].value))
        named = pl.concat([named, text_only])
    ordered = named.sort("sample_id", "benchmark", "signal", "cover", "item_id", descending=[False, False, False, True, False])
    return ordered.unique(["sample_id", "benchmark", "signal"], keep="first", maintain_order=True).select(list(CONTACTS))


def _hits(found: pl.DataFrame, signal: Signal, items: Items) -> pl.DataFrame:
    return found.unique().join(items.facts, on="item").select("benchmark", "item_id", signal=pl.lit(signal.value))
