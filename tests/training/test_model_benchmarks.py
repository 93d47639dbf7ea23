"""The benchmarks of the model run, at a size that says nothing of speed."""

import json

import pytest

from benchmarks import slice as benchmark_slice
from benchmarks import sva
from training.build import outline_model


def figures(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


def test_the_sampler_is_held_against_the_plain_formulas(capsys):
    assert sva.main(["--device", "cpu", "--width", "16", "--rounds", "1"]) == 0
    found = figures(capsys)
    assert [one["name"] for one in found] == [
        f"sva {what} {kind}" for kind in ("float32", "bfloat16") for what in ("forward", "forward+backward")
    ]
    assert all(one["ratio"] > 0 for one in found)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_a_stream_is_trained_from(capsys, monkeypatch):
    monkeypatch.setattr(benchmark_slice, "WARM_UP", 1)
    assert benchmark_slice.main(["--device", "cpu", "--train-steps", "2", "--workers", "0", "--pictures", "32"]) == 0
    (found,) = figures(capsys)
    assert found["unit"] == "tokens/s"
    assert 0 < found["ours"] <= found["theirs"]


def test_the_slice_has_the_sizes_of_the_8b_model(tmp_path):
    model = outline_model(benchmark_slice.settings(tmp_path, "cuda", num_train_steps=9, num_workers=8))
    assert [tower.width for tower in model.towers] == [1152, 1024, 1536, 5760]
    assert (model.language.config.hidden_size, len(model.decoder_layers)) == (4096, 4)
    assert len(model.connector.vision_sampler_layers) == 2
