"""The laws of de-duplication over made-up conversations about pictures."""

import copy
import io
import json
import random
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation.catalog.spec import Catalog
from curation.mixture.dedup import DedupSpec
from curation.mixture.spec import Mixture
from curation.runtime.pool import InProcessPool
from curation.runtime.progress import LineReporter
from curation.shard_format import IMAGE_MARKER
from curation.storage.store import Store
from tests.curation.dedup.made_up import jaccard, slow_ngrams
from tests.support.upstream import BackwardsPool, Built, build, content, picture, rows, write_catalog, write_files

WORDS = [
    f"{first}{second}" for first in ("ba", "ce", "di", "fo", "gu") for second in ("lan", "mir", "nost", "pek", "rus", "tav")
]
ROW: dict[str, Any] = {
    "category": "general",
    "layout": "conversations",
    "fields": {"turns": "turns"},
    "images": {"path": "image", "optional": True, "folder": "pictures"},
}


def conversation(number: int, said: list[str], image: str | None = None) -> dict[str, Any]:
    turns = [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(said)]
    return {"id": str(number), "turns": turns} | ({"image": image} if image else {})


def planted(number: int, seed: int) -> list[dict[str, Any]]:
    """Conversations of which many repeat another one wholly, nearly, or in some turns, on the same or another picture."""
    rng = random.Random(seed)
    records: list[dict[str, Any]] = []
    for place in range(number):
        kind = rng.choice(["new", "new", "same", "near", "answer", "picture", "turns"]) if records else "new"
        image = rng.choice(["0.png", "1.png", None])
        said = [" ".join(rng.choices(WORDS, k=rng.randint(1, 25))) for _ in range(2 * rng.randint(1, 3))]
        if kind != "new":
            other = rng.choice(records)
            image = other.get("image")
            said = [turn["value"].replace("<image>\n", "") for turn in other["turns"]]
            if kind == "near":
                words = said[0].split()
                words[rng.randrange(len(words))] = rng.choice(WORDS)
                said[0] = " ".join(words)
            elif kind == "answer":
                said[-1] = rng.choice(WORDS)
            elif kind == "picture":
                image = rng.choice(["0.png", "1.png", "2.png"])
            elif kind == "turns":
                said = said[:2] + [" ".join(rng.choices(WORDS, k=9)) for _ in range(2)]
        said[0] = f"<image>\n{said[0]}" if image else said[0]
        records.append(conversation(place, said, image))
    return records


def world(folder: Path, sources: dict[str, list[dict[str, Any]]]) -> Catalog:
    files: dict[str, bytes | str] = {f"pictures/{number}.png": picture(number) for number in range(3)}
    files |= {f"{name}/a.json": json.dumps(records) for name, records in sources.items()}
    write_files(folder, files)
    catalog = {name: copy.deepcopy(ROW) | {"location": {"root": ".", "files": f"{name}/a.json"}} for name in sources}
    return write_catalog(folder, catalog)


def built(folder: Path, sources: dict[str, list[dict[str, Any]]], **dedup: Any) -> Built:
    mixture = Mixture(name="all", dedup=DedupSpec.model_validate(dedup))
    return build(world(folder / "upstream", sources), Store.open(str(folder / "root")), mixture)


@pytest.fixture(scope="module")
def sources() -> dict[str, list[dict[str, Any]]]:
    records = planted(160, 1)
    return {"first": records[::2], "second": records[1::2]}


def texts(of: Built) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for artefact in of.ingested.values():
        for row in rows(artefact, "samples").to_dicts():
            said = [turn["value"].replace(IMAGE_MARKER, "").strip() for turn in row["conversations"]]
            shown = tuple(image["pixels"] for image in row["images"])
            found[row["sample_id"]] = {"said": said, "pictures": shown, "num_chars": sum(map(len, said[1::2]))}
    return found


def similarity(one: list[str], other: list[str]) -> float:
    """Jaccard over the n-grams of all turns, told apart by role."""
    sets = [{(place % 2, gram) for place, text in enumerate(said) for gram in slow_ngrams(text, 3, 5)} for said in (one, other)]
    return jaccard(*sets)


def test_every_dropped_sample_matches_its_own_kept_keeper(tmp_path: Path, sources):
    release = built(tmp_path, sources)
    verdicts = {row["sample_id"]: row for row in rows(release.pool, "verdicts").to_dicts()}
    known = texts(release)
    assert verdicts.keys() == known.keys()
    reasons = set()
    for sample_id, row in verdicts.items():
        if row["verdict"] == "keep":
            assert (row["reason"], row["twin_id"]) == (None, None)
            continue
        own, twin = known[sample_id], known[row["twin_id"]]
        assert verdicts[row["twin_id"]]["verdict"] == "keep"
        assert own["pictures"] == twin["pictures"]
        reasons.add(row["reason"])
        if row["reason"] == "exact_duplicate":
            assert own["said"] == twin["said"]
        else:
            assert row["reason"] == "near_duplicate"
            stated = float(re.search(r"Jaccard ([\d.]+)", row["detail"])[1])
            assert similarity(own["said"], twin["said"]) == pytest.approx(stated, abs=0.006)
            assert stated >= 0.7
        assert (-own["num_chars"], sample_id) > (-twin["num_chars"], row["twin_id"])
    assert reasons == {"exact_duplicate", "near_duplicate"}


def test_order_partitions_and_pools_change_nothing(tmp_path: Path, sources, monkeypatch: pytest.MonkeyPatch):
    whole = built(tmp_path / "whole", sources)
    monkeypatch.setattr("curation.sources.json_spans.CHUNK_BYTES", 300)
    monkeypatch.setattr("curation.sources.readers.CHUNK_BYTES", 300)
    monkeypatch.setattr("curation.steps.near_pool.ITEMS_WORTH_A_POOL", 1)
    monkeypatch.setattr("curation.near.texts.PAIRS_PER_COMPARISON", 20)
    turned = {name: records[::-1] for name, records in reversed(sources.items())}
    mixture = Mixture(name="all", dedup=DedupSpec())
    parts = build(world(tmp_path / "other", turned), Store.open(str(tmp_path / "parts")), mixture, BackwardsPool())
    assert rows(parts.pool, "verdicts").equals(rows(whole.pool, "verdicts"))
    assert rows(parts.pool, "findings").equals(rows(whole.pool, "findings"))


def test_what_is_kept_is_kept_again(tmp_path: Path, sources):
    release = built(tmp_path, sources)
    kept = set(rows(release.pool, "verdicts").filter(verdict="keep")["sample_id"])
    samples = pl.concat([rows(artefact, "samples") for artefact in release.ingested.values()])
    numbers = {name: set() for name in sources}
    for row in samples.filter(pl.col("sample_id").is_in(list(kept))).to_dicts():
        numbers[row["source"]].add(row["origin_id"])
    again = built(tmp_path / "again", {name: [r for r in found if r["id"] in numbers[name]] for name, found in sources.items()})
    assert rows(again.pool, "verdicts")["verdict"].unique().to_list() == ["keep"]


def test_signatures_of_a_source_are_made_once(tmp_path: Path, sources):
    catalog, store = world(tmp_path / "upstream", sources), Store.open(str(tmp_path / "root"))
    for dedup in ({}, {"threshold": 0.9}, {"conflicts": "prefer"}):
        build(catalog, store, Mixture(name="all", dedup=DedupSpec.model_validate(dedup)))
    assert len(list((store.root / "shingles").glob("*/*/manifest.json"))) == len(sources)
    assert len(list((store.root / "pools").glob("*/manifest.json"))) == 3
    assert not list((store.root / "work").glob("*"))


def decided(folder: Path, said: list[tuple[list[str], str | None]], **dedup: Any) -> dict[str, tuple[Any, ...]]:
    """Verdict, reason and twin of each conversation, all by number."""
    release = built(folder, {"one": [conversation(number, *record) for number, record in enumerate(said)]}, **dedup)
    numbers = {row["sample_id"]: int(row["origin_id"]) for row in rows(release.ingested["one"], "samples").to_dicts()}
    return {
        numbers[row["sample_id"]]: (row["verdict"], row["reason"], numbers.get(row["twin_id"]))
        for row in rows(release.pool, "verdicts").to_dicts()
    }


KEEP = ("keep", None, None)
LONG = "how many of the small boxes on the left table are red and how many of them are blue"


def asked(question: str, answer: str, image: str | None = "0.png") -> tuple[list[str], str | None]:
    return [f"<image>\n{question}" if image else question, answer], image


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([asked(LONG, "two"), asked(LONG, "two", "1.png")], [KEEP, KEEP]),
        ([asked(LONG, "two"), asked("what else is there", "two")], [KEEP, KEEP]),
        ([asked(LONG, "two"), asked(LONG, "three men")], [KEEP, KEEP]),
        ([asked(LONG, "two"), asked(LONG, "two", None)], [KEEP, KEEP]),
        ([asked(LONG + " today", "two"), asked(LONG, "two")], None),
        ([asked(LONG + " today", "two", None), asked(LONG, "two", None)], None),
    ],
)
def test_only_the_same_on_the_same_pictures_is_a_duplicate(tmp_path: Path, said: list, expected: list | None):
    found = decided(tmp_path, said)
    if expected is not None:
        assert [found[number] for number in range(len(said))] == expected
    else:
        assert sorted(row[:2] for row in found.values()) == [("drop", "near_duplicate"), KEEP[:2]]


CONFLICT = [
    asked("what is it", "a very red box"),
    asked("what is it", "a cat"),
    asked("what is it", "a cat"),
    asked("who", "me"),
]


def test_contradicting_answers_are_kept_and_told_by_default(tmp_path: Path):
    release = built(tmp_path, {"one": [conversation(number, *record) for number, record in enumerate(CONFLICT)]})
    findings = rows(release.pool, "findings")
    assert len(findings) == 2
    assert findings["cluster_id"].n_unique() == 1
    assert release.pool.manifest["findings"]["conflicting_answer"] == {"clusters": 1, "samples": 2}
    assert release.pool.manifest["findings"]["picture_reuse"] == {"pictures": 1, "samples": 3}


def test_of_contradicting_answers_the_preferred_one_stays_if_asked(tmp_path: Path):
    found = decided(tmp_path, CONFLICT, conflicts="prefer")
    lost = ("drop", "conflicting_answer", 0)
    assert found == {0: KEEP, 1: lost, 2: lost, 3: KEEP}


def test_of_contradicting_answers_none_stays_if_asked(tmp_path: Path):
    found = decided(tmp_path, CONFLICT, conflicts="drop_all")
    lost = ("drop", "conflicting_answer", None)
    assert found == {0: lost, 1: lost, 2: lost, 3: KEEP}


def test_questions_alone_can_be_the_key(tmp_path: Path):
    said = [
        asked("What is 2 + 3?", "5", None),
        asked("what is  2 + 3?", "The answer is 5.", None),
        asked("What is 2 + 4?", "6", None),
    ]
    assert decided(tmp_path, said, key="question") == {0: ("drop", "exact_duplicate", 1), 1: KEEP, 2: KEEP}
    assert set(decided(tmp_path / "whole", said).values()) == {KEEP}


TURNS = [
    (["<image>\nWhat is it?", "A long red box.", "And how large?", "As large as a cat."], "0.png"),
    (["<image>\nWhat is it?", "A long red box.", "Who made it?", "Nobody knows."], "0.png"),
    (["<image>\nWhat is it?", "A long red box."], "1.png"),
    (["<image>\nWho made it?", "Nobody knows.", "And how large?", "As large as a cat."], "0.png"),
    (["What is it?", "A long red box.", "Thanks.", "Welcome."], None),
    (["What is it?", "A long red box.", "Thanks.", "Do come again."], None),
]


def test_repeated_turns_leave_and_the_rest_stays(tmp_path: Path):
    release = built(tmp_path, {"one": [conversation(number, *record) for number, record in enumerate(TURNS)]}, unit="turn")
    samples = {row["sample_id"]: row for row in rows(release.ingested["one"], "samples").to_dicts()}
    numbers = {sample_id: int(row["origin_id"]) for sample_id, row in samples.items()}
    verdicts = {numbers[row["sample_id"]]: row for row in rows(release.pool, "verdicts").to_dicts()}
    # The longest answers come first: 0 keeps both turns, 3 loses the one that 0 has, and nothing of 1 is left.
    assert {number for number, row in verdicts.items() if row["verdict"] == "drop"} == {1}
    assert (verdicts[1]["reason"], numbers[verdicts[1]["twin_id"]]) == ("repeated_turns", 0)
    assert verdicts[3]["detail"].startswith("1 of its 2 turns removed")
    removed = rows(release.pool, "turns").to_dicts()
    assert [(numbers[row["sample_id"]], row["turn"], numbers[row["twin_id"]], row["twin_turn"]) for row in removed] == [
        (3, 1, 0, 1)
    ]
    assert release.pool.manifest["removed_turns"] == 1
    shard = b"".join(path.read_bytes() for path in release.folder.glob("shards/*.tar"))
    lines = [json.loads(line) for line in re.findall(rb'\{"id":.*?"origin":\{.*?\}\}', shard)]
    said = {numbers[line["id"]]: [turn["value"] for turn in line["conversations"]] for line in lines}
    assert said[3] == [f"{IMAGE_MARKER}\nWho made it?", "Nobody knows."]
    assert said[0] == TURNS[0][0]


def test_a_pool_of_nothing_is_a_pool(tmp_path: Path):
    release_rows = decided(tmp_path, [asked("a b c", "d")])
    assert release_rows == {0: KEEP}


def test_manifests_of_equal_runs_are_equal(tmp_path: Path, sources):
    one, other = built(tmp_path / "one", sources), built(tmp_path / "other", sources)
    assert content(one.pool.folder) == content(other.pool.folder)
    assert content(one.folder) == content(other.folder)


PROMPT = "read the question with care look at every option below and answer with the letter of the right one of them"


def test_a_template_in_common_makes_no_duplicates(tmp_path: Path):
    rng = random.Random(2)
    said = [[f"{PROMPT} {' '.join(rng.choices(WORDS, k=5))}", "the answer is b"] for _ in range(60)]
    records = {"one": [conversation(number, turns) for number, turns in enumerate(said)]}
    with_it = built(tmp_path / "a", records, boilerplate_share=0)
    assert with_it.pool.manifest["counts"]["one"]["dropped"].get("near_duplicate", 0) > 10
    without = built(tmp_path / "b", records)
    assert without.pool.manifest["counts"]["one"]["dropped"] == {}


def test_texts_of_one_repeated_word_are_capped_and_the_cap_is_told(tmp_path: Path):
    lines = io.StringIO()
    said = [["spam " * (3 + number), " ".join(["eggs"] * (3 + number % 40))] for number in range(120)]
    said += [["?!", "."], ["...", ". ."], ["?!", "."]]
    catalog = world(tmp_path / "upstream", {"one": [conversation(number, turns) for number, turns in enumerate(said)]})
    mixture = Mixture(name="all", dedup=DedupSpec(bucket_cap=8))
    release = build(catalog, Store.open(str(tmp_path / "root")), mixture, InProcessPool(LineReporter(lines)))
    verdicts = rows(release.pool, "verdicts")
    assert dict(verdicts["reason"].value_counts().iter_rows()) == {"near_duplicate": 119, "exact_duplicate": 1, None: 3}
    capped = release.pool.manifest["capped"]
    assert capped["largest"] == 120
    assert 0 < capped["pairs"] < 26 * 120 * 120
    assert f"{capped['pairs']:,} pairs were not compared" in lines.getvalue()
