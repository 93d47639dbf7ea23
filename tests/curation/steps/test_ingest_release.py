"""The dirt that users of a release met, case by case, from upstream files to samples and quarantine."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from curation.errors import CatalogError
from curation.mixture.spec import Mixture
from curation.sources import archive_looking
from curation.steps.ingest import Ingest
from curation.steps.picture_pass import look_at_archives
from curation.steps.step import Artefact
from curation.storage.store import Store
from tests.support.release_world import (
    MIX,
    RECORDS,
    archive_files,
    local_release,
    packed_tar,
    record,
    release_catalog,
    release_files,
    release_records,
    split_parts,
)
from tests.support.upstream import NotingPool, build, content, ingest, picture, rows, write_files


def ingested(folder: Path, store: Store, lines: list[Any], name: str = "dvqa", **more: bytes) -> Artefact:
    return ingest(local_release(folder / "up", lines, **more), name, store)


def reasons(artefact: Artefact) -> dict[int, str]:
    """Reason by upstream line."""
    if not artefact.files("rejected"):
        return {}
    return dict(rows(artefact, "rejected").select("origin_position", "reason").iter_rows())


def origins(artefact: Artefact) -> list[int]:
    return sorted(rows(artefact, "samples")["origin_position"])


def test_one_release_serves_its_sources(tmp_path: Path, store: Store):
    catalog = local_release(tmp_path / "up")
    for place, name in enumerate(("dvqa", "allava", "coco", "orca")):
        artefact = ingest(catalog, name, store)
        counts = artefact.manifest["counts"]
        assert (counts["records"], counts["samples"]) == (12, 12)
        samples = rows(artefact, "samples")
        assert origins(artefact) == list(range(place, 48, 4))
        assert set(samples["origin_file"]) == {RECORDS}
        assert counts["images"] == (0 if name == "orca" else 12)
    assert len(list((store.root / "upstream" / "cambrian" / "routed").glob("*/manifest.json"))) == 1


def test_pictures_are_those_that_records_name(tmp_path: Path, store: Store):
    import hashlib

    samples = rows(ingest(local_release(tmp_path / "up"), "allava", store), "samples")
    for row in samples.to_dicts():
        number = int(row["origin_id"].split("-")[1])
        assert row["images"][0]["sha256"] == hashlib.sha256(picture(100 + number, size=(40, 30))).hexdigest()


@pytest.mark.parametrize("absent", [None, "", "None", "none", "nan", " ", [], "absent"])
def test_a_record_without_a_picture_is_text(tmp_path: Path, store: Store, absent: Any):
    lines = [record(1, "orca_994k.json", absent), record(2, "orca_994k.json")]
    artefact = ingested(tmp_path, store, lines, "orca")
    assert origins(artefact) == [0, 1] and artefact.manifest["counts"]["images"] == 0


def turns(*texts: str, first: str = "human") -> list[dict[str, str]]:
    roles = ["human", "gpt"] if first == "human" else ["gpt", "human"]
    return [{"from": roles[number % 2], "value": text} for number, text in enumerate(texts)]


IMAGE = "dvqa/images/1.png"
PAIR = ["dvqa/images/1.png", "dvqa/images/2.png"]


@pytest.mark.parametrize(
    ("image", "conversation", "reason"),
    [
        (PAIR, turns("<image>\n<image>\nWhich?", "This."), None),
        (PAIR, turns("<image>\nWhich?", "This.", "And <image>?", "That."), None),
        (IMAGE, turns("<image>\n<image>\nWhich?", "This."), "marker_mismatch"),
        (PAIR, turns("<image>\nWhich?", "This."), "marker_mismatch"),
        (IMAGE, turns("Which?", "This."), "marker_mismatch"),
        (IMAGE, turns("<image>", "This."), "empty_question"),
        (IMAGE, turns("<image>\n ", "This."), "empty_question"),
        (IMAGE, turns("<image>\nWhich?", " "), "empty_answer"),
        (IMAGE, turns("Hello!", "<image>\nWhich?", "This.", first="gpt"), None),
        (IMAGE, turns("<image>\nWhich?", "This.", "And?"), "empty_answer"),
        (IMAGE, [turns("<image>\nWhich?", "This.")], "unsupported_value"),
        (IMAGE, {"human": "<image>\nWhich?", "gpt": "This."}, "unsupported_value"),
        (IMAGE, [{"from": "human", "value": "<image>\nWhich?"}, {"from": "gpt"}], "missing_field"),
        (IMAGE, [{"from": "human", "value": "<image>\nWhich?"}] * 2, "unsupported_value"),
    ],
)
def test_conversations_are_whole_or_refused(tmp_path: Path, store: Store, image: Any, conversation: Any, reason: str | None):
    lines = [record(0, "dvqa_2325k.json", IMAGE), record(1, "dvqa_2325k.json", image, conversations=conversation)]
    artefact = ingested(tmp_path, store, lines)
    assert reasons(artefact) == ({} if reason is None else {1: reason})
    assert len(origins(artefact)) == (2 if reason is None else 1)


def test_a_leading_answer_is_dropped_and_counted_once_kept(tmp_path: Path, store: Store):
    spoken = turns("Hello!", "<image>\nWhich?", "This.", first="gpt")
    lines = [
        record(0, "dvqa_2325k.json", IMAGE, conversations=spoken),
        record(1, "dvqa_2325k.json", "dvqa/images/none.png", conversations=spoken),
        record(2, "dvqa_2325k.json", IMAGE, conversations=[spoken[0]]),
        record(3, "dvqa_2325k.json", IMAGE, conversations=[*spoken, {"from": "human", "value": "And?"}]),
    ]
    artefact = ingested(tmp_path, store, lines)
    assert reasons(artefact) == {1: "missing_image", 2: "empty_question", 3: "empty_answer"}
    assert artefact.manifest["counts"]["repaired"] == {"leading_answer_dropped": 1}


def test_the_malformed_records_are_found_by_their_line(tmp_path: Path, store: Store):
    from curation.inspection.lookup import look_up

    lines: list[Any] = [
        record(0, "dvqa_2325k.json", IMAGE),
        '{"id": "1", "source": "dvqa_2325k.json", "conver',
        record(2, "x.json"),
    ]
    lines.append(record(3, "dvqa_2325k.json", IMAGE, conversations="malformed"))
    artefact = ingested(tmp_path, store, lines)
    assert reasons(artefact) == {3: "unsupported_value"}
    [life] = look_up(store, f"cambrian:{RECORDS}:1")
    assert life.rejected is not None
    assert (life.rejected["reason"], life.rejected["raw"]) == ("bad_json", lines[1].encode())
    [life] = look_up(store, f"dvqa:{RECORDS}:3")
    assert life.rejected is not None and json.loads(life.rejected["raw"])["conversations"] == "malformed"


def test_ids_need_not_be_unique(tmp_path: Path, store: Store):
    lines = [record(7, "dvqa_2325k.json", f"dvqa/images/{number}.png") for number in (1, 2, 1)]
    samples = rows(ingested(tmp_path, store, lines), "samples")
    assert samples["origin_id"].to_list() == ["7"] * 3
    assert samples["sample_id"].is_unique().all()


def test_a_cap_by_annotation_file_counts_the_files_of_a_release(tmp_path: Path, store: Store):
    """The release is one JSONL, but its records say which annotation files they were: the paper's caps count those."""
    long = [record(n, "long.json", question=f"How long is {n}?") for n in range(20)]
    short = [record(n, "short.json", question=f"How short is {n}?") for n in range(5)]
    write_files(tmp_path / "up" / "mirror", release_files([*long, *short]))
    both = {"both": {"category": "language", "location": {"release": "cambrian", "source": ["long.json", "short.json"]}}}
    catalog = release_catalog(tmp_path / "up", {"root": "mirror"}, both)
    samples = rows(ingest(catalog, "both", store), "samples")
    assert Counter(samples["annotation_file"]) == {"long.json": 20, "short.json": 5}
    assert build(catalog, store, Mixture(name="by-source", cap=10)).release.manifest["num_samples"] == 10
    assert (
        build(catalog, store, Mixture(name="by-file", cap=10, cap_unit="annotation_file")).release.manifest["num_samples"] == 15
    )


def test_a_source_without_any_record_says_so(tmp_path: Path, store: Store):
    with pytest.raises(CatalogError, match="no record of cambrian has source dvqa_2325k"):
        ingested(tmp_path, store, [record(0, "x.json")])


# --- Pictures that lie elsewhere ----------------------------------------------------------------------------------------


def test_pictures_in_another_case_or_folder_are_found_where_there_is_no_doubt(tmp_path: Path, store: Store):
    members = {
        "dvqa/images/1.png": picture(1),
        "dvqa/images/Upper.PNG": picture(2),
        "./images/moved.png": picture(3),
        "dvqa/a/twice.png": picture(4),
        "dvqa/b/twice.png": picture(5),
        "dvqa/x/deep/near.png": picture(6),
        "dvqa/y/near.png": picture(7),
        "dvqa/images/other.jpg": picture(8, "JPEG"),
    }
    names = ["1.png", "upper.png", "moved.png", "twice.png", "deep/near.png", "other.png", "gone.png"]
    lines = [record(name, "dvqa_2325k.json", f"dvqa/images/{name}") for name in names]
    lines.append(record("1 again", "dvqa_2325k.json", "dvqa/elsewhere/1.png"))  # another record has that picture by its name
    artefact = ingested(tmp_path, store, lines, **{"dvqa.tar.gz": packed_tar(members)})
    assert origins(artefact) == [0, 1, 2, 4]
    assert artefact.manifest["counts"]["repaired"] == {"image_path_repaired": 3}
    details = dict(rows(artefact, "rejected").select("origin_position", "detail").iter_rows())
    assert sorted(details) == [3, 5, 6, 7]
    assert "nearest are 'dvqa/a/twice.png', 'dvqa/b/twice.png'" in details[3]
    assert "nearest are 'dvqa/images/other.jpg'" in details[5]
    assert details[6].endswith("no such picture in dvqa.tar.gz")
    assert "nearest are 'dvqa/images/1.png'" in details[7]


def test_archives_and_folders_may_be_named_in_another_case(tmp_path: Path, store: Store):
    lines = [record(0, "dvqa_2325k.json", "dvqa/images/1.png")]
    files = release_files(lines)
    files["DVQA.tar.gz"] = packed_tar(archive_files("DVQA/images", {"1.png": 1}))
    del files["dvqa.tar.gz"]
    write_files(tmp_path / "up" / "mirror", files)
    artefact = ingest(release_catalog(tmp_path / "up", {"root": "mirror"}), "dvqa", store)
    assert origins(artefact) == [0] and artefact.manifest["counts"]["repaired"] == {"image_path_repaired": 1}


def test_an_image_folder_without_archive(tmp_path: Path, store: Store):
    catalog = local_release(tmp_path / "up")
    (tmp_path / "up/mirror/dvqa.tar.gz").unlink()
    artefact = ingest(catalog, "dvqa", store)
    assert set(reasons(artefact).values()) == {"missing_image"}
    assert "there is no archive 'dvqa.tar.gz' in mirror" in rows(artefact, "rejected")["detail"][0]


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "dvqa/../../x.png", "C:\\x.png", "x.png", "//x/y.png", "./.png"])
def test_paths_that_leave_are_refused(tmp_path: Path, store: Store, name: str):
    sources = {
        "dvqa": {"category": "ocr", "location": {"release": "cambrian", "source": "dvqa_2325k.json", "folder": ["*", None]}}
    }
    lines = [record(0, "dvqa_2325k.json", IMAGE), record(1, "dvqa_2325k.json", name)]
    write_files(tmp_path / "up" / "mirror", release_files(lines))
    artefact = ingest(release_catalog(tmp_path / "up", {"root": "mirror"}, sources), "dvqa", store)
    assert set(reasons(artefact).values()) <= {"path_escapes", "missing_image"} and origins(artefact) == [0]


# --- Damaged archives ---------------------------------------------------------------------------------------------------


class Reads:
    """Counts passes over archives by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        original = archive_looking.stream_members

        def noted(archive: Any, *rest: Any) -> Any:
            self.names.append(archive.name)
            return original(archive, *rest)

        monkeypatch.setattr(archive_looking, "stream_members", noted)


BOTH = {
    "both": {
        "category": "general",
        "location": {"release": "cambrian", "source": ["dvqa_2325k.json", "allava_700k.json"], "folder": ["dvqa", "allava"]},
    }
}


def noise(number: int) -> bytes:
    """A picture that cannot be packed, so that archives are as large as their pictures."""
    from PIL import Image

    from tests.support.upstream import encoded

    return encoded(Image.frombytes("RGB", (16, 16), random.Random(number).randbytes(768)))


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped"])
def test_one_bad_part_spoils_only_what_lies_behind_it_until_it_is_mended(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, damage: str
):
    files = release_files()
    files |= split_parts(packed_tar({f"allava/{n}.png": noise(n) for n in range(12)}), "allava.tar.gz")
    whole = files["allava.tar.gz_part6"]
    damaged = {"gone": None, "cut": whole[:40], "flipped": whole[:99] + bytes([whole[99] ^ 0xFF]) + whole[100:]}[damage]
    mirror = write_files(tmp_path / "up" / "mirror", files)
    catalog = release_catalog(tmp_path / "up", {"root": "mirror"}, BOTH)
    clean = ingest(catalog, "both", Store.open(str(tmp_path / "clean")))

    part = mirror / "allava.tar.gz_part6"
    part.unlink() if damaged is None else part.write_bytes(damaged)
    reads = Reads(monkeypatch)
    first = ingest(catalog, "both", store)
    counts = first.manifest["counts"]
    assert sorted(reads.names) == ["allava.tar.gz", "dvqa.tar.gz"]
    assert list(counts["rejected"]) == ["archive_damaged"]
    assert counts["samples"] + counts["rejected"]["archive_damaged"] == 24
    assert counts["samples"] >= 12  # all of dvqa
    assert damage != "gone" or counts["samples"] > 12  # up to a gap; what came just before data that makes no sense is doubted
    detail = rows(first, "rejected")["detail"][0]
    assert "archive allava.tar.gz is damaged after" in detail
    assert damage != "gone" or "the part after 'allava.tar.gz_part5' is missing" in detail
    [told] = [report for report in first.manifest["archives"] if report["damage"]]
    assert told["archive"] == "allava.tar.gz" and "allava.tar.gz_part5" in told["parts"]
    assert ingest(catalog, "both", store).folder == first.folder and len(reads.names) == 2

    part.write_bytes(whole)
    reads.names.clear()
    second = ingest(catalog, "both", store)
    assert reads.names == ["allava.tar.gz"]
    assert content(second.folder) == content(clean.folder)
    assert not (store.root / "cache" / "looks" / "both").exists()


def test_what_lies_well_before_damage_is_whole(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archive_looking, "MARGIN_BYTES", 3_000)
    packed = bytearray(packed_tar({f"dvqa/images/{n}.png": noise(n) for n in range(12)}))
    packed[len(packed) * 3 // 4 :] = packed[len(packed) * 3 // 4 + 40 :]
    artefact = ingested(tmp_path, store, release_records(), **{"dvqa.tar.gz": bytes(packed)})
    assert len(origins(artefact)) >= 5 and set(reasons(artefact).values()) == {"archive_damaged"}


def test_a_killed_pass_is_taken_up_and_gives_the_same_bytes(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch):
    from tests.support.upstream import Killed, StoppingPool

    catalog = release_catalog(tmp_path / "up", {"root": "mirror"}, BOTH)
    write_files(tmp_path / "up" / "mirror", release_files())
    clean = ingest(catalog, "both", Store.open(str(tmp_path / "clean")))
    for after in range(8):
        try:
            finished = ingest(catalog, "both", store, StoppingPool(after))
        except Killed:
            continue
    assert content(finished.folder) == content(clean.folder)


def test_archives_of_local_sources_are_streams_too(tmp_path: Path, store: Store):
    from tests.support.upstream import write_catalog

    records = [{"q": f"What is {n}?", "a": str(n), "image": f"{n}.png"} for n in range(6)]
    pictures = packed_tar({f"{n}.png": noise(n) for n in range(6)})
    write_files(
        tmp_path / "data", {"a.json": json.dumps(records), **split_parts(pictures, "p.tar.gz", 3), "whole.tar.gz": pictures}
    )
    row = {
        "category": "ocr",
        "layout": "qa",
        "location": {"root": "data", "files": "*.json"},
        "fields": {"question": "q", "answer": "a"},
    }
    for name, images in (("parts", {"tar": "p.tar.gz_part*"}), ("packed", {"tar": "whole.tar.gz"})):
        catalog = write_catalog(tmp_path, {name: row | {"images": {"path": "image", **images}}})
        assert ingest(catalog, name, store).manifest["counts"]["samples"] == 6


def test_a_zip_cut_short_gives_what_was_whole(tmp_path: Path, store: Store):
    from tests.curation.fetch.test_archives import zip_of
    from tests.support.upstream import write_catalog

    records = [{"q": f"What is {n}?", "a": str(n), "image": f"{n}.png"} for n in range(6)]
    packed = zip_of({f"{n}.png": noise(n) for n in range(6)})
    write_files(tmp_path / "data", {"a.json": json.dumps(records), "p.zip": packed[: packed.index(b"4.png")]})
    row = {
        "category": "ocr",
        "layout": "qa",
        "location": {"root": "data", "files": "*.json"},
        "fields": {"question": "q", "answer": "a"},
    }
    catalog = write_catalog(tmp_path, {"cut": row | {"images": {"path": "image", "zip": "p.zip"}}})
    counts = ingest(catalog, "cut", store).manifest["counts"]
    assert counts["samples"] == 4 and counts["rejected"] == {"archive_damaged": 2}


# --- Archives that several sources share --------------------------------------------------------------------------------


SHARING = {
    name: {
        "category": "general",
        "location": {"release": "cambrian", "source": MIX, "folder": "coco", "where": where},
    }
    for name, where in {"few": {"question": "[0-3]"}, "others": {"rest": True}}.items()
}
"""Two sources whose pictures lie in one archive."""


def together(catalog: Any, names: list[str], store: Store, pool: Any = None) -> dict[str, Artefact]:
    pool = pool or NotingPool()
    steps = {name: Ingest(catalog, catalog.source(name)) for name in names}
    begun = {name: step.begin(store, pool) for name, step in steps.items()}
    look_at_archives([read for source in begun.values() for read in source.archive_reads()], pool, "all")
    return {name: step.finish(begun[name], store, pool) for name, step in steps.items()}


def shared_release(folder: Path) -> Any:
    lost = record("lost", MIX, "coco/TRAIN/3.png", "Is it 3?")  # both want what lies under another name
    also = record("also", MIX, "coco/train/3.PNG", "Is it 9?")
    write_files(folder / "mirror", release_files([*release_records(), lost, also]))
    return release_catalog(folder, {"root": "mirror"}, SHARING)


def test_sources_that_share_an_archive_read_it_once_and_get_the_same_bytes(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
):
    catalog = shared_release(tmp_path / "up")
    reads = Reads(monkeypatch)
    alone = {name: ingest(catalog, name, Store.open(str(tmp_path / "alone"))) for name in SHARING}
    assert reads.names == ["coco.tar.gz", "coco.tar.gz"]
    reads.names.clear()
    found = together(catalog, list(SHARING), store)
    assert reads.names == ["coco.tar.gz"]
    assert sum(artefact.manifest["counts"]["samples"] for artefact in found.values()) == 14
    assert {name: content(artefact.folder) for name, artefact in found.items()} == {
        name: content(artefact.folder) for name, artefact in alone.items()
    }
    assert together(catalog, list(SHARING), store)["few"].folder == found["few"].folder and len(reads.names) == 1


def test_a_shared_archive_is_read_only_for_those_that_still_want_it(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
):
    catalog = shared_release(tmp_path / "up")
    first = ingest(catalog, "few", store)
    wanted: list[int] = []
    original = archive_looking.look_at_archive
    monkeypatch.setattr(
        "curation.steps.picture_pass.look_at_archive", lambda task: wanted.append(len(task.readers)) or original(task)
    )
    assert together(catalog, list(SHARING), store)["few"].folder == first.folder
    assert wanted == [1]


def test_sources_killed_while_they_share_an_archive_end_in_the_same_bytes(tmp_path: Path, store: Store):
    from tests.support.upstream import Killed, StoppingPool

    catalog = shared_release(tmp_path / "up")
    clean = together(catalog, list(SHARING), Store.open(str(tmp_path / "clean")))
    for after in range(12):
        try:
            found = together(catalog, list(SHARING), store, StoppingPool(after))
        except Killed:
            continue
    assert {name: content(artefact.folder) for name, artefact in found.items()} == {
        name: content(artefact.folder) for name, artefact in clean.items()
    }


def test_a_damaged_archive_is_told_to_all_that_share_it(tmp_path: Path, store: Store):
    catalog = shared_release(tmp_path / "up")
    archive = tmp_path / "up" / "mirror" / "coco.tar.gz"
    archive.write_bytes(archive.read_bytes()[:300])
    for artefact in together(catalog, list(SHARING), store).values():
        assert list(artefact.manifest["counts"]["rejected"]) == ["archive_damaged"]
        assert artefact.manifest["archives"][0]["damage"]


def test_parts_of_a_source_share_its_archives(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch):
    write_files(tmp_path / "up" / "mirror", release_files())
    parts = [{"location": source["location"]} for source in SHARING.values()]
    catalog = release_catalog(tmp_path / "up", {"root": "mirror"}, {"both": {"category": "general", "parts": parts}})
    reads = Reads(monkeypatch)
    assert together(catalog, ["both"], store)["both"].manifest["counts"]["samples"] == 12
    assert reads.names == ["coco.tar.gz"]


# --- Cost ---------------------------------------------------------------------------------------------------------------


def test_what_is_done_is_not_done_again(tmp_path: Path, store: Store):
    catalog = local_release(tmp_path / "up")
    first = ingest(catalog, "dvqa", store)
    pool = NotingPool()
    assert ingest(catalog, "dvqa", store, pool).folder == first.folder and not pool.tasks
    ingest(catalog, "coco", store, pool)
    assert "route" not in pool.tasks


def test_a_new_source_leaves_others_alone(tmp_path: Path, store: Store):
    from tests.support.release_world import SOURCES

    write_files(tmp_path / "up" / "mirror", release_files())
    few = release_catalog(tmp_path / "up", {"root": "mirror"}, {name: SOURCES[name] for name in ("dvqa", "orca")})
    before = ingest(few, "dvqa", store)
    assert ingest(release_catalog(tmp_path / "up", {"root": "mirror"}), "dvqa", store).folder == before.folder


def test_unclaimed_records_are_counted(tmp_path: Path, store: Store):
    from curation.fetch.local import manifest_of, newest

    ingested(tmp_path, store, [*release_records(), record(0, MIX, "gqa/1.png"), record(0, "new.json")])
    folder = newest(store.root / "upstream" / "cambrian" / "routed")
    assert folder is not None
    assert manifest_of(folder)["unclaimed"] == [
        {"source": MIX, "folder": "gqa", "records": 1},
        {"source": "new.json", "folder": None, "records": 1},
    ]
