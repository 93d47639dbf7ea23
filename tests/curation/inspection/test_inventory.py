from curation.catalog.spec import Catalog, Expected
from curation.inspection.inventory import ingest_summary, inventory
from curation.storage.store import Store
from tests.support.upstream import NUM_SUMS, ingest


def test_every_source_has_a_row_and_a_state(world: Catalog, store: Store):
    sums = world.sources["sums"].model_copy(update={"expected": Expected(records=NUM_SUMS + 1)})
    chats = world.sources["chats"].model_copy(update={"expected": Expected(records=1)})
    shapes = world.sources["shapes"].model_copy(update={"expected": Expected(records=1000, rounded=True)})
    catalog = world.model_copy(update={"sources": world.sources | {"sums": sums, "chats": chats, "shapes": shapes}})
    for name in ("sums", "chats", "shapes"):
        ingest(catalog, name, store)
    rows = {row["source"]: row for row in inventory(catalog, store)}
    assert {name: row["state"] for name, row in rows.items()} == {
        "shapes": "ingested", "chats": "count differs", "sums": "ingested", "copied-sums": "not ingested",
    }  # fmt: skip
    assert (rows["sums"]["records"], rows["sums"]["samples"], rows["sums"]["rejected"]) == (NUM_SUMS + 1, NUM_SUMS, 1)
    assert (rows["sums"]["category"], rows["sums"]["license"], rows["sums"]["location"]) == ("math", "CC0-1.0", ["sums"])


def test_rejects_are_told_by_reason(world: Catalog, store: Store):
    manifest = ingest(world, "sums", store).manifest
    assert ingest_summary("sums", manifest) == ("sums", NUM_SUMS + 1, NUM_SUMS, 1, "unsupported_value 1")
