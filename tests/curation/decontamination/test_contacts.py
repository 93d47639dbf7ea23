from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curation.decontamination.contacts import Met, benchmark_items, contacts
from curation.mixture.decontamination import DecontaminationSpec

SPEC = DecontaminationSpec(ngram=4)
LONG = "a train leaves the town at nine and comes back in the evening with forty people on board"
NOT_ALIKE = pl.DataFrame(schema={"pixels": pl.String, "twin": pl.String})
SCHEMA = {
    "sample_id": pl.String,
    "source": pl.String,
    "conversations": pl.List(pl.Struct({"from": pl.String, "value": pl.String})),
    "images": pl.List(pl.Struct({"pixels": pl.String})),
}


def row(name: str, question: str, *pixels: str, source: str = "exam", answer: str = "yes") -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"sample_id": name, "source": source, "conversations": turns, "images": [{"pixels": pixel} for pixel in pixels]}


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=SCHEMA)


def met(samples: pl.DataFrame, items: pl.DataFrame, alike: pl.DataFrame = NOT_ALIKE) -> Met:
    return contacts(samples, benchmark_items(items, SPEC), alike, ("Answer briefly.",), SPEC)


def signals(found: Met) -> list[tuple[str, str, str]]:
    return [(line["sample_id"], line["signal"], line["item_id"]) for line in found.contacts.to_dicts()]


ITEMS = table(row("e1", "<image>\nWhat is it?", "p1"), row("e2", "What is it?", "p2"), row("e3", LONG))


def test_a_picture_a_question_and_both():
    found = met(
        table(row("s1", "How many?", "p1"), row("s2", "what IS it? Answer briefly.", "p2"), row("s3", "What is it?")), ITEMS
    )
    assert signals(found) == [
        ("s1", "image", "e1"),
        ("s2", "image", "e2"),
        ("s2", "image_and_question", "e2"),
        ("s2", "question", "e1"),
        ("s3", "question", "e1"),
    ]
    assert found.pictures.rows() == [("exam", "p1"), ("exam", "p2")]
    assert set(found.hits.filter(pl.col("signal") == "question")["item_id"]) == {"e1", "e2"}


def test_pictures_that_look_alike_count_as_the_benchmarks():
    alike = pl.DataFrame({"pixels": ["q1"], "twin": ["p1"]})
    found = met(table(row("s1", "What is it?", "q1")), ITEMS, alike)
    assert ("s1", "image_and_question", "e1") in signals(found)
    assert found.pictures.rows() == [("exam", "p1")]


def test_items_of_text_only_are_met_by_their_words():
    found = met(table(row("s1", LONG.upper()), row("s2", "so: " + LONG + ", they say"), row("s3", "no train at all")), ITEMS)
    assert signals(found) == [
        ("s1", "cover", "e3"), ("s1", "question", "e3"), ("s1", "text_cover", "e3"), ("s1", "text_question", "e3"),
        ("s2", "cover", "e3"), ("s2", "text_cover", "e3"),
    ]  # fmt: skip


def test_templates_of_a_benchmark_cover_nothing():
    exam = [row(f"e{n}", f"which of these sentences has the most words in it {n}") for n in range(9)]
    found = met(table(row("s1", "which of these sentences has the most words in it 77")), table(*exam))
    assert found.contacts.is_empty()


def test_empty_texts_meet_nothing():
    found = met(table(row("s1", "<image>", "x"), row("s2", "")), table(row("e1", "<image>", "y"), row("e2", "")))
    assert found.contacts.is_empty() and found.hits.is_empty()


def test_no_samples_and_no_items():
    assert met(table(), ITEMS).contacts.is_empty()
    assert met(table(row("s1", LONG, "p1")), table()).contacts.is_empty()


@given(st.permutations(range(6)), st.integers(0, 6))
def test_order_and_partitions_change_nothing(order: list[int], cut: int):
    rows = [row(f"s{n}", ["What is it?", LONG, "other"][n % 3], f"p{n}") for n in range(6)]
    whole = met(table(*rows), ITEMS)
    moved = [rows[place] for place in order]
    parts = [met(table(*part), ITEMS) for part in (moved[:cut], moved[cut:])]
    for kind in ("contacts", "hits", "pictures"):
        joined = pl.concat([getattr(part, kind) for part in parts]).unique()
        expected = getattr(whole, kind)
        assert joined.sort(joined.columns).equals(expected.sort(expected.columns))
