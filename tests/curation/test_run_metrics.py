from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from curation.errors import SourceError
from curation.run_log import run_log
from curation.run_metrics import prometheus_text
from curation.steps.step import Artefact
from curation.storage.store import Store, point_to_latest, publish

MANIFEST = {
    "counts": {"records": 10, "samples": 8, "images": 6, "rejected": {"bad_json": 2}},
    "inputs": {"num_bytes": 4_000},
    "created": "9999-01-01T00:00:00+00:00",
}
RELEASE = {"name": "m", "num_samples": 7, "num_bytes": 900, "created": "2026-01-02T00:00:00+00:00"}


def values(store: Store) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(prometheus_text(store))
    return {
        (sample.name.removeprefix("curation_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_counters_add_up_over_runs_and_gauges_say_what_is_there(tmp_path: Path):
    store = Store.open(str(tmp_path))
    folder = store.source("one", "f")
    for _ in range(2):
        with run_log(store, "build", {}) as log:
            log.step("ingest", "one", lambda: Artefact(folder, MANIFEST))
    with pytest.raises(SourceError), run_log(store, "ingest", {}):
        raise SourceError("gone")
    for path, manifest in ((folder, MANIFEST), (store.release("m", "f"), RELEASE)):
        path.mkdir(parents=True)
        publish(path, manifest)
        point_to_latest(path)
    found = values(store)
    assert found["runs_total", "build", "done"] == 2
    assert found["runs_total", "ingest", "failed"] == 1
    assert found["records_total", "one"] == 20
    assert found["rejected_total", "one", "bad_json"] == 4
    assert found["bytes_total", "ingest"] == 8_000
    assert found["images_per_second", "one"] > 0
    assert found["source_rejected", "one", "bad_json"] == 2
    assert found["release_samples", "m"] == 7
    assert found["release_timestamp_seconds", "m"] == 1767312000


def test_a_root_without_runs_has_no_counters(tmp_path: Path):
    assert prometheus_text(Store.open(str(tmp_path))) == ""


def test_labels_from_data_are_escaped(tmp_path: Path):
    store = Store.open(str(tmp_path))
    name = 'a"b\\c\nd'
    with run_log(store, "build", {}) as log:
        log.step("ingest", name, lambda: Artefact(store.source("one", "f"), MANIFEST))
    assert values(store)["records_total", name] == 10
