"""What a machine must see to get work. Whole clusters: tests/end_to_end/test_cluster.py."""

from pathlib import Path

import pytest

from curation.errors import ConfigurationError
from curation.runtime import cluster
from curation.runtime.cluster import Cluster, Machine, Place, View, look_around
from curation.runtime.settings import EncoderSettings, TaskSettings


def test_a_machine_that_sees_the_same_files_is_fit(tmp_path: Path):
    view = look_around([Place.of(tmp_path)])
    assert view.missing is None
    assert cluster._unfit(view) is None


def test_a_machine_without_the_files_says_which(tmp_path: Path):
    view = look_around([Place.of(tmp_path), Place(str(tmp_path / "lake"), 0.0)])
    assert view.missing == f"{tmp_path / 'lake'}: No such file or directory"


def test_a_disk_of_the_same_name_with_other_files_is_told_apart(tmp_path: Path):
    here = Place.of(tmp_path)
    assert look_around([Place(here.path, here.modified - 60)]).missing == f"{tmp_path} is another one there"


def test_other_versions_are_named_beside_ours():
    versions = look_around([]).versions
    told = cluster._unfit(View({**versions, "pillow": "1.0"}, None))
    assert told == f"pillow 1.0, {versions['pillow']} here"


def test_nobody_fit_is_an_error_that_lists_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    machines = [Machine("a", "one (10.0.0.1)", 8, 1 << 30), Machine("b", "two (10.0.0.2)", 8, 1 << 30)]
    monkeypatch.setattr(cluster, "_alive", lambda: machines)
    asked = Cluster(tmp_path, (), lambda _: None)
    asked._problems.update({"a": "no such folder", "b": "numpy 1.0, 2.0 here"})
    with pytest.raises(ConfigurationError, match=r"one \(10.0.0.1\): no such folder; two .*numpy 1.0, 2.0 here"):
        asked.machines()
    asked._problems["b"] = None
    assert asked.machines() == [machines[1]]


def test_a_machine_has_room_for_what_its_scarcest_resource_holds():
    machine = Machine.of("a", "one", {"CPU": 8.0, "memory": 4.0 * 2**30, "GPU": 1.0, "node:1": 1.0})
    assert machine.room_for(TaskSettings()) == 8
    assert machine.room_for(TaskSettings(cpus=0.1)) == 80
    assert machine.room_for(TaskSettings(memory=1 << 30)) == 4
    assert machine.room_for(EncoderSettings(gpus=0.2)) == 5
    assert machine.room_for(EncoderSettings(gpus=2)) == 0
    assert Machine.of("b", "two", {}).room_for(TaskSettings()) == 0
