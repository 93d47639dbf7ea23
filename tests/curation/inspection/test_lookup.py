import polars as pl
import pytest

from curation.catalog.spec import Catalog
from curation.inspection.lookup import NotFoundError, find_release, look_up
from curation.mixture.spec import Mixture
from curation.storage.store import Store
from tests.support.upstream import Built, build, ingest, rows

MIXTURE = Mixture(name="few", cap=12, size=40, max_repeat=3, ratios={"general": 0.6, "language": 0.2, "math": 0.2})


@pytest.fixture
def built(world: Catalog, store: Store) -> Built:
    return build(world, store, MIXTURE)


def test_a_sample_in_a_release_is_found_with_its_places(store: Store, built: Built):
    index = pl.read_parquet(built.folder / "index.parquet")
    twice = index.filter(pl.col("repeat") == 1)["sample_id"][0]
    for identifier in (twice, f"{twice}-r1"):
        [life] = look_up(store, identifier)
        assert life.sample["sample_id"] == twice
        assert [verdict["verdict"] for verdict in life.verdicts] == ["keep"]
        assert [place["repeat"] for place in sorted(life.places, key=lambda place: place["repeat"])][:2] == [0, 1]
        assert {place["release"] for place in life.places} == {f"few/{built.folder.name}"}
        assert all((built.folder / "shards" / place["shard"]).exists() for place in life.places)


def test_every_dropped_sample_is_found_with_its_reason(store: Store, built: Built):
    dropped = pl.read_parquet(built.folder / "verdicts.parquet").filter(pl.col("verdict") == "drop")
    for row in dropped.unique("reason").to_dicts():
        [life] = look_up(store, row["sample_id"])
        assert [(verdict["reason"], verdict["stage"]) for verdict in life.verdicts] == [(row["reason"], row["stage"])]
        assert life.places == []


def test_a_duplicate_is_found_with_its_twin(store: Store, built: Built):
    verdicts = pl.read_parquet(built.folder / "verdicts.parquet")
    for row in verdicts.filter(pl.col("reason") == "exact_duplicate").to_dicts():
        [life] = look_up(store, row["sample_id"])
        assert life.twin["sample_id"] == row["twin_id"]


def test_every_rejected_record_is_found(store: Store, built: Built):
    for artefact in built.ingested.values():
        if artefact.files("rejected"):
            for row in rows(artefact, "rejected").to_dicts():
                [life] = look_up(store, row["record_id"])
                assert (life.rejected["reason"], life.sample) == (row["reason"], None)


def test_a_sample_is_found_by_its_origin_and_upstream_id(store: Store, built: Built):
    samples = rows(built.ingested["shapes"], "samples")
    row = samples.filter(pl.col("origin_id") == "5").to_dicts()[0]
    for identifier in ("shapes:5", f"shapes:train.json:{row['origin_position']}"):
        assert [life.sample["sample_id"] for life in look_up(store, identifier)] == [row["sample_id"]]
    assert len(look_up(store, "shapes:0")) == 2


def test_before_a_release_the_pool_is_asked(world: Catalog, store: Store):
    artefact = ingest(world, "sums", store)
    sample_id = rows(artefact, "samples")["sample_id"][0]
    [life] = look_up(store, sample_id)
    assert (life.verdicts, life.places) == ([], [])


@pytest.mark.parametrize(
    "identifier",
    [
        "",
        "nonsense",
        "shapes:999",
        "shapes:none.json:0",
        "shapes-" + "0" * 24,
        "nowhere-" + "0" * 24,
        "nowhere:1",
        "../..:1",
        "shapes:x:²",
    ],
)
def test_an_id_that_nobody_knows_is_refused(store: Store, built: Built, identifier: str):
    with pytest.raises(NotFoundError, match="ingested sources: chats, copied-sums, shapes, sums"):
        look_up(store, identifier)


def test_a_release_is_found_by_any_of_its_names(store: Store, built: Built):
    for text in ("few", f"few/{built.folder.name}", str(built.folder), str(built.folder.parent)):
        assert find_release(store, text) == built.folder
    with pytest.raises(NotFoundError, match="mixtures with releases: few"):
        find_release(store, "many")
