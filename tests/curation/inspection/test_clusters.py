import json
from pathlib import Path

import pytest
from rich.console import Console

from curation.errors import PlanError
from curation.inspection.clusters import MAX_MEMBERS, clusters
from curation.inspection.lookup import look_up
from curation.mixture.dedup import DedupSpec
from curation.mixture.spec import Mixture
from curation.storage.store import Store
from flows.views import as_json, show_clusters, show_life
from tests.support.upstream import build, write_catalog, write_files

SPEC = Mixture(name="all", dedup=DedupSpec())
LONG = "tell me in your own words what these people do on the long street in the rain of the [red] evening"
ROW = {
    "category": "language",
    "layout": "instruction",
    "location": {"root": "data", "files": "a.json"},
    "fields": {"instruction": "q", "output": "a"},
}


@pytest.fixture
def catalog(tmp_path: Path):
    records = [{"q": LONG, "a": "They walk."}, {"q": f"{LONG} today", "a": "They walk."}]
    records += [{"q": "Say it.", "a": "It."}] * (MAX_MEMBERS + 4) + [{"q": "Count to three.", "a": "One, two, three."}]
    write_files(tmp_path, {"data/a.json": json.dumps(records)})
    return write_catalog(tmp_path, {"one": ROW})


def printed(show, *arguments) -> str:
    console = Console(width=100, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    show(console, *arguments)
    console.file.close()
    return console.export_text()


def test_clusters_are_shown_with_their_keeper(catalog, store: Store):
    build(catalog, store, SPEC)
    found = clusters(store, catalog, SPEC, 10)
    assert found.counts == {
        "exact_duplicate": {"clusters": 1, "samples": MAX_MEMBERS + 3},
        "near_duplicate": {"clusters": 1, "samples": 1},
    }
    by_kind = {cluster.kind: cluster for cluster in found.shown}
    assert len(by_kind["exact_duplicate"].members) == MAX_MEMBERS
    assert by_kind["exact_duplicate"].size == MAX_MEMBERS + 3
    [member] = by_kind["near_duplicate"].members
    assert {member["conversations"][0]["value"], by_kind["near_duplicate"].keeper["conversations"][0]["value"]} == {
        LONG,
        f"{LONG} today",
    }
    assert json.loads(as_json(found.shown[0].keeper))["source"] == "one"
    text = printed(show_clusters, found)
    assert "Jaccard 0.9" in text
    assert "and 3 more" in text
    assert "[red]" in text


def test_clusters_of_a_kind_and_a_number_are_shown(catalog, store: Store):
    build(catalog, store, SPEC)
    assert [cluster.kind for cluster in clusters(store, catalog, SPEC, 5, "near_duplicate").shown] == ["near_duplicate"]
    assert len(clusters(store, catalog, SPEC, 1).shown) == 1
    with pytest.raises(PlanError, match="no clusters of kind 'near'; it has exact_duplicate, near_duplicate"):
        clusters(store, catalog, SPEC, 5, "near")


def test_a_mixture_that_was_not_built_says_so(catalog, store: Store):
    with pytest.raises(PlanError, match="curate build"):
        clusters(store, catalog, SPEC, 5)


def test_why_shows_both_records_side_by_side(catalog, store: Store):
    build(catalog, store, SPEC)
    [cluster] = clusters(store, catalog, SPEC, 5, "near_duplicate").shown
    [life] = look_up(store, cluster.members[0]["sample_id"])
    text = printed(show_life, life).replace("\n", "")
    assert f"twin        {cluster.keeper['sample_id']}" in text
    assert text.count("They walk.") == 2
    assert "near_duplicate: no pictures, near turns: Jaccard 0.9" in text
