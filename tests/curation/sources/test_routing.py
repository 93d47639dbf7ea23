import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.catalog.locations import ReleaseRows
from curation.runtime.pool import InProcessPool
from curation.sources import routing
from curation.sources.claims import Claim, Router, first_image
from curation.sources.routed_files import upstream_lines
from curation.sources.routing import Routed, rejected_rows, routed
from curation.storage.store import Store
from tests.support.upstream import write_files


def claims(*rows: dict[str, Any]) -> list[Claim]:
    """Claims in the order in which a catalog asks them: `rest` last."""
    parsed = [Claim(name, ReleaseRows.model_validate({"release": "r", **keys})) for name, keys in map(_split, rows)]
    return sorted(parsed, key=lambda claim: claim.rows.is_rest)


def _split(row: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return row["name"], {key: value for key, value in row.items() if key != "name"}


def route(folder: Path, files: dict[str, bytes], asked: list[Claim]) -> Routed:
    write_files(folder / "up", files)
    store = Store.open(str(folder / "root"))
    return routed("up", folder / "up", [(name, "hash") for name in sorted(files)], asked, store, InProcessPool())


def jsonl(*records: Any) -> bytes:
    return "".join(f"{record if isinstance(record, str) else json.dumps(record)}\n" for record in records).encode()


def taken(found: Routed, claim: str, file: str = "a.jsonl") -> list[tuple[int, bytes]]:
    """(upstream line, text) of every row of a claim."""
    path = found.folder / claim / file
    lines = path.read_bytes().splitlines()
    return list(zip(upstream_lines(path, 0, len(lines)), lines, strict=True))


TWO = [{"name": "a", "source": "a.json", "folder": "x"}, {"name": "text", "source": "t.json"}]


def test_records_go_where_source_and_folder_say(tmp_path: Path):
    lines = [
        {"source": "a.json", "image": "x/1.png"},
        {"source": "a.json", "image": "y/1.png"},
        {"source": "t.json"},
        {"source": "t.json", "image": "None"},
        {"source": "t.json", "image": "x/2.png"},
        {"source": "a.json", "image": ["", "./x/3.png"]},
        {"image": "x/4.png"},
    ]
    found = route(tmp_path, {"a.jsonl": jsonl(*lines)}, claims(*TWO))
    assert [line for line, _ in taken(found, "a")] == [0, 5]
    assert [line for line, _ in taken(found, "text")] == [2, 3]
    counts = found.manifest["counts"]
    assert counts == {"records": 7, "claimed": 4, "ambiguous": 0, "unclaimed": 3, "rejected": 0}
    assert found.manifest["unclaimed"] == [
        {"source": None, "folder": "x", "records": 1},
        {"source": "a.json", "folder": "y", "records": 1},
        {"source": "t.json", "folder": "x", "records": 1},
    ]
    assert found.image_folders("a") == ("x",) and found.image_folders("text") == ()


def test_lines_are_kept_as_published(tmp_path: Path):
    odd = '{"source" : "t.json",  "text": "\\u00e4 ä",\t"n": 1.0e3}'
    found = route(tmp_path, {"a.jsonl": ("\n\n" + odd).encode()}, claims(*TWO))
    assert taken(found, "text") == [(2, odd.encode())]


def test_malformed_lines_are_found_again(tmp_path: Path):
    content = b'{"source": "t.json"}\n{"source": "t.json"\n[1]\n\xff\xfe\n{"source": "t.json", "n": NaN}\n'
    found = route(tmp_path, {"a.jsonl": content}, claims(*TWO))
    assert [line for line, _ in taken(found, "text")] == [0, 4]
    [row] = rejected_rows(found.folder, pl.col("record_id") == "up:a.jsonl:1")
    assert (row["reason"], row["raw"], row["origin_position"]) == ("bad_json", b'{"source": "t.json"', 1)
    assert found.manifest["counts"]["rejected"] == 3


def test_a_line_without_end_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(routing, "MAX_LINE_BYTES", 1_000)
    monkeypatch.setattr(routing, "PIECE_BYTES", 500)
    content = jsonl({"source": "t.json"}) + b'{"x": "' + b"y" * 50_000 + b'"}\n' + jsonl({"source": "t.json"})
    found = route(tmp_path, {"a.jsonl": content}, claims(*TWO))
    assert [line for line, _ in taken(found, "text")] == [0, 2]
    [row] = rejected_rows(found.folder, pl.lit(value=True))
    assert row["detail"] == "more than 1000 bytes in a line"


@given(st.lists(st.sampled_from(["a", "b", "t", "bad", "blank"]), max_size=60), st.integers(20, 400))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, kinds: list[str], size: int
):
    monkeypatch.setattr(routing, "PIECE_BYTES", size)
    texts = {"bad": "{", "blank": ""}
    lines = [
        texts[kind]
        if kind in texts
        else json.dumps({"id": n, "source": f"{kind}.json", "image": "x/1" if kind == "a" else None})
        for n, kind in enumerate(kinds)
    ]
    found = route(tmp_path_factory.mktemp("r"), {"a.jsonl": "\n".join(lines).encode(), "b.jsonl": b""}, claims(*TWO))
    for claim, kind in (("a", "a"), ("text", "t")):
        expected = [(n, lines[n].encode()) for n, each in enumerate(kinds) if each == kind]
        if expected:
            assert taken(found, claim) == expected
        else:
            assert found.files(claim) == ()
    counts = found.manifest["counts"]
    assert counts["records"] == sum(kind != "blank" for kind in kinds)
    assert counts["claimed"] + counts["unclaimed"] + counts["rejected"] == counts["records"]
    assert counts["unclaimed"] == kinds.count("b")


def test_another_claim_leaves_the_rows_of_others_alone(tmp_path: Path):
    files = {"a.jsonl": jsonl(*({"source": source} for source in ("t.json", "b.json", "t.json")))}
    before = route(tmp_path, files, claims(*TWO))
    expected = taken(before, "text")
    after = route(tmp_path, files, claims(*TWO, {"name": "b", "source": "b.json"}))
    assert before.folder != after.folder and not before.folder.exists()
    assert taken(after, "text") == expected and len(taken(after, "b")) == 1


def test_an_array_is_routed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curation.sources.json_spans.CHUNK_BYTES", 40)
    records = [{"id": n, "source": "t.json", "text": "a\nb"} for n in range(6)]
    pretty = json.dumps(records, indent=2).replace('"id": 3', '"id" 3').encode()
    found = route(tmp_path, {"a.jsonl": b"", "b.json": pretty[:-20]}, claims(*TWO))
    assert [(line, json.loads(text)["id"]) for line, text in taken(found, "text", "b.json")] == [(n, n) for n in (0, 1, 2, 4)]
    rejected = rejected_rows(found.folder, pl.lit(value=True))
    assert sorted((row["record_id"], row["reason"]) for row in rejected) == [
        ("up:b.json:3", "bad_json"),
        ("up:b.json:5", "bad_json"),
    ]
    assert found.manifest["counts"] == {"records": 6, "claimed": 4, "ambiguous": 0, "unclaimed": 0, "rejected": 2}


# --- Rules --------------------------------------------------------------------------------------------------------------


def talk(question: str, answer: str, **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}] * more.pop("times", 1)
    return {"source": "mix.json", "image": "coco/1.jpg", "conversations": turns} | more


MIXED = [
    {"name": "vqa", "source": "mix.json", "folder": "coco", "where": {"rest": True}},
    {"name": "refcoco", "source": "mix.json", "folder": "coco", "where": {"question": "bounding box"}},
    {"name": "aokvqa", "source": "mix.json", "folder": "coco", "where": {"answer": "^[A-D]$"}},
    {"name": "long", "source": "mix.json", "folder": "coco", "where": {"questions": 3}},
]


@pytest.mark.parametrize(
    ("record", "name", "is_ambiguous"),
    [
        (talk("Give the bounding box of it", "[0, 1]"), "refcoco", False),
        (talk("Which? bounding box", "A"), "refcoco", False),
        (talk("Which?", "A"), "aokvqa", False),
        (talk("Which?", "A dog"), "vqa", True),
        (talk("Which?", "A dog", times=3), "long", False),
        (talk("Which?", "A", image="vg/1.jpg"), None, False),
        (talk("Which?", "A", conversations="none"), "vqa", True),
    ],
)
def test_rules_tell_sources_that_share_file_and_folder(record: dict, name: str | None, is_ambiguous: bool):
    asked = claims(*MIXED)
    verdict = Router(asked).decide(record)
    assert (verdict.claim if name is None else asked[verdict.claim].name, verdict.is_ambiguous) == (name, is_ambiguous)


def test_what_no_rule_can_tell_is_counted(tmp_path: Path):
    files = {"a.jsonl": jsonl(talk("Which?", "A dog"), talk("Which?", "A"), talk("Why?", "So."))}
    manifest = route(tmp_path, files, claims(*MIXED)).manifest
    assert manifest["counts"]["ambiguous"] == 2 and manifest["claimed"]["vqa"]["ambiguous"] == 2
    assert manifest["ambiguous"] == [{"claim": "vqa", "source": "mix.json", "folder": "coco", "records": 2}]


def test_two_plain_claims_of_the_same_rows_are_ambiguous():
    asked = claims({"name": "a", "source": "m", "folder": "*"}, {"name": "b", "source": "*", "folder": "coco"})
    verdict = Router(asked).decide({"source": "m", "image": "coco/1.jpg"})
    assert (verdict.claim, verdict.is_ambiguous) == (0, True)


def test_folders_of_two_components():
    asked = claims({"name": "iconqa", "folder": "hfdata/iconqa"}, {"name": "other", "folder": "hfdata"})
    router = Router(asked)
    names = [
        asked[router.decide({"image": image}).claim].name for image in ("hfdata/iconqa/1.png", "hfdata/x/1.png", "hfdata/1.png")
    ]
    assert names == ["iconqa", "other", "other"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x/1.png", "x/1.png"),
        (" ./x/1.png", "x/1.png"),
        ("", None),
        ("None", None),
        ("nan", None),
        (None, None),
        (3, None),
        ([], None),
    ],
)
def test_the_first_picture_of_a_record(value: Any, expected: str | None):
    assert first_image({"image": value}) == expected
