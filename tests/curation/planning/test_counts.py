import polars as pl
import pytest

from curation.catalog.spec import Catalog
from curation.errors import PlanError
from curation.facts import read_source
from curation.mixture.spec import Mixture
from curation.planning.counts import ingested_counts, published_counts
from curation.steps.measure import Measure
from curation.storage.store import Store
from tests.support.planning import stating
from tests.support.upstream import NUM_SUMS, SHAPES_SAMPLES, InProcessPool, build, ingest, rows

ALL = Mixture(name="all")


def test_published_counts_need_no_data(world: Catalog):
    counts = published_counts(stating(world, shapes=100, sums=50), ALL)
    assert counts.available == {"shapes": 100, "chats": 0, "sums": 50, "copied-sums": 0}
    assert counts.warnings == ["no expected count: chats, copied-sums"]
    with pytest.raises(PlanError, match="no source states an expected count"):
        published_counts(world, ALL)


def test_published_counts_say_what_they_cannot_tell(world: Catalog):
    counts = published_counts(stating(world, shapes=100), Mixture(name="m", where={"num_tokens": 3}))
    assert "`where` is not applied: published counts say nothing of single samples" in counts.warnings


def test_counts_follow_what_has_been_done(world: Catalog, store: Store):
    counts = ingested_counts(store, world, ALL)
    assert set(counts.available.values()) == {0}
    assert counts.warnings[0] == "not ingested yet: shapes, chats, sums, copied-sums"
    ingest(world, "shapes", store)
    assert ingested_counts(store, world, ALL).available["shapes"] == SHAPES_SAMPLES
    build(world, store)
    counts = ingested_counts(store, world, ALL)
    assert [warning for warning in counts.warnings if "cleaning and de-duplication" not in warning] == []
    assert sum(counts.available.values()) == SHAPES_SAMPLES - 1 + 20 + NUM_SUMS
    # another mixture's sources have another pool, which is not there yet
    counts = ingested_counts(store, world, Mixture(name="one", include=["sums"]))
    assert counts.available == {"sums": NUM_SUMS}
    assert "before cleaning and de-duplication" in counts.warnings[0]


def test_a_source_that_all_but_vanished_is_told(world: Catalog, store: Store):
    build(world, store)
    counts = ingested_counts(store, world, ALL)
    lost = [name for name in ("sums", "copied-sums") if f"source '{name}' lost " in "\n".join(counts.warnings)]
    assert lost == (["copied-sums"] if counts.available["copied-sums"] < 5 else [])


@pytest.mark.parametrize("is_built", [False, True])
def test_conditions_are_counted_over_what_is_there(world: Catalog, store: Store, *, is_built: bool):
    mixture = Mixture(name="m", where={"num_images": 1}, sources={"chats": {"where": {"num_turns": {"min": 9}}}})
    if is_built:
        build(world, store)
    else:
        for name in world.sources:
            Measure(name).run(ingest(world, name, store), store, InProcessPool())
    counts = ingested_counts(store, world, mixture)
    assert counts.available == {"shapes": SHAPES_SAMPLES - is_built, "chats": 0, "sums": 0, "copied-sums": 0}


def test_counts_by_annotation_file_add_up(world: Catalog, store: Store):
    build(world, store)
    counts = ingested_counts(store, world, Mixture(name="m", cap=3, cap_unit="annotation_file"))
    assert set(counts.files["chats"]) == {"a.jsonl", "b.jsonl"}
    assert {name: sum(files.values()) for name, files in counts.files.items()} == dict(counts.available)


def test_totals_are_those_of_the_samples(world: Catalog, store: Store):
    built = build(world, store)
    counts = ingested_counts(store, world, ALL)
    kept = set(rows(built.pool, "verdicts").filter(pl.col("verdict") == "keep")["sample_id"])
    for name, artefact in built.ingested.items():
        samples = rows(artefact, "samples").filter(pl.col("sample_id").is_in(kept))
        totals = counts.totals[name]
        assert (totals.samples, totals.num_tokens) == (len(samples), samples["num_tokens"].sum())
        assert totals.num_images == samples["num_images"].sum()
    whole = sum(totals.num_bytes for totals in counts.totals.values())
    assert 0.5 < built.release.manifest["num_bytes"] / whole < 2


def test_facts_say_what_the_samples_say(world: Catalog, store: Store):
    artefact = ingest(world, "shapes", store)
    facts = read_source(artefact.files("samples")).to_dicts()
    for fact, sample in zip(facts, rows(artefact, "samples").to_dicts(), strict=True):
        widths = [image["width"] for image in sample["images"]]
        heights = [image["height"] for image in sample["images"]]
        assert (fact["min_width"], fact["max_width"]) == ((min(widths), max(widths)) if widths else (None, None))
        assert (fact["min_height"], fact["max_height"]) == ((min(heights), max(heights)) if heights else (None, None))
        assert (fact["sample_id"], fact["annotation_file"]) == (sample["sample_id"], sample["origin_file"])
