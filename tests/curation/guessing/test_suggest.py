"""What is guessed of data in the formats that publishers use, and of what is no data at all."""

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import SourceError
from curation.guessing.suggest import guess
from tests.support.upstream import picture, write_files

TURNS = [{"from": "human", "value": "<image>\nWhy?"}, {"from": "gpt", "value": "Because."}]


def lines(records: list[Any]) -> str:
    return "\n".join(map(json.dumps, records))


def pictures(pattern: str, numbers: range = range(6)) -> dict[str, bytes]:
    return {pattern.format(number): picture(number) for number in numbers}


def suggested(folder: Path, files: dict[str, bytes | str], name: str = "") -> dict[str, Any]:
    """The suggested row without category and licence; everything in the files must map by it."""
    write_files(folder / "data", files)
    found = guess(folder / "data" / name if name else folder / "data")
    assert found.trial.rejects == []
    catalog = found.catalog(folder / "data")
    assert len(catalog.source(found.name).parts) == len(found.row.get("parts", [1]))
    return {key: value for key, value in found.row.items() if key not in ("category", "license")}


QA = [{"question": f"How many, {n}?", "answer": n} for n in range(6)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps(QA)),
        ("a.json", lines(QA)),
        ("a.jsonl", json.dumps(QA)),
        ("a.jsonl", "\ufeff" + lines(QA)),
        ("a.csv", "question,answer\n" + "".join(f"Why {n}?,{n}\n" for n in range(6))),
        ("a.csv", 'question,answer\n"Why, then?",1\n"A ""b""?",2\n'),
        ("a.tsv", "question\tanswer\r\nWhy?\t1\r\nWhen?\t2\r\n"),
        ("a.txt", "question;answer\nWhy?;1\nWhen?;2\n"),
    ],
)
def test_questions_and_answers_are_found_in_every_text_format(tmp_path: Path, name: str, text: str):
    row = suggested(tmp_path, {name: text}, name)
    assert (row["layout"], row["location"]) == ("qa", {"files": name})
    assert row["fields"] == {"question": "question", "answer": "answer"}


def test_records_keyed_by_id_name_their_pictures(tmp_path: Path):
    records = {f"k{n}": {"Question": "Why?", "Final answer": "x"} for n in range(6)}
    row = suggested(tmp_path, {"all.json": json.dumps(records), **pictures("tables/k{}.png")})
    assert row["fields"] == {"id": "_key", "question": "Question", "answer": '"Final answer"'}
    assert row["images"] == {"path": "tables/{_key}.png"}


@pytest.mark.parametrize(
    ("turns", "fields", "roles"),
    [
        (TURNS, {}, None),
        ([{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "B."}], {}, None),
        ([{"from": "asker", "value": "Why?"}, {"from": "oracle", "value": "B."}], {}, {"asker": "human", "oracle": "gpt"}),
        ([{"user": "Why?", "assistant": "B."}], {"question": "user", "answer": "assistant"}, None),
        (
            [{"who": "Q", "text": "Why not?"}, {"who": "A", "text": "B."}],
            {"role": "who", "content": "text"},
            {"A": "gpt", "Q": "human"},
        ),
    ],
)
def test_conversations_in_any_keys(tmp_path: Path, turns: list, fields: dict, roles: dict | None):
    records = [{"image": f"{n}.png", "chat": turns} for n in range(6)]
    row = suggested(tmp_path, {"a.json": json.dumps(records), **pictures("pics/{}.png")})
    assert (row["layout"], row["fields"], row.get("roles")) == ("conversations", {"turns": "chat", **fields}, roles)
    has_markers = turns is TURNS
    assert row["images"] == {"path": "image", "folder": "pics", **({} if has_markers else {"add_markers": True})}


@pytest.mark.parametrize(
    ("record", "more"),
    [
        ({"options": ["red", "blue"], "answer": "blue"}, {}),
        ({"options": ["red", "blue"], "answer": "B"}, {"answer_as": "letter"}),
        ({"choices": ["red", "blue"], "correct": 1}, {"answer_as": "index"}),
        ({"options": {"A": "red", "B": "blue"}, "answer": "A"}, {"answer_as": "letter"}),
        ({"choice_a": "red", "choice_b": "blue", "answer": "b"}, {"answer_as": "letter"}),
    ],
)
def test_multiple_choice_in_every_way_to_name_the_right_one(tmp_path: Path, record: dict, more: dict):
    row = suggested(tmp_path, {"a.jsonl": lines([{"question": f"Which, {n}?", **record} for n in range(6)])})
    assert row["layout"] == "multiple_choice"
    assert {key: row[key] for key in ("answer_as",) if key in row} == more


def test_statements_are_asked_for_their_truth(tmp_path: Path):
    row = suggested(tmp_path, {"a.jsonl": lines([{"caption": f"It is {n}.", "label": n % 2} for n in range(6)])})
    assert row["fields"]["question"] == "Is this true? {caption}"
    assert row["values"] == {"answer": {"0": "No", "1": "Yes"}}


def test_several_pictures_a_record_named_after_it(tmp_path: Path):
    records = [{"identifier": f"{n}-{n + 1}", "part": str(n % 2), "question": "Why?", "answer": "x"} for n in range(6)]
    files = {f"im/{r['part']}/x-{r['identifier']}-{i}.png": picture(i) for r in records for i in range(3)}
    assert suggested(tmp_path, {"a.json": lines(records), **files})["images"] == {
        "path": "im/{part}/x-{identifier}-{i}.png",
        "count": 3,
    }


def test_one_folder_a_record(tmp_path: Path):
    files = {f"{n}/data.json": json.dumps({"problem": f"Why {n}?", "answer": "x"}) for n in range(6)}
    row = suggested(tmp_path, {**files, **pictures("{}/figure.png")})
    assert (row["reader"], row["location"]) == ({"records": "one"}, {"files": "*/data.json"})
    assert row["images"] == {"path": "{_dir}/figure.png"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_pictures_in_an_archive(tmp_path: Path, kind: str):
    buffer = io.BytesIO()
    members = pictures("all/{}.png")
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    records = [{"question": "Why?", "answer": "x", "image": f"{n}.png"} for n in range(6)]
    row = suggested(tmp_path, {"a.json": json.dumps(records), f"pics.{kind}": buffer.getvalue()})
    assert row["images"] == {"path": "all/{image}", kind: f"pics.{kind}"}


@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: [data], lambda data: {"bytes": data, "path": "x.png"}])
def test_pictures_in_parquet(tmp_path: Path, wrap: Any):
    table = pa.Table.from_pylist([{"question": "Why?", "answer": "x", "img": wrap(picture(n))} for n in range(6)])
    write_files(tmp_path / "data", {"x": ""})
    pq.write_table(table, tmp_path / "data" / "a.parquet")
    row = suggested(tmp_path, {})
    assert (row["reader"], row["images"]) == ({"format": "parquet"}, {"bytes": "img"})


def test_files_of_two_shapes_are_two_parts(tmp_path: Path):
    files = {"a-1.jsonl": lines(QA), "a-2.jsonl": lines(QA)}
    row = suggested(tmp_path, {**files, "b.jsonl": lines([{"instruction": "Do it.", "output": "Done."}] * 4)})
    assert [(part["layout"], part["location"]["files"]) for part in row["parts"]] == [
        ("qa", "a-*.jsonl"),
        ("instruction", "b.jsonl"),
    ]


def test_a_few_bad_records_do_not_mislead(tmp_path: Path):
    dirty = ['{"question": "cut', '{"question": null}', "[]", '{"question": "Why?", "answer": ["a", "list"]}']
    write_files(tmp_path, {"a.jsonl": "\n".join([lines(QA * 5), *dirty])})
    found = guess(tmp_path / "a.jsonl")
    assert found.row["fields"] == {"question": "question", "answer": "answer"}
    assert len(found.trial.samples) == 30
    assert any("rejected as" in note for note in found.notes)


# --- What is no data ----------------------------------------------------------------------------------------------------

NASTY: dict[str, bytes] = {
    "empty.json": b"",
    "blank.jsonl": b" \n\n ",
    "binary.bin": bytes(range(256)) * 64,
    "binary.json": b"\x00\x01\x02{",
    "latin.csv": b"Frage;Antwort\n" + b"\xe4\xf6;\xfc\n" * 3,
    "huge.jsonl": b'{"question": "' + b"x" * (5 << 20),
    "deep.json": b"[" * 100_000,
    "cut.parquet": b"PAR1" * 8,
    "cut.tar": b"x" * 257 + b"ustar\x0000" + b"\0" * 300,
    "picture.png": b"\x89PNG\r\n\x1a\n",
    "number.json": b"7",
    "mixed.json": b'[1, "two", [3], {"four": 4}, null]',
    "one-line.csv": b"question,answer\n",
    "prose.txt": b"This is no table.\nIt is only text, which goes on.\n",
    "packed.json": b"\x1f\x8b\x08\x00" + bytes(20),
    "braces.json": b'[{"{a}": 1, "\\"q\\"": 2, "": 3}]',
    "steering.json": b'[{"question\\u001b[2J": "x"}]',
}


@pytest.mark.parametrize("name", NASTY)
def test_what_is_no_data_is_refused_in_a_sentence(tmp_path: Path, name: str):
    write_files(tmp_path, {name: NASTY[name]})
    with pytest.raises(SourceError) as caught:
        guess(tmp_path / name)
    assert name in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_folder_of_all_of_it_is_refused(tmp_path: Path):
    write_files(tmp_path, NASTY)
    with pytest.raises(SourceError, match=r"no records found|no layout fits"):
        guess(tmp_path)


def test_good_files_are_found_among_bad_ones(tmp_path: Path):
    write_files(tmp_path, {**NASTY, "good/a.jsonl": lines(QA)})
    found = guess(tmp_path)
    assert found.row["location"] == {"files": "good/a.jsonl"}
    assert any("left out" in note for note in found.notes)


def test_a_place_that_is_not_there_or_empty(tmp_path: Path):
    with pytest.raises(SourceError, match="is not there"):
        guess(tmp_path / "nothing")
    with pytest.raises(SourceError, match="it is empty"):
        guess(tmp_path)


def test_what_data_says_cannot_break_the_suggestion(tmp_path: Path):
    records = [*QA * 4, *({"question": "\x1b[2J\u2028x: {y", "answer": ["\n# \x1b"], "\x1b": 1} for _ in range(4))]
    write_files(tmp_path, {"it's [a] file.json": json.dumps(records), "odd\nname.json": json.dumps(QA)})
    found = guess(tmp_path)
    text = found.as_yaml("data")
    assert all(line.isprintable() for line in text.splitlines())
    assert len(found.trial.rejects) == 4
    assert found.catalog(tmp_path).source(found.name).parts[0].location.patterns == ("it's [[]a] file.json",)


def test_links_are_not_followed(tmp_path: Path):
    write_files(tmp_path / "secret", {"a.jsonl": lines(QA)})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "folder").symlink_to(tmp_path / "secret")
    (tmp_path / "data" / "a.jsonl").symlink_to(tmp_path / "secret" / "a.jsonl")
    with pytest.raises(SourceError, match="it is empty"):
        guess(tmp_path / "data")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["question", "answer", "options", "image", "conversations", "id", "caption", "label", "a", "html"])


@settings(max_examples=60)
@given(records=st.lists(st.dictionaries(NAMES | st.text(max_size=6), VALUES, max_size=5), max_size=8), as_lines=st.booleans())
def test_any_records_are_described_or_refused(tmp_path_factory: pytest.TempPathFactory, records: list, as_lines: bool):
    """Law: whatever the records, there is a row that the catalog takes, or a SourceError."""
    folder = tmp_path_factory.mktemp("any")
    write_files(folder, {"a.json": lines(records) if as_lines else json.dumps(records)})
    try:
        found = guess(folder)
    except SourceError:
        return
    assert found.catalog(folder).source(found.name).parts
    assert found.trial.samples or found.trial.rejects
