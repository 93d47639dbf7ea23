from typing import Any

import pytest

from curation.catalog.spec import Catalog
from curation.errors import LicenceError
from curation.mixture.spec import Mixture
from curation.planning.counts import ingested_counts, published_counts
from curation.planning.plan import curriculum_document, plan_document, plan_mixture, require_licences, resolved
from curation.storage.store import Store
from tests.support.planning import planned, stating
from tests.support.upstream import NUM_COPIED, build, write_world

ALL = Mixture(name="all")
MIXTURES = [
    Mixture(name="few", cap=12, size=40, max_repeat=3, ratios={"general": 0.6, "language": 0.2, "math": 0.2}),
    Mixture(name="files", cap=5, cap_unit="annotation_file"),
    Mixture(name="even", size=30, alpha=0.25, categories={"math": {"weight": 2, "total": 9}}),
    Mixture(name="short", where={"num_tokens": {"max": 9}}, sources={"chats": {"where": {"annotation_file": "a.jsonl"}}}),
]


@pytest.mark.parametrize("mixture", MIXTURES, ids=lambda mixture: mixture.name)
def test_a_plan_is_what_is_built(world: Catalog, store: Store, mixture: Mixture):
    manifest = build(world, store, mixture).release.manifest
    found = plan_mixture(mixture, world, ingested_counts(store, world, mixture))
    assert found.total == manifest["num_samples"] > 0
    assert {name: quota.samples for name, quota in found.quotas.items() if quota.samples} == {
        name: counts["samples"] for name, counts in manifest["sources"].items()
    }


def test_a_plan_warns_of_unknown_licences(world: Catalog):
    counts = published_counts(stating(world, shapes=1, chats=1, sums=1, **{"copied-sums": NUM_COPIED}), ALL)
    assert "licence unknown: copied-sums" in plan_mixture(ALL, world, counts).warnings


def test_an_unknown_licence_is_refused_where_one_is_required(world: Catalog):
    with pytest.raises(LicenceError, match=r"unknown \(copied-sums\); state it in the catalog"):
        require_licences(ALL, world)
    require_licences(Mixture(name="m", exclude={"licenses": ["unknown"]}), world)


def test_known_overlaps_with_benchmarks_are_told(world: Catalog):
    sums = world.sources["sums"].model_copy(update={"tags": ["small", "overlaps-sumbench"]})
    tagged = stating(world.model_copy(update={"sources": world.sources | {"sums": sums}}), sums=9)
    assert "known to overlap benchmark 'sumbench': sums" in planned(ALL, tagged).plan.warnings


def test_a_plan_is_printed_as_documented(world: Catalog):
    mixture = Mixture(name="two", include=["shapes", "chats"], sources={"chats": {"repeat": 2}})
    catalog = stating(world, shapes=30, chats=35)
    counts = published_counts(catalog, mixture)
    document = plan_document(plan_mixture(mixture, catalog, counts), catalog, mixture, counts)
    assert document.pop("warnings")
    unknown = {"num_tokens": None, "num_images": None, "num_bytes": None}
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
        "details": {
            "total": unknown,
            "categories": {"general": unknown, "language": unknown},
            "sources": {
                "chats": {"epochs": 2.0, "license": "CC0-1.0", **unknown},
                "shapes": {"epochs": 1.0, "license": "CC0-1.0", **unknown},
            },
        },
        "resolved": {
            "name": "two",
            "include": {"sources": ["shapes", "chats"]},
            "sources": {"chats": {"repeat": 2}},
        },
        "reproduces": None,
    }


def test_what_a_plan_amounts_to_is_what_the_release_holds(world: Catalog, store: Store):
    manifest = build(world, store).release.manifest
    counts = ingested_counts(store, world, ALL)
    document = plan_document(plan_mixture(ALL, world, counts), world, ALL, counts)
    for name, held in manifest["sources"].items():
        entry = document["details"]["sources"][name]
        assert (entry["num_tokens"], entry["num_images"]) == (held["tokens"], held["images"])
    assert document["details"]["total"]["num_tokens"] == sum(held["tokens"] for held in manifest["sources"].values())
    assert 0.5 < document["details"]["total"]["num_bytes"] / manifest["num_bytes"] < 2


def test_stages_add_up(world: Catalog):
    catalog = stating(world, shapes=30, chats=35)
    documents = {}
    for stage, cap in (("first", 10), ("second", 40)):
        mixture = Mixture(name=f"m-{stage}", cap=cap, include=["shapes", "chats"])
        counts = published_counts(catalog, mixture)
        documents[stage] = plan_document(plan_mixture(mixture, catalog, counts), catalog, mixture, counts)
    whole = curriculum_document("m", documents)
    assert (whole["mixture"], whole["total"], list(whole["stages"])) == ("m", 85, ["first", "second"])
    assert whole["sources"]["shapes"]["samples"] == 40
    assert whole["categories"]["language"] | {"share": 0} == documents["first"]["categories"]["language"] | {
        "samples": 45, "share": 0,
    }  # fmt: skip
    assert documents["first"]["total"] == 20, "the stages' own documents stay what they were"


def test_counts_are_the_same_for_a_moved_checkout(tmp_path, store: Store):
    for name in ("one", "other"):
        build(write_world(tmp_path / name), store)
    assert len(list((store.root / "releases" / "all").glob("*/manifest.json"))) == 1


@pytest.mark.parametrize("decontaminate", ["all", {"benchmarks": ["quiz"], "cover": 0.9}])
def test_what_is_shown_reads_back_as_the_same_mixture(decontaminate: Any) -> None:
    mixture = Mixture.model_validate({"name": "m", "decontaminate": decontaminate, "dedup": {}}, strict=False)
    shown = resolved(mixture)
    assert Mixture.model_validate(shown, strict=False) == mixture
    if decontaminate == "all":
        assert shown["decontaminate"] == "all"
