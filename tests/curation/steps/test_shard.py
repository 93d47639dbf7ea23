import hashlib
import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from curation.catalog.spec import Catalog
from curation.errors import GuardError, PlanError
from curation.inspection.verification import verify
from curation.mixing.guard import losses
from curation.mixture.spec import Mixture
from curation.runtime.pool import InProcessPool
from curation.shard_format import INDEX_COLUMNS, decode_sample, occurrence_key
from curation.storage.store import Store, latest
from curation.tables import VERDICTS
from curation.token_counts import TokenizerFile
from tests.support.tokenizer_files import write_letter_tokenizer
from tests.support.upstream import (
    NUM_COPIED,
    NUM_SUMS,
    SHAPES_SAMPLES,
    BackwardsPool,
    Built,
    Killed,
    NotingPool,
    StoppingPool,
    build,
    content,
    rows,
    write_catalog,
    write_files,
    write_world,
)

pytestmark = pytest.mark.usefixtures("small_pieces")

FULL = Mixture(name="all", shard_bytes=1 << 13)
MIXED = Mixture(
    name="mixed",
    seed=5,
    cap=12,
    size=40,
    max_repeat=3,
    ratios={"general": 0.5, "language": 0.25, "math": 0.25},
    shard_bytes=1 << 13,
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The mixed release; tests that only look share it."""
    folder = tmp_path_factory.mktemp("mixed")
    return build(write_world(folder), Store.open(str(folder / "root")), MIXED)


def index_of(release: Path) -> pl.DataFrame:
    return pl.read_parquet(release / "index.parquet")


def samples_of(release: Path) -> dict[str, tuple[dict, dict[str, bytes]]]:
    """(JSON, members by name behind the key) of every sample by key, read with tarfile."""
    found: dict[str, tuple[dict, dict[str, bytes]]] = {}
    for path in sorted((release / "shards").iterdir()):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, name = member.name.partition(".")
                data = tar.extractfile(member).read()
                if name == "json":
                    found[key] = (json.loads(data), {})
                else:
                    found[key][1][name] = data
    return found


@pytest.mark.parametrize("mixture", [FULL, MIXED], ids=["full", "mixed"])
def test_a_release_holds_what_its_manifest_says(world: Catalog, store: Store, mixture: Mixture):
    release = build(world, store, mixture).release
    found = verify(release.folder, InProcessPool())
    assert found.problems == []
    assert found.num_samples == release.manifest["num_samples"] == len(samples_of(release.folder))
    assert len(release.manifest["shards"]) > 2
    assert latest(release.folder.parent) == release.folder


def test_nothing_but_a_name_takes_every_kept_sample_once(world: Catalog, store: Store):
    whole = build(world, store, Mixture(name="all"))
    kept = rows(whole.pool, "verdicts").filter(pl.col("verdict") == "keep")["sample_id"]
    assert sorted(index_of(whole.folder)["sample_id"]) == sorted(kept)
    # one repeated shape, two repeated chats, and copied sums that are the original's but for case and spaces
    assert len(kept) == (SHAPES_SAMPLES - 1) + 20 + NUM_SUMS
    counts = whole.release.manifest["conservation"]
    assert (
        counts["copied-sums"]["dropped"].get("exact_duplicate", 0) + counts["sums"]["dropped"].get("exact_duplicate", 0)
        == NUM_COPIED
    )


def test_counts_agree_from_records_to_shards(built: Built):
    manifest = built.release.manifest
    index = index_of(built.folder)
    verdicts = pl.read_parquet(built.folder / "verdicts.parquet")
    assert manifest["num_samples"] == MIXED.size == len(index)
    assert sum(shard["num_samples"] for shard in manifest["shards"]) == len(index)
    for key, column in (("sources", "source"), ("categories", "category")):
        assert {name: counts["samples"] for name, counts in manifest[key].items()} == Counter(index[column])
    for name, counts in manifest["conservation"].items():
        assert counts["records"] == counts["samples"] + sum(counts["rejected"].values())
        assert counts["samples"] == counts["kept"] + sum(counts["dropped"].values())
        assert counts["samples"] == len(verdicts.filter(pl.col("source") == name))
        taken = verdicts.filter((pl.col("source") == name) & (pl.col("verdict") == "keep"))["sample_id"]
        assert set(taken) == set(index.filter(pl.col("source") == name)["sample_id"])
        assert len(taken) == manifest["plan"][name]["picked"]


def test_verdicts_have_one_row_a_sample(built: Built):
    verdicts = pl.read_parquet(built.folder / "verdicts.parquet")
    assert verdicts.columns == VERDICTS.names
    everything = [sample for artefact in built.ingested.values() for sample in rows(artefact, "samples")["sample_id"]]
    assert sorted(verdicts["sample_id"]) == sorted(everything)
    dropped = verdicts.filter(pl.col("verdict") == "drop")
    assert dropped["reason"].null_count() == 0
    assert verdicts.filter(pl.col("verdict") == "keep")["reason"].null_count() == len(verdicts) - len(dropped)
    assert set(dropped["reason"]) >= {"exact_duplicate", "over_cap", "over_quota"}
    assert set(verdicts["stage"]) <= {"clean", "dedup", "mix"}


def test_index_points_at_tar_headers(built: Built):
    index = index_of(built.folder)
    assert tuple(index.columns) == INDEX_COLUMNS
    shards = built.release.manifest["shards"]
    for row in index.to_dicts():
        data = (built.folder / "shards" / shards[row["shard"]]["name"]).read_bytes()
        piece = data[row["offset_bytes"] :][: row["num_bytes"]]
        with tarfile.open(fileobj=io.BytesIO(piece)) as tar:
            names = tar.getnames()
        key = occurrence_key(row["sample_id"], row["repeat"])
        assert names[0] == f"{key}.json"
        assert all(name.startswith(f"{key}.") for name in names)
        assert len(names) == 1 + row["num_images"]
    ends = index.group_by("shard").agg((pl.col("offset_bytes") + pl.col("num_bytes")).max().alias("end")).sort("shard")
    assert [shard["num_bytes"] for shard in shards] == [end + 1024 for end in ends["end"]]


def test_a_sample_reads_as_documented(built: Built):
    stored = {row["sample_id"]: row for artefact in built.ingested.values() for row in rows(artefact, "samples").to_dicts()}
    categories = {"shapes": "general", "chats": "language", "sums": "math", "copied-sums": "math"}
    for key, (sample, images) in samples_of(built.folder).items():
        assert list(sample) == ["id", "source", "category", "conversations", "images", "license", "origin"]
        origin = stored[key.split("-r")[0] if "-r" in key else key]
        assert sample["id"] == key
        assert sample["category"] == categories[sample["source"]]
        assert sample["origin"] == {
            "file": origin["origin_file"], "position": origin["origin_position"], "id": origin["origin_id"],
        }  # fmt: skip
        roles = [turn["from"] for turn in sample["conversations"]]
        assert roles == ["human", "gpt"] * (len(roles) // 2)
        said = [turn["value"] for turn in sample["conversations"]]
        assert sum(text.count("<image>") for text in said[0::2]) == len(sample["images"])
        assert [image["name"] for image in sample["images"]] == list(images)
        for image in sample["images"]:
            assert hashlib.sha256(images[image["name"]]).hexdigest() == image["sha256"]
            with Image.open(io.BytesIO(images[image["name"]])) as opened:
                assert opened.size == (image["width"], image["height"])
                assert {"PNG": "png", "JPEG": "jpg"}[opened.format] == image["name"]


def test_members_have_fixed_owner_time_and_mode(built: Built):
    for path in (built.folder / "shards").iterdir():
        with tarfile.open(path) as tar:
            assert {(member.mtime, member.uid, member.gid, member.mode) for member in tar} == {(0, 0, 0, 0o644)}


def test_format_prompts_are_added_unless_refused(world: Catalog, store: Store):
    prompt = world.source("shapes").prompt
    for name, wanted in (("with", True), ("without", False)):
        folder = build(world, store, Mixture(name=name, format_prompts=wanted, include=["shapes"])).folder
        questions = [sample["conversations"][0]["value"] for sample, _ in samples_of(folder).values()]
        assert all(question.endswith(f"\n{prompt}") is wanted for question in questions)


def test_a_prompt_may_stand_before_the_question(world: Catalog, store: Store):
    prompt = world.source("shapes").prompt
    mixture = Mixture(name="m", prompt_placement="before", include=["shapes"])
    for sample, _ in samples_of(build(world, store, mixture).folder).values():
        assert sample["conversations"][0]["value"].startswith(f"<image>\n{prompt}\nWhat is shape")


def test_a_source_may_go_without_its_prompts(world: Catalog, store: Store):
    mixture = Mixture(name="m", include=["shapes"], sources={"shapes": {"format_prompts": False}})
    samples = samples_of(build(world, store, mixture).folder).values()
    assert not any(world.source("shapes").prompt in sample["conversations"][0]["value"] for sample, _ in samples)


def test_samples_that_fail_a_condition_have_a_verdict(world: Catalog, store: Store):
    where = {"num_tokens": {"max": 7}, "width": {"min": 3}}
    mixture = Mixture(name="m", where=where, sources={"sums": {"where": {"annotation_file": "other.tsv"}}})
    built = build(world, store, mixture)
    verdicts = pl.read_parquet(built.folder / "verdicts.parquet")
    facts = pl.concat([rows(artefact, "samples") for artefact in built.ingested.values()])
    filtered = verdicts.filter(pl.col("reason") == "filtered").join(facts, on="sample_id")
    assert set(filtered["stage"]) == {"mix"}
    short = pl.col("num_tokens") <= 7
    unmet = filtered.filter(~short)
    assert len(unmet)
    assert unmet["detail"].to_list() == [f"num_tokens is not at most 7: {found}" for found in unmet["num_tokens"]]
    others = filtered.filter(short)
    assert set(others["source"]) == {"sums"}
    assert set(others["detail"]) == {"annotation_file is not other.tsv: train.tsv"}
    taken = index_of(built.folder).join(facts, on="sample_id")
    assert taken["num_tokens_right"].max() <= 7
    kept = rows(built.pool, "verdicts").filter(pl.col("verdict") == "keep")
    assert len(kept) == len(taken) + len(filtered)


def test_a_guard_stops_before_a_source_vanishes(world: Catalog, store: Store):
    mixture = Mixture(name="m", guard={"max_drop_share": 0.3})
    verdicts = rows(build(world, store, Mixture(name="free")).pool, "verdicts")
    (victim,) = [loss.source for loss in losses(verdicts) if loss.share > 0.3]
    with pytest.raises(GuardError) as caught:
        build(world, store, mixture)
    lines = str(caught.value).splitlines()
    assert f"--accept {victim}" in lines[0]
    assert len(lines) == 3
    loss = next(loss for loss in losses(verdicts) if loss.source == victim)
    twin = {"sums": "copied-sums", "copied-sums": "sums"}[victim]
    assert lines[2].split()[:4] == [victim, str(loss.samples), str(loss.dropped), f"{loss.share:.1%}"]
    assert f"exact_duplicate {loss.dropped} of '{twin}'" in lines[2]
    assert not (store.root / "releases" / "m").exists()
    release = build(world, store, mixture, accepted=[victim]).release
    assert release.manifest["mixture"]["guard"] == {"max_drop_share": 0.3}
    assert build(world, store, mixture).folder == release.folder, "what is published was accepted"


def test_repeated_samples_have_numbered_keys(built: Built):
    index = index_of(built.folder)
    repeats = index.group_by("sample_id").agg(pl.col("repeat").sort())
    assert all(row == list(range(len(row))) for row in repeats["repeat"].to_list())
    keys = samples_of(built.folder).keys()
    repeated = index.filter(pl.col("repeat") > 0)
    assert len(repeated)
    for sample_id, repeat in repeated.select("sample_id", "repeat").iter_rows():
        assert {sample_id, f"{sample_id}-r{repeat}"} <= keys
    counts = index.group_by("source", "sample_id").len().group_by("source").agg(pl.col("len").max() - pl.col("len").min())
    assert counts["len"].max() <= 1


def test_order_is_a_shuffle_over_all_sources(world: Catalog, store: Store):
    index = index_of(build(world, store, FULL).folder)
    half = Counter(index["source"][: len(index) // 2])
    assert all(half[name] > 0 for name in ("shapes", "chats"))
    changes = sum(left != right for left, right in zip(index["source"][:-1], index["source"][1:], strict=True))
    assert changes > len(index) // 4


def test_same_bytes_for_any_order(tmp_path: Path, built: Built):
    catalog = write_world(tmp_path, backwards=True)
    turned = build(catalog, Store.open(str(tmp_path / "root")), MIXED, BackwardsPool())
    assert turned.folder.name == built.folder.name
    assert content(turned.folder) == content(built.folder)


def test_same_bytes_after_dying_at_any_task(world: Catalog, store: Store, built: Built):
    deaths = 0
    while deaths < 100:
        try:
            again = build(world, store, MIXED, StoppingPool(after=6 * deaths))
            break
        except Killed:
            deaths += 1
            assert not list(store.root.glob("releases/*/*/manifest.json"))
    assert deaths > 5
    assert content(again.folder) == content(built.folder)


def test_same_bytes_after_dying_before_any_rename(world: Catalog, store: Store, built: Built, monkeypatch: pytest.MonkeyPatch):
    build(world, store, Mixture(name="other"))  # leaves only the release itself to be made
    rename = Path.replace
    remaining = [0]

    def replace(path: Path, target: Path) -> Path:
        if remaining[0] == 0:
            raise Killed
        remaining[0] -= 1
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    deaths = 0
    while True:
        remaining[0] = 15 + 2 * deaths
        try:
            again = build(world, store, MIXED)
            break
        except Killed:
            deaths += 1
    assert deaths > 5
    assert content(again.folder) == content(built.folder)


def test_a_second_build_does_nothing(world: Catalog, store: Store):
    first = build(world, store, MIXED)
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*") if path.is_file()}
    noting = NotingPool()
    assert build(world, store, MIXED, noting).folder == first.folder
    assert not noting.tasks
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*") if path.is_file()} == before


def test_editing_the_mixture_redoes_sharding_only(world: Catalog, store: Store):
    build(world, store, MIXED)
    noting = NotingPool()
    build(world, store, MIXED.model_copy(update={"cap": 11}), noting)
    assert set(noting.tasks) == {"render", "write"}


def test_a_new_source_leaves_the_others_alone(world: Catalog, store: Store):
    few = build(world, store, Mixture(name="few", cap=9, include=["chats", "sums"]))
    noting = NotingPool()
    more = build(world, store, Mixture(name="more", cap=9, include=["chats", "sums", "shapes"]), noting)
    assert noting.tasks["clean"] == len(more.ingested["shapes"].files("samples"))
    for name in ("chats", "sums"):
        picked = [set(index_of(one.folder).filter(pl.col("source") == name)["sample_id"]) for one in (few, more)]
        assert picked[0] == picked[1]


def test_editing_a_licence_keeps_what_was_ingested(world: Catalog, store: Store):
    before = build(world, store)
    source = world.sources["sums"].model_copy(update={"license": "MIT"})
    relicensed = world.model_copy(update={"sources": world.sources | {"sums": source}})
    noting = NotingPool()
    after = build(relicensed, store, pool=noting)
    assert after.folder != before.folder
    assert set(noting.tasks) == {"render", "write"}


def test_a_mixture_without_any_sample_says_so(tmp_path: Path, store: Store):
    write_files(tmp_path / "bad", {"a.jsonl": "{}\n"})
    row = {
        "category": "math",
        "layout": "qa",
        "location": {"root": "bad", "files": "*"},
        "fields": {"question": "q", "answer": "a"},
    }
    with pytest.raises(PlanError, match="hold no samples"):
        build(write_catalog(tmp_path, {"bad": row}), store)


def test_json_of_samples_decodes(built: Built):
    with tarfile.open(next((built.folder / "shards").iterdir())) as tar:
        assert decode_sample(tar.extractfile(tar.next()).read())["source"]


def test_a_tokenizer_counts_tokens_and_names_the_release(world: Catalog, store: Store, tmp_path: Path):
    mixtures = [MIXED.model_copy(update={"tokenizer": str(write_letter_tokenizer(tmp_path / name))}) for name in ("one", "two")]
    words, letters = build(world, store, MIXED), build(world, store, mixtures[0])
    assert build(world, store, mixtures[1]).folder == letters.folder != words.folder, "what the file holds counts, not its name"
    assert words.release.manifest["tokens"].startswith("words between white space")
    assert letters.release.manifest["tokens"] == TokenizerFile.find(tmp_path / "one").unit
    assert content(letters.folder / "shards") == content(words.folder / "shards")
    listed = samples_of(letters.folder)
    for row in index_of(letters.folder).to_dicts():
        turns = listed[occurrence_key(row["sample_id"], row["repeat"])][0]["conversations"]
        assert row["num_tokens"] == sum(len("".join(turn["value"].replace("<image>", "").split())) for turn in turns)
    assert sum(counts["tokens"] for counts in letters.release.manifest["sources"].values()) == sum(
        index_of(letters.folder)["num_tokens"]
    )
