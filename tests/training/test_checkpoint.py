import json

import pytest
import torch
from safetensors import safe_open

from tests.support.runs import run_settings
from tests.training.model.test_cambrian import tiny_cambrian
from training.checkpoint import (
    TrainState,
    export_cambrian,
    list_checkpoints,
    load_cambrian,
    load_checkpoint,
    read_state,
    save_checkpoint,
    trained_names,
)
from training.config import RunConfig
from training.errors import CheckpointError
from training.shards import load_tensors

TENSORS = "tensors/shard-00001-model-00001-of-00001.safetensors"


def config(keep=2):
    return RunConfig.model_validate(run_settings(release="r", output="o", checkpoint={"keep": keep}))


def state(step, model):
    return TrainState(
        step=step, stream={"a": 1}, fingerprint="f", first_loss=2.0, last_loss=1.0, global_batch=4, samples={"ocr": 3},
        too_long=1, trained=trained_names(model),
    )  # fmt: skip


def save(folder, model, optimiser, step, keep=2):
    return save_checkpoint(folder, model, optimiser, state(step, model), config(keep))


def optimiser_of(model):
    return torch.optim.AdamW(model.parameters(), lr=0.1)


def step_once(model, optimiser):
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()


def test_a_checkpoint_brings_everything_back(tmp_path):
    model = tiny_cambrian(seed=1)
    optimiser = optimiser_of(model)
    step_once(model, optimiser)
    path = save(tmp_path, model, optimiser, 4)
    torch.manual_seed(5)
    other = tiny_cambrian(seed=2)
    other_optimiser = optimiser_of(other)
    assert load_checkpoint(path, other, other_optimiser) == state(4, model)
    step_once(model, optimiser)
    step_once(other, other_optimiser)
    for name, value in export_cambrian(model).items():
        assert torch.equal(value, export_cambrian(other)[name])


def test_random_state_comes_back(tmp_path):
    model = tiny_cambrian()
    torch.manual_seed(11)
    path = save(tmp_path, model, optimiser_of(model), 1)
    expected = torch.rand(3)
    load_checkpoint(path, model, optimiser_of(model))
    assert torch.equal(torch.rand(3), expected)


def test_only_the_last_are_kept(tmp_path):
    model = tiny_cambrian()
    for step in (1, 2, 10):
        save(tmp_path, model, optimiser_of(model), step)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000002", "step-00000010"]


def test_a_half_written_checkpoint_is_not_there(tmp_path):
    (tmp_path / ".step-00000003-99").mkdir(parents=True)
    assert list_checkpoints(tmp_path) == []


@pytest.mark.parametrize("name", [TENSORS, "random-00000.safetensors", "state.json"])
def test_broken_files_are_named(tmp_path, name):
    model = tiny_cambrian()
    path = save(tmp_path, model, optimiser_of(model), 1)
    (path / name).write_bytes(b"{broken")
    with pytest.raises(CheckpointError, match=r"step-00000001.*delete"):
        load_checkpoint(path, model, optimiser_of(model))


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path):
    model = tiny_cambrian()
    path = save(tmp_path, model, optimiser_of(model), 1)
    assert {file.suffix for file in path.rglob("*") if file.is_file()} == {".safetensors", ".json"}


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    model = tiny_cambrian()
    path = save(tmp_path, model, optimiser_of(model), 1)
    with pytest.raises(CheckpointError, match="another model"):
        other = tiny_cambrian(layers=5)
        load_checkpoint(path, other, optimiser_of(other))
    with pytest.raises(CheckpointError, match="another shape"):
        other = tiny_cambrian(query_sides=(2, 4))
        other.connector.image_newline = torch.nn.Parameter(torch.zeros(49))
        load_tensors(path / "tensors", {"model.image_newline": other.connector.image_newline.data})


def test_what_is_frozen_is_not_written(tmp_path):
    model = tiny_cambrian()
    model.language.requires_grad_(False)
    path = save(tmp_path, model, torch.optim.AdamW(model.connector.parameters()), 1)
    names = read_metadata(path)
    assert any(name.startswith("model.vision_sampler") for name in names)
    assert not any("lm_head" in name or "model.layers" in name for name in names)


def read_metadata(path):
    with safe_open(next((path / "tensors").glob("*.safetensors")), "pt") as file:
        return list(file.keys())


def test_state_must_have_its_fields(tmp_path):
    (tmp_path / "state.json").write_text(json.dumps({"step": 1}))
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_state(tmp_path)


def test_published_names_round_trip():
    weights = {name: value.clone() for name, value in export_cambrian(tiny_cambrian(seed=1)).items()}
    model = tiny_cambrian(seed=2)
    load_cambrian(model, weights)
    assert all(torch.equal(value, weights[name]) for name, value in export_cambrian(model).items())


@pytest.mark.parametrize("prefix", ["model.", ""])
def test_a_stage_1_file_holds_the_vision_side_alone(prefix):
    source, model = tiny_cambrian(seed=1), tiny_cambrian(seed=2)
    before = model.language.lm_head.weight.clone()
    load_cambrian(model, {prefix + name: value for name, value in source.connector.state_dict().items()})
    assert torch.equal(model.connector.vision_query, source.connector.vision_query)
    assert torch.equal(model.language.lm_head.weight, before)


def test_missing_and_unknown_names_are_told():
    weights = export_cambrian(tiny_cambrian())
    weights["model.extra"] = weights.pop("lm_head.weight")
    with pytest.raises(CheckpointError, match=r"1 names missing \(lm_head.weight\), 1 unknown \(model.extra\)"):
        load_cambrian(tiny_cambrian(), weights)


def test_wrong_shapes_are_told_before_anything_is_loaded():
    model = tiny_cambrian(seed=1)
    before = model.connector.vision_query.clone()
    weights = {name: value.clone() for name, value in export_cambrian(tiny_cambrian(seed=2)).items()}
    weights["lm_head.weight"] = torch.zeros(3, 3)
    with pytest.raises(CheckpointError, match=r"0 unknown \(none\), 1 of another shape \(lm_head.weight is \[3, 3\], the"):
        load_cambrian(model, weights)
    assert torch.equal(model.connector.vision_query, before)
