"""Weights that change, and steps and samples that are left out, as keys of a run file."""

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.support.runs import Stop, ignore, run_settings, stop_at
from training.checkpoint import list_checkpoints, read_state
from training.config import RunConfig
from training.errors import CheckpointError, ConfigError, StreamError
from training.loop import Trainer

RATIOS = {"a.yaml": {"general": 1, "ocr": 2, "language": 1}, "b.yaml": {"general": 1, "ocr": 0, "language": 0}}


@pytest.fixture
def mixtures(tmp_path):
    for name, ratios in RATIOS.items():
        (tmp_path / name).write_text(json.dumps({"name": "m", "ratios": ratios}))
    return tmp_path


def trainer(release, output, *, steps=9, every=3, **data):
    optimisation, checkpoint = {"num_train_steps": steps}, {"every": every, "keep": 99}
    changes = {"release": str(release), "output": str(output), "optimisation": optimisation, "checkpoint": checkpoint}
    return Trainer(RunConfig.model_validate(run_settings(**changes, data=data)))


def lines(output):
    found = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in ("step", "loss", "weights", "samples_by_category")} for line in found]


def forget_checkpoints_after(output, step):
    for path in list_checkpoints(output / "checkpoints"):
        if read_state(path).step > step:
            path.rename(path.with_name(f"gone-{path.name}"))


def ids(stream):
    return [sample["id"] for sample in stream]


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("at", [5, 7, 8])
def test_weights_change_at_a_step_whatever_interrupts(demo_release, mixtures, num_workers, at):
    """The first epoch of 26 samples ends with step 7; step 8 is the first of the next. A checkpoint lies before each change."""
    data = {"ratios": mixtures / "a.yaml", "changes": {at: mixtures / "b.yaml"}, "num_workers": num_workers}
    trainer(demo_release, mixtures / "whole", **data).train(ignore)
    told = lines(mixtures / "whole")
    assert [line["weights"].split("@")[0] for line in told] == ["a.yaml"] * (at - 1) + ["b.yaml"] * (10 - at)
    assert all(set(line["samples_by_category"]) == {"general"} for line in told[at - 1 :])
    assert sum(len(line["samples_by_category"]) for line in told[: at - 1]) > at
    for step in (4, 8):
        with pytest.raises(Stop):
            trainer(demo_release, mixtures / "cut", **data).train(stop_at(step))
    trainer(demo_release, mixtures / "cut", **data).train(ignore)
    assert lines(mixtures / "cut") == told
    expected = load_file(mixtures / "whole/export/model.safetensors")
    found = load_file(mixtures / "cut/export/model.safetensors")
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    state = read_state(list_checkpoints(mixtures / "cut/checkpoints")[-1])
    assert state.changes == {str(at): told[-1]["weights"]}
    assert [segment["version"] for segment in state.stream["order"]["segments"]] == [told[0]["weights"], told[-1]["weights"]]


def test_a_change_may_be_added_to_a_run_that_goes_on(demo_release, mixtures):
    trainer(demo_release, mixtures / "run", steps=6, ratios=mixtures / "a.yaml").train(ignore)
    forget_checkpoints_after(mixtures / "run", 3)
    added = {"ratios": mixtures / "a.yaml", "changes": {5: mixtures / "b.yaml"}}
    trainer(demo_release, mixtures / "run", steps=6, **added).train(ignore)
    trainer(demo_release, mixtures / "whole", steps=6, **added).train(ignore)
    assert lines(mixtures / "run") == lines(mixtures / "whole")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {2: "b.yaml"},
            "the run file has the weights 'b.yaml@.*' at step 2, but the checkpoint of step 3 took that step with no",
        ),
        ({}, "the run file has no change of weights at step 3, but .* took that step with the weights 'b.yaml@"),
        ({3: "c.yaml"}, "the run file has the weights 'c.yaml@.*' at step 3, but .* with the weights 'b.yaml@"),
    ],
)
def test_what_lies_behind_cannot_change(demo_release, mixtures, changes, match):
    (mixtures / "c.yaml").write_text("{name: c, ratios: {general: 1, ocr: 1, language: 1}}")
    trainer(demo_release, mixtures / "run", steps=3, ratios=mixtures / "a.yaml", changes={3: mixtures / "b.yaml"}).train(ignore)
    with pytest.raises(CheckpointError, match=match):
        given = {step: mixtures / name for step, name in changes.items()}
        trainer(demo_release, mixtures / "run", steps=3, ratios=mixtures / "a.yaml", changes=given)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({4: "gone.yaml"}, "step 4: mixture '.*gone.yaml' cannot be read"),
        ({4: "none.yaml"}, "step 4: mixture '.*none.yaml' has no `ratios`"),
        ({4: {"general": 1.0}}, "step 4: weights are given for general; this mixture mixes general, language, ocr"),
        ({4: {"general": 0, "ocr": 0, "language": 0}}, "step 4: all mixture weights are 0"),
    ],
)
def test_weights_that_cannot_be_used_are_refused_before_the_first_step(demo_release, mixtures, changes, match):
    (mixtures / "none.yaml").write_text("{name: none}")
    given = {step: mixtures / weights if isinstance(weights, str) else weights for step, weights in changes.items()}
    with pytest.raises(ConfigError, match=match):
        trainer(demo_release, mixtures / "run", ratios=mixtures / "a.yaml", changes=given)


def test_weighted_releases_change_by_path(demo_release, mixtures):
    release = {str(demo_release): 1.0}
    settings = run_settings(release=release, output=str(mixtures / "run"), data={"changes": {2: {str(demo_release): 2.0}}})
    Trainer(RunConfig.model_validate(settings)).train(ignore)
    assert [line["weights"].split("@")[0] for line in lines(mixtures / "run")] == ["release"] + ["weights"] * 5


def test_only_weighted_releases_change(demo_release, mixtures):
    with pytest.raises(ConfigError, match=r"data\.changes' is for weighted releases"):
        trainer(demo_release, mixtures / "run", changes={2: mixtures / "b.yaml"})


def test_steps_and_samples_are_left_out(demo_release, tmp_path):
    whole = ids(trainer(demo_release, tmp_path / "whole").stream)
    skip = {"steps": [2, [4, 5]], "samples": [whole[20]]}
    run = trainer(demo_release, tmp_path / "run", steps=None, skip=skip)
    assert ids(run.stream) == [*whole[:4], *whole[8:12], *whole[20 + 1 :]]
    assert run.total_steps == 4


def test_what_is_skipped_is_skipped_once(demo_release, tmp_path):
    """The run goes on twice from checkpoints that have skipped already; numbers of steps do not move again."""
    skip = {"steps": [[2, 3]], "samples": ["demo00007"]}
    trainer(demo_release, tmp_path / "whole", steps=8, skip=skip).train(ignore)
    for step in (2, 4):
        with pytest.raises(Stop):
            trainer(demo_release, tmp_path / "cut", steps=8, every=1, skip=skip).train(stop_at(step))
    trainer(demo_release, tmp_path / "cut", steps=8, every=1, skip=skip).train(ignore)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_steps_of_an_attempt_are_skipped_from_a_checkpoint_before_them(demo_release, tmp_path):
    whole = trainer(demo_release, tmp_path / "run", steps=6)
    order = ids(trainer(demo_release, tmp_path / "other").stream)
    whole.train(ignore)
    forget_checkpoints_after(tmp_path / "run", 3)
    again = trainer(demo_release, tmp_path / "run", steps=6, skip={"steps": [5]})
    assert ids(again.stream) == [*order[12:16], *order[20:]]
    with pytest.raises(
        ConfigError, match=r"steps 2 to 2 cannot be skipped by a run that stands behind step 3 .* ends with step 7"
    ):
        trainer(demo_release, tmp_path / "run", steps=6, skip={"steps": [2]})
    with pytest.raises(ConfigError, match="steps 5 to 9 cannot be skipped"):
        trainer(demo_release, tmp_path / "run", steps=6, skip={"steps": [5, 9]})
    with pytest.raises(ConfigError, match="leaves out every sample that is left"):
        trainer(demo_release, tmp_path / "run", steps=6, skip={"steps": [[4, 7]]})


def test_skips_cannot_be_taken_back(demo_release, tmp_path):
    trainer(demo_release, tmp_path / "run", steps=3, skip={"steps": [5], "samples": ["demo00001"]}).train(ignore)
    with pytest.raises(CheckpointError, match=r"data.skip.steps' lacks \[5\], which the checkpoint of step 3 leaves out"):
        trainer(demo_release, tmp_path / "run", steps=3, skip={"samples": ["demo00001"]})
    with pytest.raises(CheckpointError, match=r"data.skip.samples' lacks demo00001"):
        trainer(demo_release, tmp_path / "run", steps=3, skip={"steps": [5]})


def test_unknown_samples_are_not_skipped(demo_release, tmp_path):
    with pytest.raises(StreamError, match="no sample of this stream has the id nobody"):
        trainer(demo_release, tmp_path / "run", skip={"samples": ["nobody"]})


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({"packing": 4, "skip": {"samples": ["a"]}}, "packing goes with neither"),
        ({"packing": 4, "changes": {2: {"a": 1}}}, "packing goes with neither"),
        ({"at_end": "stop", "changes": {2: {"a": 1}}}, "changes need at_end 'repeat'"),
        ({"ratios": "a.yaml", "schedule": {0: {"a": 1}}}, "ratios are one set of weights"),
        ({"skip": {"steps": [[4, 2]]}}, "end before they begin"),
        ({"skip": {"steps": [0]}}, "greater than 0"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(data, match):
    with pytest.raises(ValueError, match=match):
        RunConfig.model_validate(run_settings(release="r", output="o", data=data))
