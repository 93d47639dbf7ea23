"""Runs on two gloo processes: replicated and split models, and checkpoints that change hands."""

import json
import os
import socket
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed

from tests.support.releases import demo_samples, write_release
from tests.support.runs import run_settings
from training.checkpoint import list_checkpoints
from training.config import RunConfig
from training.distributed import process_group
from training.errors import ConfigError, LossError
from training.loop import Trainer

pytestmark = pytest.mark.slow  # two processes that import everything

EPOCH = {"num_train_steps": None, "batch_size": 2, "learning_rate": 0.01}
NUM_SAMPLES = 26


def settings(release, output, **changes):
    return RunConfig.model_validate(
        run_settings(**{"release": str(release), "output": str(output), "optimisation": EPOCH} | changes)
    )


def run(config):
    Trainer(config).train(lambda report: None)


def two_ranks(rank, port, release, folder):
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    with process_group("cpu"):
        run_all(rank, release, folder)


def run_all(rank, release, folder):
    replicate, shard = {"mode": "replicate"}, {"mode": "shard"}
    run(settings(release, folder / "replicate", parallel=replicate))
    run(settings(release, folder / "shard", parallel=shard))
    fine = EPOCH | {"batch_size": 1, "accumulation": 2}
    run(settings(release, folder / "accumulated", parallel=shard, optimisation=fine))
    more = {"precision": "bfloat16", "gradient_checkpointing": True}
    run(settings(release, folder / "bfloat16", parallel=shard, **more))
    run(settings(release, folder / "elastic", parallel=shard, checkpoint={"every": 3, "keep": 9}))
    resumed = settings(release, folder / "resumed", parallel=shard, checkpoint={"every": 3, "keep": 9})
    if rank == 0:
        keep_first_checkpoint(folder / "elastic", folder / "resumed")
    distributed.barrier()
    run(resumed)
    run(settings(release, folder / "changes", data=changing(folder), checkpoint={"every": 2, "keep": 9}))
    try:
        Trainer(settings(release, folder / "unlike", data={"skip": {"steps": [rank + 1]}}))
    except ConfigError as error:
        (folder / f"unlike-{rank}").write_text(str(error))
    trainer = Trainer(settings(release, folder / "nan", parallel=replicate))
    if rank == 1:  # one rank alone goes wrong; both must stop
        trainer.model.score = spoil(trainer.model.score)
    try:
        trainer.train(lambda report: None)
    except LossError as error:
        (folder / f"error-{rank}").write_text(str(error))


def changing(folder):
    return {"ratios": folder / "a.yaml", "changes": {4: folder / "b.yaml"}}


def spoil(score):
    def spoilt(layout, features, sizes):
        out = score(layout, features, sizes)
        return replace(out, loss=out.loss * torch.nan)

    return spoilt


def keep_first_checkpoint(source, target):
    first = list_checkpoints(source / "checkpoints")[0]
    (target / "checkpoints").mkdir(parents=True)
    first.rename(target / "checkpoints" / first.name)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    release = write_release(folder / "release", demo_samples(NUM_SAMPLES), samples_per_shard=10)
    (folder / "a.yaml").write_text("{name: a, ratios: {general: 1, ocr: 2, language: 1}}")
    (folder / "b.yaml").write_text("{name: b, ratios: {general: 1, ocr: 0, language: 1}}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(two_ranks, args=(port, release, folder), nprocs=2)
    return folder


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder):
    return load_file(folder / "export" / "model.safetensors")


def test_a_split_model_learns_as_a_replicated_one(done):
    replicated, split = lines(done / "replicate"), lines(done / "shard")
    assert [line["samples_by_source"] for line in replicated] == [line["samples_by_source"] for line in split]
    assert [line["loss"] for line in split] == pytest.approx([line["loss"] for line in replicated], rel=1e-4)
    expected = weights(done / "replicate")
    for name, value in weights(done / "shard").items():
        torch.testing.assert_close(value, expected[name], atol=2e-4, rtol=1e-3)


def test_each_sample_comes_once_whatever_the_steps(done):
    for name in ("shard", "accumulated", "bfloat16"):
        assert sum(line["num_samples"] for line in lines(done / name)) == NUM_SAMPLES
    assert len(lines(done / "shard")) == len(lines(done / "accumulated")) == 7


def test_bfloat16_with_checkpointed_gradients_learns(done):
    losses = [line["loss"] for line in lines(done / "bfloat16")]
    assert losses[-1] < losses[0]
    assert {value.dtype for value in weights(done / "bfloat16").values()} == {torch.float32}


def test_two_split_ranks_resume_bit_for_bit(done):
    expected = weights(done / "elastic")
    assert all(torch.equal(value, expected[name]) for name, value in weights(done / "resumed").items())


def test_a_checkpoint_of_two_ranks_goes_on_in_one_with_the_samples_that_are_left(done, tmp_path):
    release = done / "release"
    target = tmp_path / "one"
    step_6 = list_checkpoints(done / "elastic" / "checkpoints")[-2]
    assert step_6.name == "step-00000006"
    (target / "checkpoints").mkdir(parents=True)
    (target / "checkpoints" / step_6.name).symlink_to(step_6)
    trainer = Trainer(settings(release, target, optimisation=EPOCH | {"batch_size": 1}))
    report = trainer.train(lambda report: None)
    assert report.num_train_steps == 6 + NUM_SAMPLES - 6 * 4
    assert sum(report.samples_by_category.values()) == NUM_SAMPLES
    seen = {}
    for part in (lines(done / "elastic")[:6], lines(target)):
        for line in part:
            for source, count in line["samples_by_source"].items():
                seen[source] = seen.get(source, 0) + count
    assert seen == {source: sum(line["samples_by_source"].get(source, 0) for line in lines(done / "shard")) for source in seen}


def test_all_ranks_stop_for_one_that_lost_its_numbers(done):
    errors = {(done / f"error-{rank}").read_text() for rank in (0, 1)}
    assert len(errors) == 1
    assert "train step 1: the loss is no finite number on the samples demo" in errors.pop()


@pytest.mark.parametrize("step", [2, 4])
def test_weights_change_at_the_same_step_on_two_ranks_and_in_one(done, tmp_path, step):
    """One process goes on from before the change, and from behind it, with as many samples a step."""
    expected = [(line["weights"], line["samples_by_category"]) for line in lines(done / "changes")]
    assert [version.split("@")[0] for version, _ in expected] == ["a.yaml"] * 3 + ["b.yaml"] * 4
    assert all("ocr" in given for _, given in expected[:3]) and not any("ocr" in given for _, given in expected[3:])
    checkpoint = done / "changes" / "checkpoints" / f"step-{step:08d}"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / checkpoint.name).symlink_to(checkpoint)
    going_on = {"optimisation": EPOCH | {"batch_size": 4}, "checkpoint": {"every": 9, "keep": 9}}
    run(settings(done / "release", tmp_path, data=changing(done), **going_on))
    assert [(line["weights"], line["samples_by_category"]) for line in lines(tmp_path)] == expected[step:]


def test_ranks_that_read_unlike_run_files_are_refused(done):
    errors = {(done / f"unlike-{rank}").read_text() for rank in (0, 1)}
    assert len(errors) == 1
    assert "ranks [1] read something else than rank 0" in errors.pop()
