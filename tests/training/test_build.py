import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tests.support.runs import run_settings
from training.build import build_model, build_optimiser, build_stream, build_tokenizer, check_images, freeze
from training.config import RunConfig
from training.errors import ConfigError
from training.model.names import is_adapter, named_parameters
from training.stream import MixtureStream, ShardStream
from training.tokenizers import build_byte_tokenizer


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


def test_the_data_section_reaches_the_stream(release, tmp_path):
    def stream(**data):
        return build_stream(config(release=str(release), data=data))

    assert stream(tail="drop").plan(world_size=2).num_dropped == 1
    assert stream(tail="pad").plan(world_size=2).num_padded == 1
    assert len(stream(keep={"shard": {"min": 2, "max": 3}, "category": ["general"]})) == 20
    assert len(stream(keep={"category": ["ocr", "general"], "num_tokens": {"max": 10**6}})) == 103
    pq.write_table(pa.table({"sample_id": ["s000005", "s000099"]}), tmp_path / "keep.parquet")
    assert {sample["id"] for sample in stream(keep=str(tmp_path / "keep.parquet"))} == {"s000005", "s000099"}
    decoder = stream(decode="pil", side_px=96).options
    assert (decoder.decode, decoder.side_px) == ("pil", 96)
    grouping = stream(group={"tokens_per_image": 4}).order.describe()["grouping"]
    assert grouping == [config().optimisation.batch_size, 64, 4, True]
    assert stream(group={"batch": 32}).order.describe()["grouping"][0] == 32


def test_what_remains_under_a_tail_is_what_steps_are_counted_from(release):
    assert build_stream(config(release=str(release), data={"tail": "drop"})).num_left == 103
    stream = ShardStream(release, tail="drop", rank=0, world_size=2)
    assert (stream.num_left, ShardStream(release, tail="pad", rank=0, world_size=2).num_left) == (102, 104)
    stream.load_state_dict(stream.state_after(50))
    assert stream.num_left == 2


def test_a_schedule_moves_the_weights_of_releases(release):
    by_samples = {0: {str(release): 1.0}, 50: {str(release): 2.0}}
    stream = build_stream(config(release={str(release): 2.0}, data={"schedule": by_samples}))
    assert stream.order.segments[0].plan.pieces[1].start == 50
    stopped = build_stream(config(release={str(release): 2.0}, data={"at_end": "stop"}))
    assert stopped.order.at_end == "stop"


@pytest.mark.parametrize("key", ["group", "at_end", "schedule"])
def test_keys_that_do_not_fit_the_release_are_named(release, key):
    weighted = {"group": {}}
    plain = {"at_end": "stop", "schedule": {0: {"r": 1.0}}}
    data = {key: (weighted | plain)[key]}
    with pytest.raises(ConfigError, match=rf"data\.{key}"):
        build_stream(config(release={str(release): 1.0} if key in weighted else str(release), data=data))


def test_weights_decay_but_not_vectors():
    settings = config(optimisation={"weight_decay": 0.1})
    model = build_model(settings, vocab_size=300)
    freeze(settings, model)
    for group in build_optimiser(settings, model).param_groups:
        assert {parameter.ndim > 1 for parameter in group["params"]} == {group["weight_decay"] > 0}


@pytest.mark.parametrize("stage", [1, 2])
def test_encoders_are_trained_where_settings_say_so(stage):
    tower = run_settings()["model"]["towers"][0] | {"is_trained": True}
    settings = config(stage=stage, model={"towers": [tower]}, optimisation={"learning_rate": None, "tower_learning_rate": 1e-6})
    model = build_model(settings, vocab_size=300)
    freeze(settings, model)
    found = rates(build_optimiser(settings, model), model)
    towers = {name: rate for name, rate in found.items() if name.startswith("vision_towers.0.")}
    assert len(towers) == len(list(model.towers[0].parameters()))
    assert set(towers.values()) == {1e-6}
    assert any(name.startswith("model.layers") for name in found) == (stage == 2)


@pytest.mark.parametrize(("batch_size", "accumulation", "expected"), [(8, 1, 1e-3), (8, 2, 1e-3 * 2**0.5), (2, 1, 5e-4)])
def test_rates_scale_by_the_square_root_of_the_batch(batch_size, accumulation, expected):
    chosen = {"batch_size": batch_size, "accumulation": accumulation, "base_batch_size": 8, "learning_rate": 1e-3}
    settings = config(optimisation=chosen)
    model = build_model(settings, vocab_size=300)
    freeze(settings, model)
    assert [group["lr"] for group in build_optimiser(settings, model).param_groups] == pytest.approx([expected])


def test_a_release_without_pictures_is_refused(release):
    settings = config(release=str(release))
    with pytest.raises(ConfigError, match=r"release 'tiny' holds no image.*data\.text_only"):
        check_images(settings, build_stream(settings))
    settings = config(release=str(release), data={"text_only": True})
    check_images(settings, build_stream(settings))


def test_a_tokenizer_without_the_templates_markers_is_named(tmp_path):
    tokenizer = build_byte_tokenizer()
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "<|eot_id|>"]
    content["model"]["vocab"].pop("<|eot_id|>")
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    PreTrainedTokenizerFast(tokenizer_file=str(path)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"does not know <\|eot_id\|> of the template 'llama_3'"):
        build_tokenizer(config(text={"tokenizer": str(tmp_path), "template": "llama_3"}))
    build_tokenizer(config(text={"tokenizer": str(tmp_path), "template": "phi3"}))


def test_the_wrong_language_model_is_named(tmp_path):
    sizes = run_settings()["model"]["language"]["config"]
    built = build_model(config(), vocab_size=300)
    built.language.save_pretrained(tmp_path)
    same = build_model(config(model={"language": {"path": str(tmp_path), "config": sizes}}), vocab_size=300)
    assert torch.equal(same.language.lm_head.weight, built.language.lm_head.weight)
    with pytest.raises(ConfigError, match="has num_hidden_layers 2, config says 3"):
        build_model(
            config(model={"language": {"path": str(tmp_path), "config": sizes | {"num_hidden_layers": 3}}}), vocab_size=300
        )


def test_a_grid_that_does_not_divide_is_named():
    tower = run_settings()["model"]["towers"][0] | {"grid_side": 3}
    with pytest.raises(ConfigError, match=r"side \[3\] are no multiple of the query grid's 2"):
        build_model(config(model={"towers": [tower]}), vocab_size=300)


def test_the_plain_connector_has_no_samplers():
    with pytest.raises(ConfigError, match=r"model\.samplers\.count to 0"):
        build_model(config(model={"connector": "mlp"}), vocab_size=300)
    model = build_model(config(model={"connector": "mlp", "samplers": {"count": 0}}), vocab_size=300)
    assert {name.split(".")[1] for name, _ in named_parameters(model) if is_adapter(name)} == {"mm_projector", "image_newline"}


def test_nothing_imports_torchvision():
    code = "import sys, training.loop, training.generation, training.study; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_settings_that_went_through_json_give_the_same_stream(release):
    """As those of a checkpoint, or of a worker that Ray started: defaults are then written out."""
    asked = config(release=str(release), data={"text_only": True})
    again = RunConfig.model_validate_json(asked.model_dump_json())
    assert again.fingerprint() == asked.fingerprint()
    assert [sample["id"] for sample in build_stream(again)] == [sample["id"] for sample in build_stream(asked)]
