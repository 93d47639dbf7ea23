"""Every shipped recipe, and every run of the encoder study, on the meta device: nothing is loaded, nothing computed."""

import json
from pathlib import Path

import pytest

from tests.support.golden import golden_path
from training.build import outline_model
from training.config import RunConfig, load_config
from training.errors import ConfigError
from training.model.backbones import BACKBONES
from training.model.names import is_adapter, named_parameters
from training.study import ADAPTER_SAMPLES, study_runs

RECIPES = Path(__file__).parents[2] / "training" / "recipes"
TOTALS = {  # reference table: adapter, mm_projector, auxiliary projectors, first sampler, samplers in the model, the whole
    "8b": (302_760_960, 20_979_712, 13_910_016, 47_296_512, 220_569_600, 8_333_022_208),
    "13b": (334_221_312, 31_467_520, 13_910_016, 47_296_512, 241_541_120, 13_350_085_632),
    "34b": (375_085_056, 58_734_592, 13_910_016, 47_296_512, 255_135_744, 34_764_002_304),
}
LAST_SAMPLER_LAYER = {"8b": 27, "13b": 36, "34b": 56}


def count(model, *parts):
    return sum(p.numel() for name, p in named_parameters(model) if any(name.startswith(f"model.{part}") for part in parts))


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("size", sorted(TOTALS))
def test_published_models_have_their_published_sizes(size, stage):
    config = load_config(RECIPES / f"cambrian-{size}-stage{stage}.yaml", release="r")
    assert config.stage == stage
    model = outline_model(config)
    found = (
        sum(p.numel() for name, p in named_parameters(model) if is_adapter(name)),
        count(model, "mm_projector."),
        count(model, "mm_projector_aux"),
        count(model, "vision_sampler_0"),
        count(model, "vision_sampler_layers"),
        sum(p.numel() for p in model.parameters()),
    )
    assert found == TOTALS[size]
    layers = [number for number, layer in enumerate(model.decoder_layers) if layer._forward_hooks]
    assert layers[-1] == LAST_SAMPLER_LAYER[size]
    assert [tower.grid_side for tower in model.towers] == [24, 24, 24, 96]


def test_the_8b_recipe_has_every_published_name():
    expected = json.loads(golden_path("cambrian8b_adapter_shapes.json").read_text())
    model = outline_model(load_config(RECIPES / "cambrian-8b-stage1.yaml", release="r"))
    found = {name: list(p.shape) for name, p in named_parameters(model) if is_adapter(name)}
    assert found == expected.get("shapes", expected)


def test_every_recipe_is_built():
    names = {path.stem for path in RECIPES.glob("*.yaml")}
    assert names == {"demo", "learning"} | {f"cambrian-{size}-stage{stage}" for size in TOTALS for stage in (1, 2)}


STUDY = dict(study_runs())


def test_the_study_is_the_whole_grid():
    assert len(STUDY) == len(BACKBONES) * (len(ADAPTER_SAMPLES) * 2 + 2)
    for name, settings in STUDY.items():
        config = RunConfig.model_validate(settings | {"release": "r"})
        assert config.start_from is None or config.start_from.parent.relative_to("runs/study").as_posix() in STUDY, name


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_every_run_of_the_study_is_built(backbone):
    """Sizes differ between backbones and between frozen and trained ones only, so one of each is built."""
    names = [name for name in STUDY if name.startswith(f"{backbone}/tune-0k")]
    sizes = []
    for name in names:
        model = outline_model(RunConfig.model_validate(STUDY[name] | {"release": "r"}))
        assert model.towers[0].grid_side == 24
        sizes.append(sum(p.numel() for p in model.parameters()))
    encoder = sum(p.numel() for p in model.towers[0].parameters())
    assert sizes[1] - sizes[0] == encoder
    assert sizes[0] > 6_738_000_000


def test_an_outline_needs_the_sizes():
    config = load_config(RECIPES / "cambrian-8b-stage1.yaml", release="r")
    language = config.model.language.model_copy(update={"config": None})
    with pytest.raises(ConfigError, match=r"model\.language\.config"):
        outline_model(config.model_copy(update={"model": config.model.model_copy(update={"language": language})}))
