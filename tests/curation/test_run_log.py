import json
import threading
from pathlib import Path
from typing import Any

import pytest

from curation.errors import SourceError
from curation.run_log import RUNS, RunLog, counters_of, run_log, runs
from curation.steps.step import Artefact
from curation.storage.mirror import Mirror
from curation.storage.store import Store
from tests.support.s3 import SECRET, s3_server

INGESTED = {
    "counts": {"records": 10, "samples": 8, "images": 6, "tokens": 99, "rejected": {"bad_json": 2}},
    "inputs": {"num_bytes": 4_000},
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path))


def artefact(store: Store, created: str = "9999-01-01T00:00:00+00:00") -> Artefact:
    return Artefact(store.source("one", "f"), {**INGESTED, "created": created})


def events(store: Store) -> list[dict[str, Any]]:
    [path] = (store.root / RUNS).glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_tells_what_it_was_asked_its_steps_and_its_end(store: Store):
    with run_log(store, "build", {"mixture": "m.yaml", "accepted": []}) as log:
        log.step("ingest", "one", lambda: artefact(store))
    first, started, ended, last = events(store)
    assert (first["event"], first["command"], first["arguments"]) == ("run_started", "build", {"mixture": "m.yaml"})
    assert (started["step"], started["of"]) == ("ingest", "one")
    assert ended["artefact"] == "sources/one/f"
    assert ended["counters"]["rejected"] == {"bad_json": 2}
    assert ended["counters"]["images_per_second"] > 0
    assert (last["event"], last["outcome"]) == ("run_ended", "done")
    assert last["counters"] == {
        "records": 10, "samples": 8, "images": 6, "tokens": 99, "bytes": 4_000, "rejected": {"bad_json": 2},
    }  # fmt: skip
    assert {event["run"] for event in (first, started, ended, last)} == {log.run}
    [run] = runs(store)
    assert (run.command, run.outcome, len(run.steps)) == ("build", "done", 1)


def test_what_was_there_already_counts_for_nothing(store: Store):
    with run_log(store, "build", {}) as log:
        log.step("ingest", "one", lambda: artefact(store, created="2020-01-01T00:00:00+00:00"))
    [run] = runs(store)
    assert run.steps[0]["is_reused"]
    assert run.counters == {}


@pytest.mark.parametrize(
    ("problem", "outcome"), [(SourceError("gone"), "failed"), (KeyboardInterrupt(), "stopped"), (SystemExit(1), "stopped")]
)
def test_how_a_run_ended_is_told_whatever_ended_it(store: Store, problem: BaseException, outcome: str):
    def fail() -> Artefact:
        raise problem

    with pytest.raises(type(problem)), run_log(store, "ingest", {}) as log:
        log.step("ingest", "one", fail)
    [run] = runs(store)
    assert run.outcome == run.steps[0]["outcome"] == outcome
    assert run.error == ("SourceError: gone" if outcome == "failed" else None)


def test_a_killed_run_is_unfinished_and_a_cut_line_is_passed_over(store: Store):
    log = RunLog(store, "build", {})
    log.step("ingest", "one", lambda: artefact(store))
    with log.path.open("ab") as handle:
        handle.write(b'{"event": "run_en')
    [run] = runs(store)
    assert run.outcome is None
    assert len(run.steps) == 1


def test_threads_write_whole_lines(store: Store):
    with run_log(store, "build", {}) as log:
        work = [threading.Thread(target=log.step, args=("clean", f"s{n}", lambda: artefact(store))) for n in range(16)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    assert len(events(store)) == 2 + 2 * 16


def test_no_credential_is_logged(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_TOKEN", "hush-hush-hush")
    with pytest.raises(SourceError), run_log(store, "ingest", {"mixture": "https://me:pw@host/m.yaml?sig=abc"}):
        raise SourceError("https://host/a?key=hush-hush-hush refused 'hush-hush-hush'")
    text = next((store.root / RUNS).iterdir()).read_text()
    assert "hush" not in text
    assert "pw" not in text and "sig=" not in text


def test_deduplication_counts_what_it_dropped():
    manifest = {"counts": {"a": {"kept": 3, "dropped": {"exact_duplicate": 1}}, "b": {"kept": 2, "dropped": {}}}}
    assert counters_of("deduplicate", manifest, 1.0) == {"kept": 5, "dropped": {"exact_duplicate": 1}}


def test_a_root_in_object_storage_gets_the_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("CURATION_CACHE", str(tmp_path / "here"))
    with s3_server(monkeypatch):
        with run_log(Store.open("s3://lake/root"), "build", {}) as log:
            log.step("ingest", "one", lambda: artefact(Store.at("s3://lake/root")))
        monkeypatch.setenv("CURATION_CACHE", str(tmp_path / "elsewhere"))
        [run] = runs(Store.at("s3://lake/root"))
        assert run.outcome == "done" and run.run == log.run
        data = Mirror.of_url("s3://lake/root").objects.read(f"{RUNS}/{run.run}.jsonl")
        assert data is not None and SECRET.encode() not in data
