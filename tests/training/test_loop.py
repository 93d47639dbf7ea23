import json
import math
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing import event_accumulator

from tests.support.runs import Stop, ignore, run_settings, stop_at
from training.checkpoint import list_checkpoints
from training.config import RunConfig
from training.errors import CheckpointError, ConfigError, LossError
from training.export import load_run
from training.loop import Trainer, schedule_factor


def trainer(demo_release, output, **changes):
    return Trainer(RunConfig.model_validate(run_settings(**{"release": str(demo_release), "output": output} | changes)))


def without(settings, key):
    return {name: value for name, value in settings.items() if name != key}


def timeless(output):
    """Metrics without what a clock says."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in {"tokens_per_second", "data_wait_share"}} for line in lines
    ]


def weights(output):
    return load_file(output / "export" / "model.safetensors")


@pytest.mark.parametrize("steps", [6, 9])
def test_a_stopped_run_goes_on_bit_for_bit(demo_release, tmp_path, steps):
    """Nine steps of four samples pass the end of the first epoch of 26."""
    whole = trainer(demo_release, tmp_path / "whole", optimisation={"num_train_steps": steps}).train(ignore)
    with pytest.raises(Stop):
        trainer(demo_release, tmp_path / "cut", optimisation={"num_train_steps": steps}).train(stop_at(5))
    again = trainer(demo_release, tmp_path / "cut", optimisation={"num_train_steps": steps}).train(ignore)
    assert (again.first_loss, again.last_loss) == (whole.first_loss, whole.last_loss)
    assert again.samples_by_category == whole.samples_by_category
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(value, expected[name]) for name, value in weights(tmp_path / "cut").items())
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "cut")


ARRANGED = {
    "groups": {"data": {"group": {"batch": 4, "batches_a_window": 3}}},
    "packs": {"data": {"packing": 16}, "text": {"max_tokens": 160}, "optimisation": {"batch_size": 1}},
}


@pytest.mark.parametrize("arrangement", ARRANGED)
def test_arranged_samples_come_once_and_go_on_bit_for_bit(demo_release, tmp_path, arrangement):
    """Stopped behind the checkpoint of step 3, within the first epoch of 26 samples."""
    chosen = ARRANGED[arrangement]
    chosen = chosen | {"optimisation": chosen.get("optimisation", {}) | {"num_train_steps": None}}
    whole = trainer(demo_release, tmp_path / "whole", **chosen)
    report = whole.train(ignore)
    assert 4 < report.num_train_steps < 13
    assert sum(report.samples_by_category.values()) == 26
    with pytest.raises(Stop):
        trainer(demo_release, tmp_path / "cut", **chosen).train(stop_at(4))
    again = trainer(demo_release, tmp_path / "cut", data=chosen["data"] | {"num_workers": 1}, **without(chosen, "data"))
    assert again.train(ignore).last_loss == report.last_loss
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "cut")


def test_packs_have_few_empty_places(demo_release, tmp_path):
    """The same samples as one by one, in fewer rows."""
    layouts = {}
    for name, chosen in {"rows": {}, "packs": ARRANGED["packs"]}.items():
        run = trainer(demo_release, tmp_path / name, **chosen | {"optimisation": {"batch_size": 26}})
        layouts[name] = run._collator(list(run.stream)).layout
    assert layouts["packs"].num_samples == layouts["rows"].num_samples == 26
    assert len(layouts["packs"].origin_BT) < 20
    filled = {name: float(layout.attention_BT.float().mean()) for name, layout in layouts.items()}
    assert filled["packs"] > max(0.85, filled["rows"])


def test_workers_change_nothing(demo_release, tmp_path):
    alone = trainer(demo_release, tmp_path / "alone").train(ignore)
    with pytest.raises(Stop):
        trainer(demo_release, tmp_path / "workers", data={"num_workers": 2}).train(stop_at(5))
    workers = trainer(demo_release, tmp_path / "workers", data={"num_workers": 2}).train(ignore)
    assert workers.last_loss == alone.last_loss


def test_a_finished_run_has_nothing_left_to_do(demo_release, tmp_path):
    first = trainer(demo_release, tmp_path).train(ignore)
    taken = []
    assert trainer(demo_release, tmp_path).train(taken.append) == first
    assert taken == []


def test_one_epoch_is_the_default(demo_release, tmp_path):
    run = trainer(demo_release, tmp_path, optimisation={"num_train_steps": None})
    assert run.total_steps == 7
    assert sum(run.train(ignore).samples_by_category.values()) == 26


def test_other_settings_do_not_take_over_a_checkpoint(demo_release, tmp_path):
    trainer(demo_release, tmp_path).train(ignore)
    with pytest.raises(CheckpointError, match="other settings"):
        trainer(demo_release, tmp_path, seed=4)


def test_metrics_tell_the_loss_of_each_source(demo_release, tmp_path):
    trainer(demo_release, tmp_path).train(ignore)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert {source for line in lines for source in line["loss_by_source"]} <= {"shapes", "charts", "words", "sums"}
    assert all(math.isfinite(value) for line in lines for value in line["loss_by_source"].values())


def test_metrics_tell_samples_and_speed(demo_release, tmp_path):
    trainer(demo_release, tmp_path).train(ignore)
    for line in map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines()):
        assert sum(line["samples_by_category"].values()) == sum(line["samples_by_source"].values()) == line["num_samples"] == 4
        assert line["loss_by_category"].keys() == line["samples_by_category"].keys()
        assert line["tokens_per_second"] > 0
        assert 0 <= line["data_wait_share"] <= 1
        assert line["num_tokens"] > line["num_targets"] > 0


def test_tensorboard_has_every_figure(demo_release, tmp_path):
    trainer(demo_release, tmp_path, tensorboard=True).train(ignore)
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"loss", "tokens_per_second", "data_wait_share", "loss_by_source/shapes"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]


def test_tensorboard_is_asked_for_by_name(demo_release, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install 'cambrian-curation\[tensorboard\]'"):
        trainer(demo_release, tmp_path, tensorboard=True).train(ignore)


def test_accumulated_batches_make_a_step(demo_release, tmp_path):
    """Two batches of two in a step: the same samples as one batch of four, and nearly its loss."""
    trainer(demo_release, tmp_path / "one").train(ignore)
    chosen = {"batch_size": 2, "accumulation": 2}
    trainer(demo_release, tmp_path / "two", optimisation=chosen).train(ignore)
    one, two = timeless(tmp_path / "one"), timeless(tmp_path / "two")
    assert [line["samples_by_source"] for line in one] == [line["samples_by_source"] for line in two]
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-5)


def test_too_long_samples_are_counted_and_the_stream_stays_exact(demo_release, tmp_path):
    settings = {"text": {"max_tokens": 40}, "optimisation": {"num_train_steps": None}}
    report = trainer(demo_release, tmp_path / "whole", **settings).train(ignore)
    assert 0 < report.too_long < 26
    assert sum(report.samples_by_category.values()) + report.too_long == 26
    with pytest.raises(Stop):
        trainer(demo_release, tmp_path / "cut", **settings).train(stop_at(5))
    again = trainer(demo_release, tmp_path / "cut", **settings).train(ignore)
    assert again == replace(report, checkpoint=again.checkpoint, export=again.export)


def test_gradient_checkpointing_changes_nothing(demo_release, tmp_path):
    trainer(demo_release, tmp_path / "plain").train(ignore)
    trainer(demo_release, tmp_path / "less", gradient_checkpointing=True).train(ignore)
    expected = weights(tmp_path / "plain")
    for name, value in weights(tmp_path / "less").items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=1e-4)


def test_trained_encoders_learn_and_come_back(demo_release, tmp_path):
    tower = run_settings()["model"]["towers"][0] | {"is_trained": True}
    settings = {"model": {"towers": [tower]}}
    before = trainer(demo_release, tmp_path / "none", **settings).model.towers[0].backbone.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    run = trainer(demo_release, tmp_path / "a", **settings)
    run.train(ignore)
    after = run.model.towers[0].backbone.state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
    _, loaded = load_run(tmp_path / "a" / "export")
    assert all(torch.equal(value, after[name]) for name, value in loaded.towers[0].backbone.state_dict().items())


@pytest.mark.parametrize("connector", ["sva", "mlp"])
def test_both_layouts_train_alike(demo_release, tmp_path, connector):
    model = {"connector": connector, "samplers": {"count": int(connector == "sva")}}
    losses = []
    for image_layout in ("cropped", "padded"):
        run = trainer(demo_release, tmp_path / image_layout, model=model | {"image_layout": image_layout})
        losses.append(run.train(ignore).last_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_loss_that_is_no_number_names_the_samples(demo_release, tmp_path):
    run = trainer(demo_release, tmp_path)
    torch.nn.init.constant_(run.model.language.lm_head.weight, math.nan)
    with pytest.raises(LossError, match=r"train step 1: the loss is no finite number on the samples demo\d{5}"):
        run.train(ignore)


def test_stage_1_leaves_the_language_model_alone(demo_release, tmp_path):
    run = trainer(demo_release, tmp_path, stage=1)
    language = {name: value.clone() for name, value in run.model.language.state_dict().items()}
    query = run.model.connector.vision_query.detach().clone()
    run.train(ignore)
    assert all(torch.equal(value, language[name]) for name, value in run.model.language.state_dict().items())
    assert not torch.equal(run.model.connector.vision_query, query)


def test_stage_2_starts_from_stage_1(demo_release, tmp_path):
    trainer(demo_release, tmp_path / "one", stage=1).train(ignore)
    exported = load_file(tmp_path / "one" / "export" / "model.safetensors")
    assert not any(name.startswith(("lm_head", "model.layers")) for name in exported)
    checkpoint = list_checkpoints(tmp_path / "one" / "checkpoints")[-1]
    for number, start in enumerate([tmp_path / "one/export", tmp_path / "one/export/model.safetensors", checkpoint]):
        run = trainer(demo_release, tmp_path / f"two{number}", start_from=start)
        assert torch.equal(run.model.connector.vision_query.detach(), exported["model.vision_query"])
    with pytest.raises(CheckpointError, match="start_from"):
        trainer(demo_release, tmp_path / "three", start_from=tmp_path / "gone")


def test_weighted_releases_train(demo_release, tmp_path):
    run = trainer(demo_release, tmp_path, release={str(demo_release): 1.0}, data={"num_samples": 10})
    assert run.train(ignore).num_train_steps == 6


def test_bfloat16_trains(demo_release, tmp_path):
    assert math.isfinite(trainer(demo_release, tmp_path, precision="bfloat16").train(ignore).last_loss)


def test_schedule_warms_up_and_falls_to_zero():
    factors = [schedule_factor(step, 100, 0.1) for step in range(101)]
    assert factors[:2] == [0, 0.1]
    assert factors[10] == max(factors) == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[100] == pytest.approx(0)


def test_a_finished_epoch_has_nothing_left_to_do(demo_release, tmp_path):
    chosen = {"num_train_steps": None}
    first = trainer(demo_release, tmp_path, optimisation=chosen).train(ignore)
    again = trainer(demo_release, tmp_path, optimisation=chosen).train(ignore)
    assert again == first
    assert first.num_train_steps == 7
