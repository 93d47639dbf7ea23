import json

import pytest
import torch

from tests.training.model.test_cambrian import tiny_cambrian
from training.checkpoint import (
    TrainState,
    export_cambrian,
    list_checkpoints,
    load_cambrian,
    load_checkpoint,
    read_state,
    save_checkpoint,
)
from training.errors import CheckpointError


def state(step):
    return TrainState(step=step, stream={"a": 1}, fingerprint="f", first_loss=2.0, last_loss=1.0, samples={"ocr": 3})


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
    path = save_checkpoint(tmp_path, model, optimiser, state(4), keep=2)
    torch.manual_seed(5)
    other = tiny_cambrian(seed=2)
    other_optimiser = optimiser_of(other)
    assert load_checkpoint(path, other, other_optimiser) == state(4)
    step_once(model, optimiser)
    step_once(other, other_optimiser)
    for name, value in export_cambrian(model).items():
        assert torch.equal(value, export_cambrian(other)[name])


def test_random_state_comes_back(tmp_path):
    model = tiny_cambrian()
    torch.manual_seed(11)
    path = save_checkpoint(tmp_path, model, optimiser_of(model), state(1), keep=1)
    expected = torch.rand(3)
    load_checkpoint(path, model, optimiser_of(model))
    assert torch.equal(torch.rand(3), expected)


def test_only_the_last_are_kept(tmp_path):
    model = tiny_cambrian()
    for step in (1, 2, 10):
        save_checkpoint(tmp_path, model, optimiser_of(model), state(step), keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000002", "step-00000010"]


def test_a_half_written_checkpoint_is_not_there(tmp_path):
    (tmp_path / ".step-00000003-99").mkdir(parents=True)
    assert list_checkpoints(tmp_path) == []


@pytest.mark.parametrize("name", ["model.safetensors", "optimiser.pt", "state.json"])
def test_broken_files_are_named(tmp_path, name):
    model = tiny_cambrian()
    path = save_checkpoint(tmp_path, model, optimiser_of(model), state(1), keep=1)
    (path / name).write_bytes(b"{broken")
    with pytest.raises(CheckpointError, match=r"step-00000001.*delete the folder"):
        load_checkpoint(path, model, optimiser_of(model))


def test_a_pickled_function_is_not_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return (print, ("executed",))

    model = tiny_cambrian()
    path = save_checkpoint(tmp_path, model, optimiser_of(model), state(1), keep=1)
    torch.save(Attack(), path / "optimiser.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(path, model, optimiser_of(model))


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
    with pytest.raises(CheckpointError, match=r"'lm_head.weight' has shape \[3, 3\]"):
        load_cambrian(model, weights)
    assert torch.equal(model.connector.vision_query, before)
