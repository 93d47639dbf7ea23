import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.support.releases import demo_samples, write_release
from tests.support.runs import write_run
from training.__main__ import main
from training.checkpoint import list_checkpoints

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "training" / "recipes" / "demo.yaml"


@pytest.fixture(scope="module")
def demo_release(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("demo") / "r", demo_samples(200), samples_per_shard=50)


def command(*arguments, before=()):
    start = ["-m", "training"] if not before else [*before, "-m", "training"]
    return subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_the_last_line_is_the_report(demo_release, tmp_path, capsys):
    path = write_run(tmp_path / "run.yaml", output=str(tmp_path / "out"))
    assert main([str(path), "--release", str(demo_release)]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out.splitlines()[-1])
    assert report.keys() >= {"first_loss", "last_loss", "num_train_steps", "checkpoint", "samples_by_category"}
    assert report["num_train_steps"] == 6
    assert Path(report["checkpoint"]).is_dir()
    assert "train_step 1/6 loss" in printed.err


def test_wrong_settings_exit_with_2(tmp_path, capsys):
    path = write_run(tmp_path / "run.yaml", output="out", sead=1)
    assert main([str(path), "--release", "x"]) == 2
    assert "key 'sead' is unknown" in capsys.readouterr().err


def test_an_unusable_release_exits_with_1(tmp_path, capsys):
    path = write_run(tmp_path / "run.yaml", output=str(tmp_path / "out"))
    assert main([str(path), "--release", str(tmp_path / "gone")]) == 1
    assert "no release at" in capsys.readouterr().err


def test_wrong_usage_exits_with_2():
    with pytest.raises(SystemExit) as caught:
        main(["--nothing"])
    assert caught.value.code == 2


@pytest.mark.slow
def test_the_demo_recipe_learns(demo_release, tmp_path):
    done = command(DEMO, "--release", demo_release, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert sum(losses[-10:]) / 10 < 0.7 * sum(losses[:3]) / 3
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["last_loss"] == losses[-1]
    assert set(report["samples_by_category"]) == {"general", "ocr", "language"}


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_weights(demo_release, tmp_path):
    path = write_run(tmp_path / "run.yaml", output="x", optimisation={"num_train_steps": 60}, checkpoint={"every": 2})
    arguments = [str(path), "--release", str(demo_release), "--output"]
    assert command(*arguments, tmp_path / "whole").returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *arguments, str(tmp_path / "killed")],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while not list_checkpoints(tmp_path / "killed" / "checkpoints") and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert command(*arguments, tmp_path / "killed").returncode == 0
    expected, found = (load_file(tmp_path / name / "export" / "model.safetensors") for name in ("whole", "killed"))
    assert all(bool((value == expected[name]).all()) for name, value in found.items())


@pytest.mark.slow
@pytest.mark.extra
def test_ray_train_runs_the_same_loop(demo_release, tmp_path):
    path = write_run(
        tmp_path / "run.yaml", output=str(tmp_path / "out"), optimisation={"batch_size": 7, "num_train_steps": None},
        parallel={"ray_workers": 2},
    )  # fmt: skip
    done = command(path, "--release", demo_release)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["num_train_steps"] == 15
    assert sum(report["samples_by_category"].values()) == 200


def test_a_wrong_release_is_told_before_ray_is_started(tmp_path, capsys):
    path = write_run(tmp_path / "run.yaml", output=str(tmp_path / "out"), parallel={"ray_workers": 2})
    assert main([str(path), "--release", str(tmp_path / "gone")]) == 1
    assert "no release at" in capsys.readouterr().err


@pytest.mark.slow
def test_two_ranks_share_the_samples(demo_release, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = write_run(
        tmp_path / "run.yaml", output=str(tmp_path / "out"), optimisation={"batch_size": 7, "num_train_steps": None}
    )
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    done = command(path, "--release", demo_release, before=torchrun)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["num_train_steps"] == 15
    assert sum(report["samples_by_category"].values()) == 200
