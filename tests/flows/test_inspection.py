import json

import pytest
from typer.testing import CliRunner

from curation.errors import StoreError
from curation.mixture.spec import Mixture
from curation.storage.store import Store
from flows.__main__ import app
from flows.inspection import inspect_stream
from tests.support.releases import numbered_samples, write_release
from tests.support.upstream import build, write_world


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return str(write_release(tmp_path_factory.mktemp("inspected") / "r", numbered_samples(9)))


def test_training_is_asked_in_a_process_of_its_own(release, capfd):
    options = {"step": 1, "batch-size": 4, "shuffle": "file", "keep": None, "json": True}
    assert inspect_stream("which", release, options) == 0
    found = json.loads(capfd.readouterr().out)
    assert [sample["id"] for sample in found["samples"]] == [f"s{number:06d}" for number in range(4, 8)]


def test_its_errors_and_status_are_ours(release, capfd):
    assert inspect_stream("which", release, {"step": 5, "batch-size": 4, "json": False}) == 1
    expected = "curate: there is no step 5 in epoch 0: rank 0 of 1 has 3 batches of 4; give a step from 0 to 2\n"
    assert capfd.readouterr().err == expected


def test_a_mixtures_name_means_its_release_though_a_folder_is_called_so(tmp_path, monkeypatch, capfd):
    store = Store.open(str(tmp_path / "lake"))
    build(write_world(tmp_path / "up"), store, Mixture(name="all"))
    (tmp_path / "all").mkdir()
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["--root", "lake", "stream", "all", "--head", "1", "--json"])
    assert done.exit_code == 0, capfd.readouterr().err
    assert json.loads(capfd.readouterr().out)["samples"]


def test_a_release_that_is_nowhere_is_named(tmp_path):
    done = CliRunner().invoke(app, ["--root", str(tmp_path), "stream", str(tmp_path / "gone")])
    assert isinstance(done.exception, StoreError)
    assert f"'{tmp_path / 'gone'}' is no folder, tar or URL, and no release of the root" in str(done.exception)
