import pytest

from curation.catalog import Catalog, Expected
from curation.errors import PlanError
from curation.mixture import Mixture
from curation.planning import ingested_counts, plan_difference, plan_document, plan_mixture, published_counts
from curation.store import Store
from tests.support.upstream import NUM_COPIED, NUM_SUMS, SHAPES_SAMPLES, build, ingest, write_world

ALL = Mixture(name="all")


def stating(catalog: Catalog, **expected: int) -> Catalog:
    """The catalog with expected counts."""
    sources = {
        name: source.model_copy(update={"expected": Expected(records=expected[name])}) if name in expected else source
        for name, source in catalog.sources.items()
    }
    return catalog.model_copy(update={"sources": sources})


def test_published_counts_need_no_data(world: Catalog):
    counts = published_counts(stating(world, shapes=100, sums=50), ALL)
    assert counts.available == {"shapes": 100, "chats": 0, "sums": 50, "copied-sums": 0}
    assert counts.warnings == ["no expected count: chats, copied-sums"]
    with pytest.raises(PlanError, match="no source states an expected count"):
        published_counts(world, ALL)


def test_counts_follow_what_has_been_done(world: Catalog, store: Store):
    counts = ingested_counts(store, world, ALL)
    assert set(counts.available.values()) == {0}
    assert counts.warnings[0] == "not ingested yet: shapes, chats, sums, copied-sums"
    ingest(world, "shapes", store)
    assert ingested_counts(store, world, ALL).available["shapes"] == SHAPES_SAMPLES
    build(world, store)
    counts = ingested_counts(store, world, ALL)
    assert counts.warnings == []
    assert sum(counts.available.values()) == SHAPES_SAMPLES - 1 + 20 + NUM_SUMS
    # another mixture's sources have another pool, which is not there yet
    counts = ingested_counts(store, world, Mixture(name="one", include=["sums"]))
    assert counts.available == {"sums": NUM_SUMS}
    assert "before cleaning and de-duplication" in counts.warnings[0]


def test_a_plan_is_what_is_built(world: Catalog, store: Store):
    mixture = Mixture(name="few", cap=12, size=40, max_repeat=3, ratios={"general": 0.6, "language": 0.2, "math": 0.2})
    built = build(world, store, mixture)
    planned = plan_mixture(mixture, world, ingested_counts(store, world, mixture))
    manifest = built.release.manifest
    assert planned.total == manifest["num_samples"]
    assert {name: quota.samples for name, quota in planned.quotas.items() if quota.samples} == {
        name: counts["samples"] for name, counts in manifest["sources"].items()
    }


def test_a_plan_warns_of_unknown_licences(world: Catalog):
    counts = published_counts(stating(world, shapes=1, chats=1, sums=1, **{"copied-sums": NUM_COPIED}), ALL)
    assert "licence unknown: copied-sums" in plan_mixture(ALL, world, counts).warnings


def test_a_plan_is_printed_as_documented(world: Catalog):
    mixture = Mixture(name="two", include=["shapes", "chats"], sources={"chats": {"repeat": 2}})
    document = plan_document(plan_mixture(mixture, world, published_counts(stating(world, shapes=30, chats=35), mixture)))
    assert document.pop("warnings")
    assert document == {
        "mixture": "two",
        "total": 100,
        "categories": {
            "general": {"available": 30, "samples": 30, "share": 0.3},
            "language": {"available": 35, "samples": 70, "share": 0.7},
        },
        "sources": {
            "chats": {"category": "language", "available": 35, "samples": 70, "repeat": 2},
            "shapes": {"category": "general", "available": 30, "samples": 30, "repeat": 1},
        },
    }


def test_a_difference_names_what_enters_and_leaves(world: Catalog):
    catalog = stating(world, shapes=30, chats=35, sums=10)
    mixtures = (Mixture(name="a", cap=20, include=["shapes", "chats"]), Mixture(name="b", cap=25, include=["chats", "sums"]))
    before, after = (plan_mixture(mixture, catalog, published_counts(catalog, mixture)) for mixture in mixtures)
    found = plan_difference(before, after)
    assert found["total"] == {"before": 40, "after": 35}
    assert found["sources"] == {
        "chats": {"before": 20, "after": 25, "entering": 5, "leaving": 0},
        "shapes": {"before": 20, "after": 0, "entering": 0, "leaving": 20},
        "sums": {"before": 0, "after": 10, "entering": 10, "leaving": 0},
    }
    assert found["categories"]["math"] == {"before": 0, "after": 10, "entering": 10, "leaving": 0}


def test_counts_are_the_same_for_a_moved_checkout(tmp_path, store: Store):
    for name in ("one", "other"):
        build(write_world(tmp_path / name), store)
    assert len(list((store.root / "releases" / "all").glob("*/manifest.json"))) == 1
