import json
import signal
import subprocess
from pathlib import Path
from urllib.request import urlopen

import polars as pl
import pytest
import typer.main
from prometheus_client.parser import text_string_to_metric_families

from flows.__main__ import app
from flows.commands.help import GroupedHelp
from tests.end_to_end.conftest import MIXTURE, REPOSITORY, Built, Curate

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("build", "nowhere.yaml"), 2, "nowhere.yaml"),
        (("plan", "nowhere.yaml"), 2, "nowhere.yaml"),
        (("ingest", "chart-quizz"), 2, "did you mean 'chart-quiz'"),
        (("why", "nothing"), 1, "ingested sources"),
        (("verify", "nothing"), 1, "mixtures with releases: demo"),
        (("bogus",), 2, "bogus"),
        (("--catalog", "nowhere.yaml", "sources"), 2, "nowhere.yaml"),
    ],
)
def test_errors_are_one_paragraph_with_the_documented_status(
    curate: Curate, built: Built, arguments: tuple[str, ...], status: int, told: str
) -> None:
    done = curate(*arguments, root=built.root)
    assert done.returncode == status
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_mixture_out_of_reach_says_what_would_do(curate: Curate, built: Built, tmp_path: Path) -> None:
    greedy = tmp_path / "greedy.yaml"
    greedy.write_text("name: greedy\nsize: 5000\nratios: {ocr: 0.5, general: 0.5}\n")
    done = curate("build", str(greedy), root=built.root)
    assert done.returncode == 1
    assert "lower `size` to at most" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (built.root / "releases" / "greedy").exists()


def test_plan_prints_the_documented_document(curate: Curate, built: Built) -> None:
    document = json.loads(curate("plan", MIXTURE, "--json", root=built.root).stdout)
    manifest = json.loads((built.release / "manifest.json").read_bytes())
    assert document["total"] == manifest["num_samples"]
    assert {name: entry["samples"] for name, entry in document["sources"].items()} == {
        name: entry["samples"] for name, entry in manifest["sources"].items()
    }
    assert set(document["categories"]["ocr"]) == {"available", "samples", "share"}
    assert set(document["sources"]["scenes"]) == {"category", "available", "samples", "repeat"}
    assert document["mixture"] == "demo"


def test_plans_need_no_data_on_published_counts(curate: Curate, tmp_path: Path) -> None:
    done = curate("plan", MIXTURE, "--counts", "published", "--json", root=tmp_path / "nothing")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["total"] == 720


def test_every_reject_and_drop_can_be_looked_up(curate: Curate, built: Built) -> None:
    rejected = pl.read_parquet(list(built.root.glob("sources/*/*/rejected-*.parquet")))
    for row in rejected.unique("reason", maintain_order=True).to_dicts():
        found = json.loads(curate("why", row["record_id"], "--json", root=built.root).stdout)["found"]
        assert [life["rejected"]["reason"] for life in found] == [row["reason"]]
    dropped = pl.read_parquet(built.release / "verdicts.parquet").filter(verdict="drop")
    for row in dropped.unique("reason", maintain_order=True).to_dicts():
        done = curate("why", row["sample_id"], "--release", str(built.release), "--json", root=built.root)
        (life,) = json.loads(done.stdout)["found"]
        assert life["verdicts"][0]["reason"] == row["reason"]
        assert (life["twin"] is None) == (row["twin_id"] is None)
        assert life["places"] == []


def test_diff_tells_what_enters_and_leaves(curate: Curate, built: Built, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(Path(MIXTURE).read_text().replace("size: 720", "size: 600"))
    document = json.loads(curate("diff", MIXTURE, str(other), "--json", root=built.root).stdout)
    assert document["total"] == {"before": 720, "after": 600}
    changes = document["sources"].values()
    assert sum(change["leaving"] - change["entering"] for change in changes) == 120


def test_sources_and_report_show_what_is_there(curate: Curate, built: Built) -> None:
    rows = json.loads(curate("sources", "--json", root=built.root).stdout)["sources"]
    assert {row["state"] for row in rows} == {"ingested"}
    printed = curate("report", "demo", root=built.root).stdout.split()
    assert [Path(path).name for path in printed] == ["README.md", "croissant.json", "report.html"]
    assert all(Path(path).is_file() for path in printed)


def test_every_command_is_in_the_readme(curate: Curate) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    for command in ("sources", "plan", "diff", "build", "verify", "why", "report", "serve"):
        assert f" {command} " in readme
        assert curate(command, "--help").returncode == 0


def test_runs_are_listed_and_counted(curate: Curate, built: Built) -> None:
    manifest = json.loads((built.release / "manifest.json").read_bytes())
    run = json.loads(curate("runs", "--json", root=built.root).stdout)["runs"][0]
    assert (run["command"], run["outcome"]) == ("build", "done")
    of_sources = sum(counts["records"] for counts in manifest["conservation"].values())
    assert run["counters"]["records"] == of_sources + 24, "those of the two benchmarks as well"
    assert run["counters"]["released"] == manifest["num_samples"]
    assert {step["step"] for step in run["steps"]} >= {"ingest", "measure", "clean", "deduplicate", "survivors", "shard"}
    assert f"{built.release.relative_to(built.root)}" in {step["artefact"] for step in run["steps"]}
    shown = curate("runs", run["run"], root=built.root, COLUMNS="80").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "deduplicate" in shown
    families = text_string_to_metric_families(curate("metrics", root=built.root).stdout)
    totals = {family.name: sum(sample.value for sample in family.samples) for family in families}
    assert totals["curation_records"] >= run["counters"]["records"]
    assert totals["curation_release_samples"] == manifest["num_samples"]


def test_help_fits_80_columns_and_lists_every_command_in_a_group(curate: Curate) -> None:
    shown = curate("--help", COLUMNS="80").stdout
    assert max(map(len, shown.splitlines())) <= 80
    for heading in ("Sources:", "Mixtures:", "Releases:", "Runs:"):
        assert f"\n{heading}" in shown
    assert "curate build MIXTURE.yaml" in shown
    commands = (
        "sources",
        "try",
        "ingest",
        "stats",
        "plan",
        "diff",
        "build",
        "dups",
        "verify",
        "why",
        "stream",
        "which",
        "report",
    )
    for command in (*commands, "explore", "leakage", "serve", "runs", "metrics"):
        assert f"\n  {command} " in shown, command


def test_a_shell_can_complete_commands(curate: Curate) -> None:
    done = curate(_CURATE_COMPLETE="complete_bash", COMP_WORDS="curate pl", COMP_CWORD="1")
    assert done.stdout.split() == ["plan"]


@pytest.mark.parametrize(("flag", "is_told"), [("-v", True), ("-q", False)])
def test_steps_are_logged_to_stderr_when_asked(curate: Curate, built: Built, flag: str, is_told: bool) -> None:
    done = curate(flag, "build", MIXTURE, root=built.root)
    assert ("curation.runs: step_ended ingest scenes done" in done.stderr) == is_told
    assert done.stdout.strip().splitlines()[-1] == str(built.release)
    assert is_told or done.stderr == ""


@pytest.mark.parametrize("arguments", [("sources",), ("plan", MIXTURE), ("stats",)], ids=lambda arguments: arguments[0])
def test_tables_fit_80_columns_and_have_no_colours_in_a_pipe(curate: Curate, built: Built, arguments: tuple[str, ...]) -> None:
    done = curate(*arguments, root=built.root, COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\nshape-counts " in done.stdout, "names are not folded"


def test_the_files_of_a_report_are_named_as_json(curate: Curate, built: Built) -> None:
    found = json.loads(curate("report", "demo", "--json", root=built.root).stdout)
    assert found == {
        "card": f"{built.release}/README.md",
        "croissant": f"{built.release}/croissant.json",
        "page": f"{built.release}/report.html",
    }


def test_every_command_but_the_server_of_schedules_takes_json() -> None:
    commands = typer.main.get_command(app)
    assert isinstance(commands, GroupedHelp)
    without = {name for name, command in commands.commands.items() if "--json" not in str([one.opts for one in command.params])}
    assert without == {"serve"}


def test_a_build_and_an_ingest_say_what_they_made_as_json(curate: Curate, built: Built) -> None:
    done = json.loads(curate("build", MIXTURE, "--json", root=built.root).stdout)
    assert done["path"] == str(built.release)
    assert [(one["path"], one["name"], one["num_samples"]) for one in done["releases"]] == [(str(built.release), "demo", 720)]
    found = json.loads(curate("ingest", "scenes", "--json", root=built.root).stdout)["sources"]
    assert Path(found["scenes"]["folder"], "manifest.json").is_file()
    counts = found["scenes"]["counts"]
    assert counts["records"] == counts["samples"] + sum(counts["rejected"].values())


def test_metrics_are_the_same_as_json(curate: Curate, built: Built) -> None:
    document = json.loads(curate("metrics", "--json", root=built.root).stdout)["metrics"]
    families = text_string_to_metric_families(curate("metrics", root=built.root).stdout)
    told = {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}
    values = {(name, *one["labels"].values()): one["value"] for name, family in document.items() for one in family["values"]}
    assert told == pytest.approx(values), "the text has 15 digits"
    assert told["curation_release_samples", "demo"] == 720


def test_explore_tells_its_address_once_it_answers(curate: Curate, built: Built) -> None:
    command = curate.command(("explore", "--port", "0", "--json"), built.root)
    with subprocess.Popen(command, env=curate.environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = json.loads(process.stdout.readline())
            with urlopen(line["url"]) as page:
                assert b"demo" in page.read()
        finally:
            process.send_signal(signal.SIGINT)
    assert (line["mixture"], line["release"]) == ("demo", str(built.release))
