from pathlib import Path

import pytest

from tests.support.runs import run_settings, write_run
from training.config import RunConfig, load_config
from training.errors import ConfigError

DEMO = Path(__file__).parents[2] / "training" / "recipes" / "demo.yaml"


def load(tmp_path, **changes):
    return load_config(write_run(tmp_path / "run.yaml", **{"release": "somewhere", "output": "out"} | changes))


def test_the_demo_recipe_is_valid():
    assert load_config(DEMO, release="x").optimisation.num_train_steps == 60


def test_arguments_replace_the_file(tmp_path):
    path = write_run(tmp_path / "run.yaml", release="a", output="b")
    config = load_config(path, release="c", output=Path("d"))
    assert (config.release, config.output) == ("c", Path("d"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sead": 1}, "key 'sead' is unknown; valid here are release, output, seed"),
        ({"checkpoint": {"keeep": 1}}, "key 'checkpoint.keeep' is unknown; valid here are every, keep"),
        ({"optimisation": {"batch_size": 0}}, r"key 'optimisation.batch_size'.*greater than 0 \(found 0\)"),
        ({"text": {"template": "gemma"}}, "template 'gemma' is unknown; valid are v1"),
        ({"stage": 3}, "key 'stage'.*1 or 2"),
        ({"data": {"on_error": "skip", "num_workers": 2}}, "needs num_workers 0"),
        ({"data": {"tail": "cut"}}, "key 'data.tail'.*'even', 'drop' or 'pad'"),
        ({"data": {"keep": {"colour": ["red"]}}}, "key 'data': keep names colour; columns of an index are sample_id"),
        ({"data": {"keep": {"num_tokens": {"most": 3}}}}, "most' is unknown"),
        ({"data": {"group": {"batch": 0}}}, "key 'data.group.batch'"),
        ({"data": {"packing": 0}}, "key 'data.packing'"),
        ({"data": {"packing": 8, "group": {}}}, "key 'data': give either group or packing"),
        ({"data": {"packing": 8}, "model": {"image_layout": "padded"}}, "data.packing needs model.image_layout cropped"),
        ({"data": {"decode": "none"}}, "key 'data.decode'.*'pil' or 'turbo'"),
        ({"model": {"language": {}}}, "give config"),
        ({"model": {"towers": []}}, "model.towers"),
        ({"model": {"towers": [{"kind": "resnet", "side_px": 8, "grid_side": 1}]}}, "model.towers.0.kind"),
        ({"model": {"towers": [{"kind": "vit", "side_px": 8, "grid_side": 1}]}}, "give backbone, or kind"),
        ({"model": {"towers": [{"backbone": "clip-l14-336", "side_px": 8}]}}, "give either backbone, or kind"),
        ({"release": None}, "--release"),
    ],
)
def test_wrong_settings_name_the_key(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=rf"(?s)run\.yaml.*{message}"):
        load(tmp_path, **changes)


@pytest.mark.parametrize("content", ["- a", "a: [", "seed: 1\nseed: 2", "a: !!python/object:os.system {}", b"\xff\xfe\xfa"])
def test_files_that_are_no_settings_are_refused(tmp_path, content):
    path = tmp_path / "run.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_config(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml"):
        load_config(tmp_path / "gone.yaml")


def test_the_fingerprint_holds_what_decides_the_weights():
    def fingerprint(**changes):
        return RunConfig.model_validate(run_settings(**{"release": "r", "output": "o"} | changes)).fingerprint()

    same = fingerprint()
    assert fingerprint(output="p") == fingerprint(data={"num_workers": 2}) == fingerprint(checkpoint={"every": 9}) == same
    assert fingerprint(optimisation={"batch_size": 2, "accumulation": 2}) == fingerprint(parallel={"mode": "shard"}) == same
    assert len({same, fingerprint(seed=4), fingerprint(optimisation={"clip_norm": 5}), fingerprint(data={"window": 8})}) == 4
