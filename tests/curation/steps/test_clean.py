import json
from pathlib import Path

import polars as pl

from curation.catalog.spec import Catalog
from curation.runtime.pool import InProcessPool
from curation.steps.clean import Clean
from curation.steps.step import Artefact
from curation.storage.store import Store
from tests.support.upstream import NotingPool, ingest, picture, rows, write_catalog, write_files


def clean(
    ingested: Artefact, store: Store, name: str, prompt: str | None = None, pool: InProcessPool | None = None
) -> Artefact:
    return Clean(name, (prompt,) if prompt else ()).run(ingested, store, pool or InProcessPool())


def questions(folder: Path, store: Store, records: list[dict], prompt: str | None = None) -> pl.DataFrame:
    """Signatures by upstream id."""
    numbered = [{"id": str(number), **record} for number, record in enumerate(records)]
    write_files(
        folder / "data", {"a.json": json.dumps(numbered), "a.png": picture(1), "b.bmp": picture(1, "BMP"), "c.png": picture(2)}
    )
    row = {"category": "ocr", "layout": "qa", "location": {"root": "data", "files": "a.json"}}
    row |= {"fields": {"question": "q", "answer": "a"}, "images": {"path": "image", "optional": True}}
    ingested = ingest(write_catalog(folder, {"data": row}), "data", store)
    signatures = rows(clean(ingested, store, "data", prompt), "signatures")
    return signatures.join(rows(ingested, "samples").select("sample_id", "origin_id"), on="sample_id").sort(
        pl.col("origin_id").cast(pl.Int32)
    )


def test_keys_are_equal_for_the_same_words_and_pixels(tmp_path: Path, store: Store):
    asked = {"q": "What?", "a": "That."}
    signatures = questions(
        tmp_path,
        store,
        [
            asked | {"image": "a.png"},
            {"q": "WHAT? ", "a": "that.", "image": "b.bmp"},
            {"q": "What?\nBe brief.", "a": "That.", "image": "a.png"},
            asked | {"image": "c.png"},
            asked,
            {"q": "What?", "a": "This.", "image": "a.png"},
        ],
        prompt="Be brief.",
    )
    same = signatures.rows_by_key("text_key", named=True)
    assert sorted(len(group) for group in same.values()) == [1, 5]
    assert len(signatures.unique(["text_key", "image_key"])) == 4
    assert signatures["image_key"][4] == bytes(16)
    assert signatures["reason"].null_count() == len(signatures)


def test_an_answer_with_nothing_to_read_is_dropped(tmp_path: Path, store: Store):
    signatures = questions(
        tmp_path, store, [{"q": "What?", "a": "\u200b"}, {"q": "\u200b", "a": "That."}, {"q": "x", "a": "y"}]
    )
    assert signatures["reason"].to_list() == ["no_words", None, None]


def test_counts_are_those_of_the_rows(tmp_path: Path, store: Store):
    questions(tmp_path, store, [{"q": "What?", "a": "\u200b"}, {"q": "x", "a": "y"}])
    [folder] = [path.parent for path in store.root.glob("signatures/data/*/manifest.json")]
    assert json.loads((folder / "manifest.json").read_text())["counts"] == {"samples": 2, "dropped": {"no_words": 1}}


def test_signatures_are_made_once(world: Catalog, store: Store):
    ingested = ingest(world, "chats", store)
    first = clean(ingested, store, "chats")
    noting = NotingPool()
    assert clean(ingested, store, "chats", pool=noting).folder == first.folder
    assert not noting.tasks
    assert clean(ingested, store, "chats", prompt="Briefly.").folder != first.folder
