"""The pair rule where pictures that look alike count as the same: made-up questions about scenes and copies of them."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageOps

from curation.catalog.spec import Catalog
from curation.dedup.look_alike_rule import LookAlikeRule
from curation.dedup.near_image import Thumbnails, alike_between, alike_within
from curation.inspection.clusters import clusters
from curation.inspection.lookup import look_up
from curation.mixture.dedup import DedupSpec
from curation.mixture.spec import Mixture
from curation.storage.store import Store
from flows.views import show_clusters, show_life
from tests.curation.inspection.test_clusters import printed
from tests.support.look_alikes import scene, thumbnails
from tests.support.upstream import BackwardsPool, Built, build, encoded, rows, write_catalog, write_files

SCENES = [scene(number) for number in range(3)]
QUESTION = "how many of the small boxes on the left table are red and how many of them are blue"
SAID = [(QUESTION, "two"), (f"{QUESTION} today", "two"), (QUESTION, "three men"), ("what else is there", "two"), ("?", "!")]


def cut(image: Image.Image, share: float) -> Image.Image:
    width, height = round(image.width * share), round(image.height * share)
    return image.crop((width, height, image.width - width, image.height - height))


COPIES = {
    "png": lambda image: encoded(image, "PNG"),
    "jpeg": lambda image: encoded(image, "JPEG", quality=30),
    "webp": lambda image: encoded(image, "WEBP", quality=70),
    "half": lambda image: encoded(image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS), "PNG"),
    "cut": lambda image: encoded(cut(image, 0.02), "PNG"),
}
FILES = {f"pictures/{number}-{name}": made(shown) for number, shown in enumerate(SCENES) for name, made in COPIES.items()}
ROW: dict[str, Any] = {
    "category": "general",
    "layout": "qa",
    "fields": {"question": "q", "answer": "a"},
    "images": {"path": "image", "optional": True, "folder": "pictures"},
}


def world(folder: Path, sources: dict[str, list[dict[str, Any]]], files: dict[str, bytes] = FILES) -> Catalog:
    write_files(folder, files | {f"{name}/a.json": json.dumps(records) for name, records in sources.items()})
    return write_catalog(
        folder, {name: copy.deepcopy(ROW) | {"location": {"root": ".", "files": f"{name}/a.json"}} for name in sources}
    )


def record(image: object, question: str = QUESTION, answer: str = "two") -> dict[str, Any]:
    return {"q": question, "a": answer, "image": image}


def mixture(**settings: Any) -> Mixture:
    return Mixture(name="all", dedup=DedupSpec.model_validate({"near_images": True} | settings))


def built(folder: Path, records: list[dict[str, Any]], files: dict[str, bytes] = FILES, **settings: Any) -> Built:
    catalog = world(folder / "upstream", {"one": records}, files)
    return build(catalog, Store.open(str(folder / "root")), mixture(**settings))


def dropped(of: Built) -> dict[int, tuple[str, int, str]]:
    """Reason, twin and detail of what was dropped, by the numbers of records."""
    samples = rows(of.ingested["one"], "samples")
    numbers = dict(zip(samples["sample_id"], samples["origin_position"], strict=True))
    found = rows(of.pool, "verdicts").filter(verdict="drop").to_dicts()
    return {numbers[row["sample_id"]]: (row["reason"], numbers[row["twin_id"]], row["detail"]) for row in found}


@pytest.mark.parametrize("text", ["near", "exact"])
@pytest.mark.parametrize("kind", [name for name in COPIES if name != "png"])
def test_a_question_asked_again_on_a_copy_of_its_picture_is_a_duplicate(tmp_path: Path, kind: str, text: str):
    release = built(tmp_path, [record("0-png"), record(f"0-{kind}"), record("1-png"), record(f"1-{kind}", "who")], text=text)
    [(lost, (reason, twin, detail))] = dropped(release).items()
    assert {lost, twin} == {0, 1}
    assert reason == "near_duplicate"
    assert detail.startswith("pictures look alike (hashes differ in ")
    assert detail.endswith("of 64 bits), same normalised turns")
    told = release.pool.manifest["near_images"]
    assert told == {"pictures": 4, "pairs": 2, "not_compared": 0}


def test_mirror_images_count_where_they_are_asked_for(tmp_path: Path):
    files = FILES | {"pictures/0-mirror": encoded(ImageOps.mirror(SCENES[0]), "PNG")}
    shown = [record("0-png"), record("0-mirror"), record("1-png")]
    assert dropped(built(tmp_path / "no", shown, files)) == {}
    lost = dropped(built(tmp_path / "yes", shown, files, mirrored_images=True))
    assert [reason for reason, _, _ in lost.values()] == ["near_duplicate"]
    assert lost.keys() | {twin for _, twin, _ in lost.values()} == {0, 1}


def test_a_picture_that_does_not_decode_is_quarantined_and_the_rest_compared(tmp_path: Path):
    whole = FILES["pictures/0-png"]
    files = FILES | {"pictures/cut": whole[: len(whole) // 2], "pictures/empty": b"", "pictures/text": b"no picture"}
    shown = [record(name) for name in ("0-png", "cut", "empty", "text", "0-jpeg")]
    release = built(tmp_path, shown, files)
    refused = release.ingested["one"].manifest["counts"]["rejected"]
    assert sum(refused.values()) == 3
    assert {"truncated_image", "unreadable_image"} <= refused.keys()
    [(lost, (reason, twin, _))] = dropped(release).items()
    assert (reason, {lost, twin}) == ("near_duplicate", {0, 4})
    assert release.pool.manifest["near_images"] == {"pictures": 2, "pairs": 1, "not_compared": 0}


def test_copies_are_other_pictures_unless_asked_for(tmp_path: Path):
    release = built(tmp_path, [record("0-png"), record("0-jpeg")], near_images=False)
    assert dropped(release) == {}
    assert "near_images" not in release.pool.manifest


@pytest.mark.parametrize("key", ["conversation", "question"])
@pytest.mark.parametrize(("question", "answer"), [("?", "!"), ("why", "so")])
def test_texts_too_short_for_ngrams_are_compared_too(tmp_path: Path, question: str, answer: str, key: str):
    release = built(tmp_path, [record("0-png", question, "a"), record("0-jpeg", question, "a")], key=key)
    assert len(dropped(release)) == 1


def test_every_picture_of_a_sample_must_match_at_its_place(tmp_path: Path):
    shown = [["0-png", "1-png"], ["0-jpeg", "1-png"], ["1-png", "0-png"], ["0-cut", "2-png"], ["0-half"], ["0-png", "1-webp"]]
    release = built(tmp_path, [record(images) for images in shown])
    lost = dropped(release)
    assert lost.keys() | {twin for _, twin, _ in lost.values()} == {0, 1, 5}
    assert len(lost) == 2


def test_of_a_chain_of_look_alikes_both_ends_stay(tmp_path: Path):
    steps = [SCENES[0], cut(SCENES[0], 0.08), cut(cut(SCENES[0], 0.08), 0.08)]
    found = alike_within(thumbnails(*steps), LookAlikeRule())
    assert set(zip(found.left.tolist(), found.right.tolist(), strict=True)) == {(0, 1), (1, 2)}, "a chain"
    files = {f"pictures/{number}": encoded(image, "PNG") for number, image in enumerate(steps)}
    lost = dropped(built(tmp_path, [record(str(number)) for number in range(3)], files))
    assert {number: twin for number, (_, twin, _) in lost.items()} == {1: 0}
    # Where the middle is preferred, both ends match what is kept.
    answers = [record("0", answer="two"), record("1", answer="two of these small boxes"), record("2", answer="two")]
    kept = dropped(built(tmp_path / "key", answers, files, key="question", prefer=["longer_answer"]))
    assert {number: twin for number, (_, twin, _) in kept.items()} == {0: 1, 2: 1}


def asked(number: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    pictures = [*(name.removeprefix("pictures/") for name in FILES), None]
    return [record(rng.choice(pictures), *rng.choice(SAID)) for _ in range(number)]


@pytest.fixture(scope="module")
def sources() -> dict[str, list[dict[str, Any]]]:
    return {"first": asked(90, 1), "second": asked(60, 2)}


@pytest.mark.parametrize("settings", [{}, {"unit": "turn"}, {"conflicts": "prefer"}, {"text": "exact"}, {"key": "question"}])
def test_every_dropped_sample_shows_what_its_kept_keeper_shows(tmp_path: Path, sources, settings: dict[str, str]):
    store = Store.open(str(tmp_path / "root"))
    release = build(world(tmp_path / "upstream", sources), store, mixture(**settings))
    samples = pl.concat([rows(artefact, "samples") for artefact in release.ingested.values()])
    pixels = {row["sample_id"]: [image["pixels"] for image in row["images"]] for row in samples.to_dicts()}
    looks = pl.concat([rows(artefact, "thumbnails") for artefact in release.ingested.values()])
    look = {row["pixels"]: row for row in looks.to_dicts()}

    def thumbnail(picture: str) -> Thumbnails:
        packed = np.frombuffer(bytearray(look[picture]["thumbnail"]), np.uint8)[None]
        return Thumbnails(packed, np.array([look[picture]["aspect"]], np.float32))

    verdicts = {row["sample_id"]: row for row in rows(release.pool, "verdicts").to_dicts()}
    others = 0
    for sample_id, row in verdicts.items():
        if row["verdict"] == "keep":
            continue
        assert verdicts[row["twin_id"]]["verdict"] == "keep"
        own, twin = pixels[sample_id], pixels[row["twin_id"]]
        if own != twin:
            others += 1
            assert len(own) == len(twin) == 1
            assert len(alike_between(thumbnail(own[0]), thumbnail(twin[0]), LookAlikeRule()).left) == 1
            assert row["reason"] == "near_duplicate"
            assert row["detail"].startswith("pictures look alike")
        else:
            assert not (row["detail"] or "").startswith("pictures look alike")
    assert others > 30
    survivors = samples.filter(pl.col("sample_id").is_in([name for name, row in verdicts.items() if row["verdict"] == "keep"]))
    assert len(survivors) >= 3 * 2, "other scenes and other questions stay"


def test_order_partitions_pools_and_blocks_change_nothing(tmp_path: Path, sources, monkeypatch: pytest.MonkeyPatch):
    whole = build(world(tmp_path / "whole", sources), Store.open(str(tmp_path / "root")), mixture())
    monkeypatch.setattr("curation.sources.json_spans.CHUNK_BYTES", 300)
    monkeypatch.setattr("curation.sources.readers.CHUNK_BYTES", 300)
    monkeypatch.setattr("curation.steps.picture_pass.MIN_LOOK_PICTURES", 4)
    monkeypatch.setattr("curation.steps.picture_pass.MAX_LOOK_PICTURES", 4)
    monkeypatch.setattr("curation.steps.near_pool.ITEMS_WORTH_A_POOL", 1)
    monkeypatch.setattr("curation.near.texts.PAIRS_PER_COMPARISON", 20)
    monkeypatch.setattr("curation.near.images.PICTURES_PER_BLOCK", 4)
    monkeypatch.setattr("curation.near.images.PICTURES_PER_TABLE", 8)
    turned = {name: records[::-1] for name, records in reversed(sources.items())}
    parts = build(world(tmp_path / "other", turned), Store.open(str(tmp_path / "parts")), mixture(), BackwardsPool())
    assert rows(parts.pool, "verdicts").equals(rows(whole.pool, "verdicts"))
    assert parts.pool.manifest["near_images"] == whole.pool.manifest["near_images"]
    assert len(parts.ingested["first"].files("thumbnails")) > 1


def test_pictures_alike_are_told_where_duplicates_are_shown(tmp_path: Path):
    catalog = world(tmp_path / "upstream", {"one": [record("0-png"), record("0-jpeg", f"{QUESTION} today")]})
    store = Store.open(str(tmp_path / "root"))
    release = build(catalog, store, mixture())
    [lost] = rows(release.pool, "verdicts").filter(verdict="drop")["sample_id"]
    [life] = look_up(store, lost)
    shown = printed(show_clusters, clusters(store, catalog, mixture(), 5)), printed(show_life, life)
    for text in shown:
        assert "pictures look alike (hashes differ in" in " ".join(text.split())
        assert "Jaccard" in text


def test_texts_without_pictures_need_none(tmp_path: Path):
    release = built(tmp_path, [record(None), record(None, f"{QUESTION} today")])
    assert [(reason, detail[:11]) for reason, _, detail in dropped(release).values()] == [("near_duplicate", "no pictures")]
    assert release.pool.manifest["near_images"] == {"pictures": 0, "pairs": 0, "not_compared": 0}
