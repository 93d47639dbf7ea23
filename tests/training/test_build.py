import pytest
import torch

from tests.support.runs import run_settings
from training.build import build_model, build_optimiser, build_stream, freeze
from training.config import RunConfig
from training.errors import ConfigError
from training.model.names import named_parameters
from training.stream import MixtureStream


def config(**changes):
    return RunConfig.model_validate(run_settings(**{"release": "r", "output": "o"} | changes))


def rates(optimiser, model):
    names = {id(parameter): name for name, parameter in named_parameters(model)}
    return {names[id(p)]: group["lr"] for group in optimiser.param_groups for p in group["params"]}


def test_stage_1_trains_the_vision_side_at_two_rates():
    settings = config(stage=1, optimisation={"learning_rate": None})
    model = build_model(settings, vocab_size=300)
    freeze(settings, model)
    found = rates(build_optimiser(settings, model), model)
    assert not any(name.startswith(("model.layers", "lm_head", "model.embed_tokens")) for name in found)
    assert len(found) == len(list(model.connector.parameters()))
    for name, rate in found.items():
        assert rate == (1e-4 if "vision_sampler" in name or "vision_query" in name else 1e-3)
    assert not any(parameter.requires_grad for parameter in model.language.parameters())


def test_stage_2_trains_everything_but_the_towers_at_one_rate():
    settings = config(stage=2, optimisation={"learning_rate": None})
    model = build_model(settings, vocab_size=300)
    freeze(settings, model)
    found = rates(build_optimiser(settings, model), model)
    assert set(found.values()) == {4e-5}
    assert found.keys() == {name for name, _ in named_parameters(model)}
    assert not any(parameter.requires_grad for tower in model.towers for parameter in tower.parameters())


def test_weights_come_from_the_seed_alone():
    torch.manual_seed(1)
    first = build_model(config(), vocab_size=300).state_dict()
    torch.manual_seed(2)
    second = build_model(config(), vocab_size=300).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_vocabulary_must_hold_the_tokenizer():
    with pytest.raises(ConfigError, match="the tokenizer has 300 tokens, the language model 100"):
        build_model(config(model={"language": {"config": {"vocab_size": 100}}}), vocab_size=300)


def test_wrong_model_settings_are_named():
    small = {"hidden_size": 10, "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 3}
    with pytest.raises(ConfigError, match=r"model\.language"):
        build_model(config(model={"language": {"config": small}}), vocab_size=300)


def test_weights_make_a_mixture(release):
    stream = build_stream(config(release={str(release): 2.0}, data={"num_samples": 9}))
    assert isinstance(stream, MixtureStream)
    assert len(stream) == 9
    with pytest.raises(ConfigError, match=r"data\.num_samples"):
        build_stream(config(release=str(release), data={"num_samples": 9}))
