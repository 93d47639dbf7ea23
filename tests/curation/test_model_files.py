from pathlib import Path

import pytest

from curation.model_files import model_fingerprint, model_problem

FILES = {"config.json": '{"model_type": "bert"}', "model.safetensors": "numbers", "tokenizer.json": "{}"}


def written(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_a_whole_model_has_no_problem(tmp_path: Path):
    assert model_problem(written(tmp_path, FILES), "text") is None


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "config.json"),
        ({"config.json": "{}"}, "safetensors"),
        ({"config.json": "{}", "pytorch_model.bin": "x", "tokenizer.json": "{}"}, "safetensors"),
        ({**FILES, "config.json": "{"}, "cannot be read"),
        ({**FILES, "config.json": "{}"}, "model_type"),
    ],
)
def test_what_is_no_model_is_told(tmp_path: Path, files: dict[str, str], told: str):
    assert told in str(model_problem(written(tmp_path, files), "text"))
    assert "no folder" in str(model_problem(tmp_path / "nowhere", "vision"))


def test_a_fingerprint_is_of_what_is_loaded_wherever_it_lies(tmp_path: Path):
    first, second = written(tmp_path / "a", FILES), written(tmp_path / "b", FILES | {"README.md": "hello"})
    assert model_fingerprint(first) == model_fingerprint(second)
    written(second, {"model.safetensors": "other numbers"})
    assert model_fingerprint(first) != model_fingerprint(second)
