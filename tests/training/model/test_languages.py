"""The samplers inside a language model: any stock causal model, gradient checkpointing, generation."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from training.errors import ConfigError
from training.layout import IGNORE_ID, IMAGE_ID, lay_out
from training.model.cambrian import Cambrian, SamplerPlaces
from training.model.connector import Connector, ConnectorShape
from training.model.geometry import num_image_tokens
from training.model.towers import TowerKind, build_tower, plain_row

SMALL = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
KINDS = ["llama", "qwen2", "qwen3", "mistral", "phi3"]
SIZES = [(40, 20), (10, 10)]


def build(kind, *, is_trained=False):
    torch.manual_seed(0)
    values = SMALL | ({"head_dim": 8} if kind in {"qwen3", "mistral"} else {})
    language = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values))
    config = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}
    tower = build_tower(plain_row(TowerKind.CLIP, side_px=32, grid_side=4, config=config), grid_side=4, is_trained=is_trained)
    shape = ConnectorShape(
        tower_widths=(tower.width,), tower_sides=(4,), language_dim=32, hidden_dim=32, query_sides=(2,), image_side=2,
        depth=1, num_samplers=2,
    )  # fmt: skip
    return Cambrian([tower], Connector(shape), language, SamplerPlaces(start=0, stride=2))


def batch(*, sizes=SIZES):
    ids = [torch.tensor([1, IMAGE_ID, 5, 6, 7]), torch.tensor([2, 3, IMAGE_ID, 9])][: len(sizes)]
    layout = lay_out(ids, ids, [[num_image_tokens(size, 2)] for size in sizes])
    pixels = torch.randn(len(sizes), 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return layout, [pixels], sizes


@pytest.mark.parametrize("kind", KINDS)
def test_samplers_update_the_image_cells_after_their_layers_and_nothing_else(kind):
    model = build(kind).eval()
    layout, pixels, sizes = batch()
    seen = {}
    for number, layer in enumerate(model.decoder_layers):  # these hooks run after the samplers', the pre-hooks see the result
        layer.register_forward_pre_hook(lambda _, inputs, number=number: seen.update({number: inputs[0].detach()}))
    model(layout, pixels, sizes)
    with_samplers = dict(seen)
    for parameter in model.connector.vision_sampler_layers.parameters():
        torch.nn.init.zeros_(parameter)
    model(layout, pixels, sizes)
    is_cell = torch.zeros(layout.origin_BT.shape, dtype=torch.bool)
    is_cell[0, [1, 2, 4, 5]] = True  # 2x2 cells after one text token, each row with its newline
    is_cell[1, [2, 3, 5, 6]] = True
    assert torch.equal(with_samplers[0], seen[0])
    differs = (with_samplers[1] != seen[1]).any(dim=-1)
    assert torch.equal(differs, is_cell)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointed_gradients_are_the_same(kind):
    gradients = []
    for is_checkpointed in (False, True):
        model = build(kind, is_trained=True).train()
        if is_checkpointed:
            model.checkpoint_gradients()
        loss = model(*batch()).loss
        model(*batch(sizes=SIZES[:1]))  # another pass before the backward one must not change what is recomputed
        loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, expected in gradients[0].items():
        assert (expected is None) == (gradients[1][name] is None)
        if expected is not None:
            torch.testing.assert_close(gradients[1][name], expected, atol=1e-6, rtol=1e-5)
    assert gradients[0]["connector.vision_sampler_layers.1.layers.0.proj_in.weight"].abs().sum() > 0
    assert any(name.startswith("vision_towers.0") and value is not None for name, value in gradients[0].items())


@pytest.mark.parametrize("kind", KINDS)
def test_generation_with_a_cache_is_scoring_again_and_again(kind):
    model = build(kind).eval()
    _, pixels, sizes = batch(sizes=SIZES[:1])
    ids = torch.tensor([1, IMAGE_ID, 5, 6, 7])
    lengths = [[num_image_tokens(sizes[0], 2)]]
    found = model.generate(lay_out([ids], [ids], lengths), pixels, sizes, max_new_tokens=5, do_sample=False)[0]
    for _ in range(5):
        logits = model.logits(lay_out([ids], [ids], lengths), model.encode(pixels), sizes)
        ids = torch.cat([ids, logits[0, -1].argmax().view(1)])
    assert torch.equal(found, ids[-5:])


def test_features_of_one_pass_are_gone_in_the_next():
    """The published code keeps those of the last generation and uses them in training."""
    model = build("llama").eval()
    ids = torch.tensor([3, 4, 5, 6, 7, 8, 9])
    text = lay_out([ids], [ids], [[]])
    before = model.logits(text, [], [])
    model.generate(*batch(sizes=SIZES[:1]), max_new_tokens=2, do_sample=False)
    assert torch.equal(model.logits(text, [], []), before)
    assert torch.equal(model.language(ids.unsqueeze(0)).logits, before)


def test_several_beams_are_refused():
    with pytest.raises(ConfigError, match="one beam"):
        build("llama").eval().generate(*batch(sizes=SIZES[:1]), max_new_tokens=2, num_beams=2, do_sample=False)


def test_prompts_of_unequal_length_are_refused():
    with pytest.raises(ConfigError, match="differ in length"):
        build("llama").generate(*batch(), max_new_tokens=2)


def test_a_model_without_decoder_layers_is_named():
    config = AutoConfig.for_model("gpt2", n_embd=32, n_layer=2, n_head=2, vocab_size=64)
    shape = ConnectorShape(tower_widths=(4,), tower_sides=(2,), language_dim=32, hidden_dim=16, query_sides=(2,), image_side=2)
    with pytest.raises(ConfigError, match="'gpt2' has no list of decoder layers"):
        Cambrian([], Connector(shape), AutoModelForCausalLM.from_config(config))


@pytest.mark.parametrize("kind", KINDS)
def test_packed_samples_know_nothing_of_each_other(kind):
    """Two samples with images and two without in two rows: losses and gradients of the four in rows of their own."""
    model = build(kind)
    ids = [torch.tensor(one) for one in ([1, IMAGE_ID, 5, 6, 7], [8, 2], [2, 3, IMAGE_ID, 9], [4, 5, 6])]
    labels = [torch.where(one == IMAGE_ID, IGNORE_ID, one) for one in ids]
    lengths = [[num_image_tokens(SIZES[0], 2)], [], [num_image_tokens(SIZES[1], 2)], []]
    _, pixels, _ = batch()
    outputs, gradients = [], []
    for rows in (None, [3, 1]):
        out = model(lay_out(ids, labels, lengths, row_sizes=rows), pixels, SIZES)
        model.zero_grad()
        out.loss.backward()
        outputs.append(out)
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    alone, packed = outputs
    assert packed.num_targets.tolist() == alone.num_targets.tolist() == [3, 1, 2, 2]
    torch.testing.assert_close(packed.loss, alone.loss)
    torch.testing.assert_close(packed.sample_losses, alone.sample_losses)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradient, gradients[0][name], atol=1e-6, rtol=1e-4)
