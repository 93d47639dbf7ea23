import polars as pl
import pytest

from curation.catalog.spec import Catalog
from curation.storage.store import Store
from curation.tables import VERDICTS
from tests.support.upstream import NUM_COPIED, SOURCES, Built, build, content, rows


@pytest.fixture
def built(world: Catalog, store: Store) -> Built:
    return build(world, store)


def test_every_sample_has_one_verdict(built: Built):
    verdicts = rows(built.pool, "verdicts")
    samples = pl.concat([rows(artefact, "samples").select("sample_id", "source") for artefact in built.ingested.values()])
    assert verdicts.columns == VERDICTS.names
    assert verdicts.select("sample_id", "source").equals(samples.sort("sample_id"))


def test_samples_are_kept_or_dropped(built: Built):
    for name in SOURCES:
        counts = built.pool.manifest["counts"][name]
        assert counts["samples"] == counts["kept"] + sum(counts["dropped"].values())
        assert counts["samples"] == built.ingested[name].manifest["counts"]["samples"]


def test_twins_are_kept_and_the_smallest(built: Built):
    verdicts = rows(built.pool, "verdicts")
    dropped = verdicts.filter(pl.col("reason") == "exact_duplicate")
    assert len(dropped) == 1 + 2 + NUM_COPIED
    kept = verdicts.filter(pl.col("verdict") == "keep")["sample_id"]
    assert set(dropped["twin_id"]) <= set(kept)
    assert (dropped["twin_id"] < dropped["sample_id"]).all()


def test_rows_are_cut_into_files_in_order(
    world: Catalog, store: Store, built: Built, monkeypatch: pytest.MonkeyPatch, tmp_path
):
    monkeypatch.setattr("curation.steps.deduplicate.ROWS_PER_FILE", 7)
    other = build(world, Store.open(str(tmp_path / "other")))
    assert len(other.pool.files("verdicts")) > 5
    assert rows(other.pool, "verdicts").equals(rows(built.pool, "verdicts"))
    assert content(other.folder) == content(built.folder)
