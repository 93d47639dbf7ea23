"""Meaning in de-duplication: what a tiny model takes for the same on the same pictures goes, and nothing else."""

import io
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curation.catalog.spec import Catalog
from curation.errors import MixtureError
from curation.mixture.dedup import DedupSpec
from curation.mixture.file import load_mixture
from curation.mixture.spec import Mixture
from curation.storage.store import Store
from tests.curation.steps.test_near_pool import WORDS, conversation, world
from tests.support.tiny_models import write_text_model, write_vision_model
from tests.support.upstream import BackwardsPool, Built, NotingPool, build, rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_text_model(tmp_path_factory.mktemp("model"), WORDS))


def shuffled(text: str, seed: int) -> str:
    words = text.split()
    random.Random(seed).shuffle(words)
    return " ".join(words)


QUESTION = " ".join(WORDS[:12])
ANSWER = " ".join(WORDS[12:18])


def asked(*records: tuple[str, str, str | None]) -> list[dict[str, Any]]:
    return [
        conversation(number, [f"<image>\n{question}" if image else question, answer], image)
        for number, (question, answer, image) in enumerate(records)
    ]


SOURCES = {
    "first": asked((QUESTION, ANSWER, "0.png"), (" ".join(WORDS[15:29]), WORDS[3], "0.png"), (QUESTION, ANSWER, None)),
    "second": asked(
        (shuffled(QUESTION, 1), shuffled(ANSWER, 2), "0.png"),
        (shuffled(QUESTION, 3), WORDS[29], "0.png"),
        (shuffled(QUESTION, 4), shuffled(ANSWER, 5), "1.png"),
        (shuffled(QUESTION, 6), shuffled(ANSWER, 7), None),
    ),
}


def built(folder: Path, model: str, pool: Any = None, sources: Any = None, **dedup: Any) -> tuple[Built, Catalog, Store]:
    catalog, store = world(folder / "upstream", sources or SOURCES), Store.open(str(folder / "root"))
    spec = DedupSpec.model_validate({"semantic": {"model": model, "threshold": 0.98}} | dedup)
    return build(catalog, store, Mixture(name="all", dedup=spec), pool), catalog, store


def decided(release: Built) -> dict[tuple[str, str], tuple[str, str | None, str | None]]:
    names = {
        row["sample_id"]: (row["source"], row["origin_id"])
        for artefact in release.ingested.values()
        for row in rows(artefact, "samples").to_dicts()
    }
    return {
        names[row["sample_id"]]: (row["verdict"], row["reason"], row["detail"])
        for row in rows(release.pool, "verdicts").to_dicts()
    }


def test_the_same_meaning_on_the_same_pictures_is_a_duplicate(tmp_path: Path, model: str):
    release, _, _ = built(tmp_path, model, sources=SOURCES)
    found = decided(release)
    dropped = {name: row for name, row in found.items() if row[0] == "drop"}
    pairs = [{("first", "0"), ("second", "0")}, {("first", "2"), ("second", "3")}]
    assert len(dropped) == 2
    for pair in pairs:
        (own,) = pair & dropped.keys()
        assert dropped[own][1] == "semantic_duplicate"
    details = sorted(row[2] for row in dropped.values())
    assert details[0].startswith("no pictures, same meaning of turns: cosines questions ")
    assert details[1].startswith("same pixels, same meaning of turns: cosines questions ")
    assert release.pool.manifest["counts"]["first"]["dropped"].get("near_duplicate") is None


def test_questions_alone_are_enough_where_they_are_the_key(tmp_path: Path, model: str):
    release, _, _ = built(tmp_path, model, key="question")
    assert sum(row[1] == "semantic_duplicate" for row in decided(release).values()) == 3


def test_near_texts_are_still_called_so(tmp_path: Path, model: str):
    words = QUESTION.split()
    sources = {"first": asked((QUESTION, ANSWER, None), (" ".join([*words, WORDS[20]]), ANSWER, None))}
    release, _, _ = built(tmp_path, model, sources=sources)
    assert [row[1] for row in decided(release).values() if row[0] == "drop"] == ["near_duplicate"]


def test_vectors_are_made_once_and_order_changes_nothing(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch):
    whole, catalog, store = built(tmp_path / "a", model)
    noting = NotingPool()
    spec = DedupSpec.model_validate({"semantic": {"model": model, "threshold": 0.7}, "conflicts": "prefer"})
    again = build(catalog, store, Mixture(name="all", dedup=spec), noting)
    assert noting.tasks["embed"] == 0
    assert again.pool.fingerprint != whole.pool.fingerprint
    monkeypatch.setattr("curation.sources.json_spans.CHUNK_BYTES", 200)
    monkeypatch.setattr("curation.sources.readers.CHUNK_BYTES", 200)
    turned = {name: records[::-1] for name, records in reversed(SOURCES.items())}
    other, _, second = built(tmp_path / "b", model, BackwardsPool(), turned)
    assert len(list((second.root / "embeddings").glob("first/*/vectors-*.npy"))) > 1
    assert rows(other.pool, "verdicts").drop("detail").equals(rows(whole.pool, "verdicts").drop("detail"))


def test_the_same_model_elsewhere_is_the_same_and_another_is_not(tmp_path: Path, model: str):
    whole, catalog, store = built(tmp_path, model)
    copy, other = tmp_path / "copy", write_text_model(tmp_path / "other", WORDS, seed=1)
    copy.mkdir()
    for path in Path(model).iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    noting = NotingPool()
    for place, is_same in ((copy, True), (other, False)):
        spec = DedupSpec.model_validate({"semantic": {"model": str(place), "threshold": 0.98}})
        made = build(catalog, store, Mixture(name="all", dedup=spec), noting)
        assert (made.pool.fingerprint == whole.pool.fingerprint) == is_same
        assert (noting.tasks["embed"] == 0) == is_same


def test_vectors_stand_beside_the_items_of_their_file(tmp_path: Path, model: str):
    _, _, store = built(tmp_path, model, unit="turn")
    for folder in (store.root / "embeddings").glob("*/*"):
        vectors = [np.load(path) for path in sorted(folder.glob("vectors-*.npy"))]
        assert sum(map(len, vectors)) == len(SOURCES[folder.parent.name])
        assert {part.shape[1:] for part in vectors} == {(2, 32)}


def test_a_model_that_is_missing_is_told_before_any_work(tmp_path: Path):
    catalog = world(tmp_path / "upstream", SOURCES)
    path = tmp_path / "mixture.yaml"
    path.write_text("name: few\ndedup:\n  semantic:\n    model: nowhere/minilm\n")
    with pytest.raises(
        MixtureError, match=r"mixture.yaml:4: .*model 'nowhere/minilm' is no folder; name the folder of"
    ) as problem:
        load_mixture(path, catalog)
    assert problem.value.exit_code == 2


@pytest.fixture(scope="module")
def vision_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_vision_model(tmp_path_factory.mktemp("vision")))


def noise(seed: int, touched: int = 0) -> bytes:
    """A picture of noise, of which some pixels were touched."""
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 30, 3), np.uint8)
    pixels.reshape(-1, 3)[:touched] ^= 255
    handle = io.BytesIO()
    Image.fromarray(pixels).save(handle, "png")
    return handle.getvalue()


def shown(*records: tuple[str, str, list[str]]) -> list[dict[str, Any]]:
    return [
        conversation(number, ["<image>\n" * len(images) + question, answer]) | {"image": images}
        for number, (question, answer, images) in enumerate(records)
    ]


ONE, TOUCHED, OTHER = ["3.png"], ["4.png"], ["5.png"]
PICTURED = {
    "one": shown(
        (QUESTION, ANSWER, ONE),
        (QUESTION, ANSWER, TOUCHED),
        (QUESTION, ANSWER, OTHER),
        (shuffled(QUESTION, 8), shuffled(ANSWER, 9), TOUCHED),
        (QUESTION, ANSWER, [*ONE, *OTHER]),
        (QUESTION, ANSWER, [*TOUCHED, *OTHER]),
        (" ".join(WORDS[18:29]), WORDS[3], TOUCHED),
    )
}


@pytest.mark.parametrize("has_words", [False, True])
def test_pictures_that_a_vision_model_takes_for_the_same_count_as_the_same(
    tmp_path: Path, model: str, vision_model: str, has_words: bool
):
    catalog, store = world(tmp_path / "upstream", PICTURED), Store.open(str(tmp_path / "root"))
    for number, data in ((3, noise(1)), (4, noise(1, touched=1)), (5, noise(2))):
        (tmp_path / "upstream" / "pictures" / f"{number}.png").write_bytes(data)
    settings = {"vision_model": vision_model, "threshold": 0.98} | ({"model": model} if has_words else {})
    spec = DedupSpec.model_validate({"semantic": settings})
    release = build(catalog, store, Mixture(name="all", dedup=spec))
    found = {number: row for (_, number), row in decided(release).items()}
    alike = {"0", "1", "3"} if has_words else {"0", "1"}
    assert {number for number, row in found.items() if row[0] == "keep"} - alike == {"2", "4", "5", "6"} | ({"3"} - alike)
    dropped = [row for row in found.values() if row[0] == "drop"]
    assert len(dropped) == len(alike) - 1
    assert {row[1] for row in dropped} == {"semantic_duplicate"}
    assert any(re.search(r"pictures mean the same, same normalised turns: .*pictures (0.9|1.0)", row[2]) for row in dropped)
