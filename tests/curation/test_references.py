import json
from copy import deepcopy
from pathlib import Path

import polars as pl

from curation.mixture.spec import Mixture
from curation.storage.store import Store
from tests.support.upstream import build, picture, rows, write_catalog, write_files

ROW = {
    "category": "general",
    "license": "CC0-1.0",
    "layout": "qa",
    "fields": {"question": "q", "answer": "a"},
    "images": {"path": "image", "folder": "pictures", "by_reference": "coco2017"},
}


def records(*named: tuple[str, str]) -> str:
    return json.dumps([{"q": question, "a": "yes", "image": image} for question, image in named])


def test_samples_without_pixels_are_counted_and_in_no_shard(tmp_path: Path):
    write_files(
        tmp_path,
        {
            "train/train.json": records(("Red?", "0.png"), ("Red?", "gone.png"), ("Blue?", "other.png"), ("Tall?", "../x.png")),
            "train/pictures/0.png": picture(0),
            "exam/test.json": records(("red?", "gone.png"), ("Wide?", "unseen.png")),
        },
    )
    exam = deepcopy({key: value for key, value in ROW.items() if key != "category"})
    catalog = write_catalog(
        tmp_path,
        {"train": ROW | {"location": {"root": "train", "files": "*.json"}}},
        {"exam": exam | {"location": {"root": "exam", "files": "*.json"}}},
    )
    store = Store.open(str(tmp_path / "lake"))
    built = build(catalog, store, Mixture(name="m", decontaminate=DECONTAMINATE))
    counts = built.ingested["train"].manifest["counts"]
    assert (counts["samples"], counts["by_reference"], counts["rejected"]) == (3, 2, {"path_escapes": 1})
    final = pl.read_parquet(built.folder / "verdicts.parquet")
    found = sorted(zip(final["stage"], final["reason"].fill_null("-"), final["verdict"], strict=True))
    assert found == [("decontaminate", "contaminated", "drop"), ("mix", "-", "keep"), ("mix", "no_pixels", "drop")]
    assert built.release.manifest["num_samples"] == 1
    table = {row["source"]: row for row in built.release.manifest["leakage"]}
    assert (table["*"]["image_hits"], table["*"]["images"], table["train"]["image_and_question_items"]) == (1, 2, 1)
    again = build(catalog, store, Mixture(name="m", decontaminate=DECONTAMINATE))
    assert again.folder == built.folder
    assert rows(again.pool, "verdicts").equals(rows(built.pool, "verdicts"))
    page = (built.folder / "report.html").read_text()
    assert "Evaluation sets in the sources" in page


DECONTAMINATE = {"benchmarks": "all"}
