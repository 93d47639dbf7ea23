"""Megatron-Energon reads our shards after its own `prepare`. It is no dependency: without it, its rules for tars are held."""

import importlib.util
import itertools
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.releases import demo_samples, write_release

READ = """
import json, sys
from itertools import islice
from megatron.energon import Cooker, CrudeSample, DefaultTaskEncoder, WorkerConfig, get_loader, get_train_dataset, stateless

@stateless
def cook(sample: CrudeSample) -> CrudeSample:
    return sample

class Encoder(DefaultTaskEncoder):
    cookers = [Cooker(cook)]
    decoder = None

config = WorkerConfig(rank=0, world_size=1, num_workers=0)
options = {"batch_size": None, "shuffle_buffer_size": None, "max_samples_per_sequence": None}
dataset = get_train_dataset(sys.argv[1], worker_config=config, task_encoder=Encoder(), **options)
for sample in islice(get_loader(dataset), int(sys.argv[2])):
    parts = {name: len(value) for name, value in sample.items() if name != "json" and isinstance(value, bytes)}
    print(json.dumps([sample["__key__"], json.loads(sample["json"])["conversations"], parts]))
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("energon") / "r", demo_samples(24), samples_per_shard=10)


def members(release):
    """(name, content) of every member by shard."""
    for path in sorted((release / "shards").iterdir()):
        with tarfile.open(path) as tar:
            yield [(member, tar.extractfile(member).read()) for member in tar]


def test_shards_keep_energons_rules(release):
    """Plain files; members of a sample side by side, named alike up to the first dot; no key twice in the set."""
    keys = []
    for shard in members(release):
        assert all(member.isfile() and "/" not in member.name for member, _ in shard)
        keys += [key for key, _ in itertools.groupby(member.name.partition(".")[0] for member, _ in shard)]
    assert len(set(keys)) == len(keys) == 24


@pytest.mark.skipif(importlib.util.find_spec("megatron") is None, reason="needs megatron-energon (tried with 7.4.1)")
def test_energon_prepares_and_reads_a_release(release, tmp_path):
    for shard in (release / "shards").iterdir():
        (tmp_path / shard.name).symlink_to(shard)
    energon = str(Path(sys.executable).with_name("energon"))
    prepare = [energon, "prepare", "--non-interactive", "--split-ratio", "1,0,0", "--sample-type", "CrudeWebdataset"]
    subprocess.run([*prepare, str(tmp_path)], check=True, capture_output=True)
    command = [sys.executable, "-W", "ignore", "-c", READ, str(tmp_path), "24"]
    read = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    theirs = {key: (turns, parts) for key, turns, parts in map(json.loads, read.splitlines())}
    ours = {}
    for member, content in itertools.chain.from_iterable(members(release)):
        key, _, name = member.name.partition(".")
        if name == "json":
            ours[key] = (json.loads(content)["conversations"], {})
        else:
            ours[key][1][name] = len(content)
    assert theirs == ours
