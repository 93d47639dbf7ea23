import json
import re
from pathlib import Path

import polars as pl
import pytest

from tests.end_to_end.conftest import MIXTURE, REPOSITORY, Built, Curate

pytestmark = pytest.mark.slow


def test_stages_become_releases_with_an_ordered_list(curate: Curate, built: Built, tmp_path: Path) -> None:
    path = tmp_path / "lessons.yaml"
    include = "include: {categories: [math, language]}"
    path.write_text(f"name: lessons\n{include}\nstages:\n- {{name: easy, cap: 5}}\n- {{name: hard, cap: 9, seed: 2}}\n")
    done = curate("build", str(path), root=built.root)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip().splitlines()[-1])
    stages = json.loads((folder / "manifest.json").read_bytes())["stages"]
    assert [(stage["stage"], stage["mixture"]) for stage in stages] == [("easy", "lessons-easy"), ("hard", "lessons-hard")]
    for stage in stages:
        release = built.root / stage["release"]
        assert json.loads((release / "manifest.json").read_bytes())["num_samples"] == stage["num_samples"]
        assert curate("verify", stage["mixture"], root=built.root).returncode == 0
    again = curate("build", str(path), root=built.root)
    assert again.stdout == done.stdout
    alone = curate("build", f"{path}#hard", root=built.root)
    assert Path(alone.stdout.strip().splitlines()[-1]) == built.root / stages[1]["release"]
    document = json.loads(curate("plan", str(path), "--json", root=built.root).stdout)
    assert document["total"] == sum(stage["num_samples"] for stage in stages)
    assert [part["mixture"] for part in document["stages"].values()] == ["lessons-easy", "lessons-hard"]
    changed = json.loads(curate("diff", f"{path}#easy", f"{path}#hard", "--json", root=built.root).stdout)
    assert changed["exact"]
    refused = curate("diff", str(path), f"{path}#hard", root=built.root)
    assert (refused.returncode, "name one behind '#'" in refused.stderr) == (2, True)


def test_a_guard_stops_a_build_until_the_source_is_accepted(curate: Curate, built: Built, tmp_path: Path) -> None:
    path = tmp_path / "strict.yaml"
    path.write_text("name: strict\nguard: {max_drop_share: 0}\n")
    stopped = curate("build", str(path), root=built.root)
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert "Traceback" not in stopped.stderr
    table = [line.split() for line in stopped.stderr.splitlines() if re.match(r"  [a-z-]+ +\d", line)]
    assert table and all(re.fullmatch(r"\d+\.\d%", row[3]) for row in table)
    assert not (built.root / "releases" / "strict").exists()
    accepted = [word for row in table for word in ("--accept", row[0])]
    done = curate("build", str(path), *accepted, root=built.root)
    assert done.returncode == 0, done.stderr
    assert curate("build", str(path), "--accept", "chart-quizz", root=built.root).returncode == 2


def test_a_licence_can_be_required(curate: Curate, built: Built, tmp_path: Path) -> None:
    done = curate("build", MIXTURE, "--require-license", root=built.root)
    assert done.returncode == 0, done.stderr
    paper = ("--catalog", str(REPOSITORY / "catalog.yaml"), "build", str(REPOSITORY / "mixtures/cambrian-7m.yaml"))
    refused = curate(*paper, "--require-license", root=tmp_path / "root")
    assert refused.returncode == 1
    assert "the licence of 65 of its sources is unknown" in refused.stderr


def test_why_finds_what_a_condition_left_out(curate: Curate, built: Built, tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text("name: short\nwhere: {num_tokens: {max: 30}, num_images: [0, 1]}\n")
    release = Path(curate("build", str(path), root=built.root).stdout.strip().splitlines()[-1])
    filtered = pl.read_parquet(release / "verdicts.parquet").filter(reason="filtered")
    assert len(filtered)
    for row in filtered.unique("detail", maintain_order=True).head(2).to_dicts():
        shown = curate("why", row["sample_id"], "--release", "short", root=built.root).stdout
        assert "(filtered" in shown
        assert row["detail"] in shown


def test_a_plan_fits_a_terminal_of_80_columns(curate: Curate, built: Built, tmp_path: Path) -> None:
    for arguments in (("plan", MIXTURE), ("stats",), ("diff", MIXTURE, MIXTURE)):
        done = curate(*arguments, root=built.root, COLUMNS="80")
        assert done.returncode == 0, done.stderr
        assert max(map(len, done.stdout.splitlines())) <= 80
    paper = ("--catalog", str(REPOSITORY / "catalog.yaml"), "plan", str(REPOSITORY / "mixtures/cambrian-t450k.yaml"))
    shown = curate(*paper, "--counts", "published", root=tmp_path / "nothing", COLUMNS="80").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "printed (Table 3): 6,383,000; here 6,483,500, +100,500" in shown
    assert "cap_unit: annotation_file" in shown, "what it extends is shown resolved"


def test_a_plan_is_drawn_as_a_page(curate: Curate, built: Built, tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    done = curate("plan", MIXTURE, "--html", str(page), "--json", root=built.root)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["total"] == 720
    assert "chart-2" in page.read_text()


def test_statistics_count_every_sample(curate: Curate, built: Built) -> None:
    found = json.loads(curate("stats", "--json", root=built.root).stdout)
    rows = json.loads(curate("sources", "--json", root=built.root).stdout)["sources"]
    assert {name: entry["samples"] for name, entry in found["sources"].items()} == {
        row["source"]: row["samples"] for row in rows
    }
    one = json.loads(curate("stats", "chart-quiz", "--json", root=built.root).stdout)
    assert one["sources"] == {"chart-quiz": found["sources"]["chart-quiz"]}


def test_a_size_out_of_reach_points_at_its_line(curate: Curate, built: Built, tmp_path: Path) -> None:
    path = tmp_path / "greedy.yaml"
    path.write_text("name: greedy\n# much\nsize: 500000\n")
    for verb in ("plan", "build"):
        done = curate(verb, str(path), root=built.root)
        assert done.returncode == 1
        assert f"{path}:3: size: mixture 'greedy': size 500,000 is more than its sources give" in done.stderr
