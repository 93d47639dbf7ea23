from pathlib import Path

import pytest

from curation.errors import ConfigurationError
from curation.runtime.settings import EncoderSettings, RuntimeSettings, TaskSettings, load_runtime, parse_size, runtime_settings


def loaded(folder: Path, text: str) -> RuntimeSettings:
    path = folder / "runtime.yaml"
    path.write_text(text)
    return load_runtime(path)


def test_every_key_has_a_default(tmp_path: Path):
    assert loaded(tmp_path, "") == load_runtime(None) == RuntimeSettings()


def test_all_keys_are_read(tmp_path: Path):
    found = loaded(
        tmp_path,
        """
workers: 8
object_store: 512MiB
ship: installed
task: {cpus: 2, memory: 1.5 GiB, retries: 5}
encoders: {actors: 2, gpus: 0.5, cpus: 4, memory: 8GiB}
""",
    )
    assert (found.workers, found.object_store, found.ship) == (8, 512 << 20, "installed")
    assert (found.task.cpus, found.task.memory, found.task.retries) == (2, 3 << 29, 5)
    assert (found.encoders.gpus, found.encoders.memory) == (0.5, 8 << 30)


@pytest.mark.parametrize(("text", "size"), [("1KiB", 1024), ("1.5 MiB", 3 << 19), ("17", 17)])
def test_sizes_may_have_a_unit(text: str, size: int):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("worker: 8", r"runtime.yaml:1: .*unknown key 'worker' \(did you mean 'workers'\?\)"),
        ("task: {memory: 2GB}", r"runtime.yaml:1: task.memory: .*'2GB' is no size; .*GiB"),
        ("task:\n  retries: -1", r"runtime.yaml:2: task.retries: found a number -1"),
        ("encoders: {actors: many}", "encoders.actors: found text 'many'"),
        ("object_store: 1MiB", "object_store: found"),
        ("runtime: dask", "'ray' or 'process'"),
        ("address: auto\nworkers: 4", "a cluster has its own number of CPUs"),
        ("[1, 2]", "expected a mapping"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, told: str):
    with pytest.raises(ConfigurationError, match=told):
        loaded(tmp_path, text)


def test_the_environment_goes_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    loaded(tmp_path, "address: one:6379\ntask: {retries: 7}")
    monkeypatch.setenv("CURATION_RUNTIME_FILE", str(tmp_path / "runtime.yaml"))
    monkeypatch.delenv("CURATION_RUNTIME", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert runtime_settings().address == "one:6379"
    monkeypatch.setenv("RAY_ADDRESS", "two:6379")
    monkeypatch.setenv("CURATION_RUNTIME", "process")
    found = runtime_settings()
    assert (found.address, found.runtime, found.task.retries) == ("two:6379", "process", 7)
    assert not found.is_cluster
    monkeypatch.setenv("CURATION_RUNTIME", "spark")
    with pytest.raises(ConfigurationError, match="valid: ray, process"):
        runtime_settings()


def test_the_documented_file_is_valid(tmp_path: Path):
    text = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    [shown] = [block.split("```")[0] for block in text.split("```yaml\n")[1:] if block.startswith("# runtime.yaml")]
    found = loaded(tmp_path, shown)
    assert found.task.memory == 1 << 30
    named = [line.split(":")[0].strip() for line in shown.splitlines() if ":" in line.partition("#")[0]]
    assert set(named) == {*RuntimeSettings.model_fields, *TaskSettings.model_fields, *EncoderSettings.model_fields}
