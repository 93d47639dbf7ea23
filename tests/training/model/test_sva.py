import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tests.support import straightforward
from tests.support.golden import Golden
from training.errors import ConfigError
from training.model import sva
from training.model.sva import NUM_HEADS, VisionTokenSampler, split_regions

CLOSE = {"atol": 2e-5, "rtol": 1e-4}
FILES = [
    "a1_depth1_nomask",
    "a2_depth1_masks",
    "a3_depth3_grads",
    "a4_24x24_over_24_24_48",
    "a5_llm_layer_shape",
    "a6_sep_layer_type_optional",
]


def golden_sampler(golden):
    config = golden.metadata["config"]
    sides = config["kv_size_list"]
    sampler = VisionTokenSampler(
        config["q_dim"],
        config["context_dim"],
        [config["kv_dim"]] * len(sides),
        sides,
        config["hidden"],
        config["depth"],
        layer_type=config.get("layer_type", "joint"),
    )
    sampler.load_state_dict(golden.below("state."))
    return sampler


@pytest.mark.parametrize("name", FILES)
def test_equals_the_published_sampler(name):
    golden = Golden(f"{name}.safetensors")
    sampler = golden_sampler(golden)
    out = sampler(golden["in.queries"], golden["in.context"], golden.series("in.feat_"), golden.series("in.mask_"))
    torch.testing.assert_close(out, golden["out.queries"], **CLOSE)


@pytest.mark.parametrize("block_bytes", [1, 2000])
def test_blocks_of_rows_change_nothing(monkeypatch, block_bytes):
    """One row at a time, and some."""
    monkeypatch.setattr(sva, "BLOCK_BYTES", block_bytes)
    test_equals_the_published_sampler("a2_depth1_masks")
    test_gradients_equal_the_published_sampler()


@pytest.mark.parametrize("name", FILES)
def test_regions_are_those_of_the_published_code(name):
    golden = Golden(f"{name}.safetensors")
    for grid, region in zip(golden.series("in.grid_"), golden.series("in.feat_"), strict=True):
        assert torch.equal(split_regions(grid, golden.metadata["config"]["query_side"]), region)


def test_gradients_equal_the_published_sampler():
    golden = Golden("a3_depth3_grads.safetensors")
    sampler = golden_sampler(golden)
    inputs = {name: golden[f"in.{name}"].requires_grad_() for name in ["queries", "context", "feat_0", "feat_1", "feat_2"]}
    features = [inputs["feat_0"], inputs["feat_1"], inputs["feat_2"]]
    out = sampler(inputs["queries"], inputs["context"], features, golden.series("in.mask_"))
    out.backward(golden["in.grad_out"])
    for name, value in inputs.items():
        torch.testing.assert_close(value.grad, golden[f"grad.in.{name}"], **CLOSE)
    for name, parameter in sampler.named_parameters():
        torch.testing.assert_close(
            parameter.grad, golden[f"grad.{name}"], **CLOSE, msg=lambda text, name=name: f"{name}: {text}"
        )


def slow_layer(layer, query, context, features, masks):
    """The formulas as they are written down, row by row and head by head."""
    out = []
    attention = layer.cross_attn
    for row in range(len(query)):
        hidden = layer.proj_in(torch.cat([query[row], layer.proj_context(context[row])]))
        keys, values, allowed = [], [], []
        for i, regions in enumerate(features):
            x = regions[row] + (layer.get_parameter(f"pos_embed_{i}") if regions.shape[1] > 1 else 0)
            keys.append(attention.get_submodule(f"k_proj_{i}")(x))
            values.append(attention.get_submodule(f"v_proj_{i}")(x))
            allowed.append(masks[i][row])
        keys, values, allowed = torch.cat(keys), torch.cat(values), torch.cat(allowed)
        q = attention.q_proj(hidden)
        width = len(q) // NUM_HEADS
        heads = []
        for head in range(NUM_HEADS):
            part = slice(head * width, (head + 1) * width)
            scores = keys[:, part] @ q[part] / math.sqrt(width)
            heads.append(torch.softmax(scores.masked_fill(~allowed, -math.inf), 0) @ values[:, part])
        hidden = layer.norm(hidden + attention.o_proj(torch.cat(heads)))
        out.append(query[row] + layer.proj_out.linear_2(functional.gelu(layer.proj_out.linear_1(hidden))))
    return torch.stack(out)


@given(
    sides=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    depth=st.integers(1, 2),
    rows=st.integers(1, 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=15, deadline=None)
def test_equals_the_plain_formulas(sides, depth, rows, seed):
    torch.manual_seed(seed)
    sampler = VisionTokenSampler(5, 6, [7 + i for i in range(len(sides))], sides, hidden_dim=32, num_layers=depth)
    for parameter in sampler.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    query, context = torch.randn(rows, 1, 5), torch.randn(rows, 1, 6)
    features = [torch.randn(rows, side * side, 7 + i) for i, side in enumerate(sides)]
    masks = [torch.rand(rows, side * side) < 0.6 for side in sides]
    masks[0][:, 0] = True
    expected = query[:, 0]
    for layer in sampler.layers:
        expected = slow_layer(layer, expected, context[:, 0], features, masks)
    torch.testing.assert_close(sampler(query, context, features, masks)[:, 0], expected, atol=1e-5, rtol=1e-4)


def test_equals_the_straightforward_formulation_with_gradients():
    torch.manual_seed(2)
    sampler = VisionTokenSampler(32, 32, [32, 32], [1, 4], hidden_dim=32, num_layers=3)
    features = [torch.randn(9, 1, 32), torch.randn(9, 16, 32)]
    masks = [torch.ones(9, 1, dtype=torch.bool), torch.rand(9, 16) < 0.5]
    query, context = torch.randn(9, 1, 32), torch.randn(9, 1, 32)
    gradients = []
    for run in (sampler, partial(straightforward.run, sampler)):
        sampler.zero_grad()
        out = run(query, context, features, masks)
        out.square().sum().backward()
        gradients.append((out, [p.grad.clone() for p in sampler.parameters()]))
    torch.testing.assert_close(gradients[0][0], gradients[1][0], atol=1e-5, rtol=1e-4)
    for ours, theirs in zip(gradients[0][1], gradients[1][1], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_contexts_by_image_equal_contexts_by_row():
    sampler = VisionTokenSampler(8, 8, [8], [2], hidden_dim=16, num_layers=2)
    query, features, context = torch.randn(6, 1, 8), [torch.randn(6, 4, 8)], torch.randn(2, 1, 8)
    rows = torch.tensor([0, 0, 1, 1, 1, 0])
    by_row = sampler(query, context[rows], features)
    torch.testing.assert_close(sampler(query, context, features, None, rows), by_row, atol=1e-6, rtol=1e-5)


def test_autocast_computes_in_bfloat16_close_to_float32():
    torch.manual_seed(2)
    sampler = VisionTokenSampler(32, 32, [32, 32], [1, 4], hidden_dim=32)
    inputs = (torch.randn(9, 1, 32), torch.randn(9, 1, 32), [torch.randn(9, 1, 32), torch.randn(9, 16, 32)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sampler(*inputs)
    torch.testing.assert_close(found.float(), sampler(*inputs), atol=0.1, rtol=0.1)


def test_no_masks_means_all_keys():
    sampler = VisionTokenSampler(8, 8, [8, 8], [1, 2], hidden_dim=16)
    query, features = torch.randn(3, 1, 8), [torch.randn(3, 1, 8), torch.randn(3, 4, 8)]
    ones = [torch.ones(3, 1, dtype=torch.bool), torch.ones(3, 4, dtype=torch.bool)]
    assert torch.equal(sampler(query, query, features), sampler(query, query, features, ones))


def test_a_row_that_masks_everything_stays_finite():
    sampler = VisionTokenSampler(8, 8, [8], [2], hidden_dim=16)
    out = sampler(torch.randn(1, 1, 8), torch.randn(1, 1, 8), [torch.randn(1, 4, 8)], [torch.zeros(1, 4, dtype=torch.bool)])
    assert out.isfinite().all()


def test_wrong_sizes_are_named():
    with pytest.raises(ConfigError, match="multiple of the 16 heads"):
        VisionTokenSampler(8, 8, [8], [1], hidden_dim=24)
    with pytest.raises(ConfigError, match="2 kv_dims and 1 region_sides"):
        VisionTokenSampler(8, 8, [8, 8], [1], hidden_dim=32)
    with pytest.raises(ConfigError, match="30 tokens"):
        split_regions(torch.zeros(1, 30, 2), 5)
    with pytest.raises(ConfigError, match="multiple of the query grid's 4"):
        split_regions(torch.zeros(1, 36, 2), 4)


def test_a_context_that_all_rows_share_may_be_expanded():
    sampler = VisionTokenSampler(5, 6, [7, 8], [1, 2], hidden_dim=32)
    queries, context = torch.randn(3, 1, 5), torch.randn(1, 1, 6)
    features = [torch.randn(3, 1, 7), torch.randn(3, 4, 8)]
    alike = sampler(queries, context.repeat(3, 1, 1), features)
    torch.testing.assert_close(sampler(queries, context.expand(3, 1, 6), features), alike, **CLOSE)
    nothing = sampler(queries[:0], context.expand(0, 1, 6), [x[:0] for x in features])
    assert nothing.shape == (0, 1, 5)
