"""`curate sources`, `curate try` and their options in this process: none of them needs a flow."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from curation.catalog.spec import Catalog
from curation.errors import CatalogError, StoreError
from curation.upstream.checks import LocationCheck
from flows.__main__ import app
from tests.support.fake_hub import COMMIT, fake_hub
from tests.support.upstream import SHAPES_REJECTED, SHAPES_SAMPLES, content, write_world

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write_world(tmp_path / "up")
    return tmp_path / "up" / "catalog.yaml"


def curate(*arguments: str, catalog: Path = REPOSITORY / "catalog.yaml", root: Path | str = "/nonexistent/lake") -> Result:
    everything = ["--catalog", str(catalog), "--root", str(root), *arguments]
    done = CliRunner().invoke(app, everything, env={"COLUMNS": "80", "NO_COLOR": "1"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_a_fresh_clone_shows_its_catalog() -> None:
    done = curate("sources", "--json")
    rows = json.loads(done.stdout)["sources"]
    assert len(rows) > 65
    assert {row["state"] for row in rows} == {"not ingested"}
    shown = curate("sources")
    assert shown.exit_code == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_a_root_that_is_no_folder_is_still_refused(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("")
    with pytest.raises(StoreError, match="is no folder"):
        curate("sources", root=tmp_path / "lake")


def test_only_the_named_sources_are_shown(world: Path) -> None:
    rows = json.loads(curate("sources", "sums", "chats", "--json", catalog=world).stdout)["sources"]
    assert [row["source"] for row in rows] == ["sums", "chats"]
    with pytest.raises(CatalogError, match="did you mean 'sums'"):
        curate("sources", "sum", catalog=world)


def test_check_tells_what_is_there(world: Path, capfd: pytest.CaptureFixture[str]) -> None:
    done = curate("sources", "--check", "--json", catalog=world)
    states = {document["source"]: (document["state"], document["records"]) for document in json.loads(done.stdout)["sources"]}
    assert states["sums"] == ("reachable", 31)
    assert done.exit_code == 0
    (world.parent / "sums" / "train.tsv").unlink()
    done = curate("sources", "--check", "sums", "chats", catalog=world)
    assert done.exit_code == 1
    assert "missing" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "sums: no file matches '*.tsv'" in done.stderr


def test_the_whole_catalog_is_checked_though_no_host_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_answer(_catalog: Catalog, location: object) -> LocationCheck:
        return LocationCheck("", str(location), problem="the host did not answer")

    monkeypatch.setattr("curation.inspection.checking.check_location", no_answer)
    done = curate("sources", "--check", "--json")
    documents = json.loads(done.stdout)["sources"]
    assert {document["state"] for document in documents} == {"unreachable"}
    assert len(documents) >= 65
    assert done.exit_code == 1


def test_try_shows_samples_and_rejects_and_writes_nothing(world: Path, tmp_path: Path) -> None:
    before = content(tmp_path)
    done = curate("try", "shapes", "--head", "100", catalog=world, root=tmp_path / "lake")
    assert done.exit_code == 0
    assert "shapes/" not in done.stdout
    assert "picture   pictures/0.png  5 x 4  " in done.stdout
    for reason in SHAPES_REJECTED:
        assert f"reason    {reason}" in done.stdout
    assert f"shapes: {SHAPES_SAMPLES} of all " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert content(tmp_path) == before


def test_try_prints_one_document(world: Path) -> None:
    document = json.loads(curate("try", "shapes", "--head", "9", "--json", catalog=world).stdout)
    assert document["counts"] == {"samples": 8, "rejected": {"bad_json": 1}}
    [part] = document["parts"]
    assert (len(part["records"]), part["is_all"], part["num_files"]) == (9, False, 1)
    first = part["records"][0]
    assert [turn["from"] for turn in first["conversations"]] == ["human", "gpt"]
    assert first["images"][0]["width"] == 5


def test_guess_prints_a_catalog_to_paste(world: Path, tmp_path: Path) -> None:
    text = curate("try", "--guess", str(world.parent / "shapes"), catalog=world).stdout
    assert "location: {root: shapes, files: train.json}" in text  # relative to the catalog, which lies above
    (world.parent / "guessed.yaml").write_text(text)
    document = json.loads(curate("try", "shapes", "--json", catalog=world.parent / "guessed.yaml").stdout)
    assert document["counts"]["samples"] > 0
    elsewhere = json.loads(curate("try", "--guess", str(world.parent / "shapes"), "--json").stdout)
    assert elsewhere["row"]["images"] == {"path": "image", "folder": "pictures"}
    assert f"root: {world.parent / 'shapes'}" in elsewhere["yaml"]


def test_signs_that_steer_terminals_are_not_printed(world: Path) -> None:
    (world.parent / "sums" / "train.tsv").write_bytes(b"Why \x1b[2J\x9b?\tBecause \x07\n")
    shown = curate("try", "sums", catalog=world).stdout
    assert shown.replace("\n", "").isprintable()


@pytest.mark.parametrize("arguments", [("try",), ("try", "sums", "--guess", "."), ("try", "sums", "--head", "0")])
def test_wrong_usage_is_refused(world: Path, arguments: tuple[str, ...]) -> None:
    assert curate(*arguments, catalog=world).exit_code == 2


def test_looking_starts_no_server(world: Path) -> None:
    import subprocess

    script = (
        "import sys; sys.argv = ['curate', '--catalog', sys.argv[1], 'try', 'sums']; from flows.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\nassert 'prefect' not in sys.modules and 'ray' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(world)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_commits_are_written_beside_the_catalog_and_read_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = tmp_path / "catalog.yaml"
    part = {"layout": "qa", "fields": {"question": "q", "answer": "a"}}
    original = {"original": {"location": {"hub": "owner/b", "revision": "v2"}, **part}}
    row = {"category": "ocr", "location": {"hub": "owner/a"}, **part, **original}
    catalog.write_text(json.dumps({"sources": {"one": row}}))
    with fake_hub(monkeypatch, {"owner/a": {}}):
        done = curate("sources", "--pin", catalog=catalog)
        assert done.exit_code == 1, "one dataset is not there"
        assert "no such dataset" in done.stderr and "owner/b" in done.stderr
        assert max(map(len, done.stdout.splitlines())) <= 80
        pins = json.loads(curate("sources", "--pin", "--json", catalog=catalog).stdout)
    assert [(pin["dataset"], pin["branch"], pin["commit"]) for pin in pins["pins"]] == [
        ("owner/a", "main", COMMIT),
        ("owner/b", "v2", None),
    ]
    assert Path(pins["lock"]).read_text().splitlines()[1:] == [f"owner/a: {{main: {COMMIT}}}"]
    [shown] = json.loads(curate("sources", "--json", catalog=catalog).stdout)["sources"]
    assert shown["location"] == [f"hub:owner/a:train@{COMMIT}"] and not shown["reads_original"]
    [chosen] = json.loads(curate("--originals", "one", "sources", "--json", catalog=catalog).stdout)["sources"]
    assert chosen["location"] == ["hub:owner/b:train@v2"] and chosen["reads_original"]


def test_the_catalog_of_the_package_is_not_written_beside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CatalogError, match="copy it here first"):
        curate("sources", "--pin", catalog=Path("catalog.yaml"))


@pytest.mark.parametrize("options", [["--pin", "--check"], ["--refresh"]])
def test_options_that_do_not_go_together_are_refused(options: list[str], world: Path) -> None:
    assert curate("sources", *options, catalog=world).exit_code == 2
