"""The sampler written down as its formulas stand: every key and value of every region projected, one attention over all.

Takes the weights of a VisionTokenSampler. Slow and obvious: what the arrangement in `training/model/sva.py` is held against,
for its numbers and for its speed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.model.sva import NUM_HEADS, VisionTokenSampler


def run(
    sampler: VisionTokenSampler, queries: Tensor, context: Tensor, features: Sequence[Tensor], masks: Sequence[Tensor]
) -> Tensor:
    """The sampler's result, queries [N, 1, Q] from context [N, 1, C] and features [N, m_i * m_i, F_i]."""
    for layer in sampler.layers:
        queries = _layer(layer, queries, context, features, masks)
    return queries


def _layer(layer: nn.Module, queries: Tensor, context: Tensor, features: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    attention = layer.cross_attn
    hidden = layer.proj_in(torch.cat([queries, layer.proj_context(context)], dim=-1))
    placed = [x + layer.get_parameter(f"pos_embed_{i}") if x.shape[1] > 1 else x for i, x in enumerate(features)]
    keys = torch.cat([attention.get_submodule(f"k_proj_{i}")(x) for i, x in enumerate(placed)], dim=1)
    values = torch.cat([attention.get_submodule(f"v_proj_{i}")(x) for i, x in enumerate(placed)], dim=1)
    mask = torch.cat(list(masks), dim=1)[:, None, None, :]
    attended = functional.scaled_dot_product_attention(
        _heads(attention.q_proj(hidden)), _heads(keys), _heads(values), attn_mask=mask
    )
    hidden = layer.norm(hidden + attention.o_proj(attended.transpose(1, 2).flatten(2)))
    return queries + layer.proj_out.linear_2(functional.gelu(layer.proj_out.linear_1(hidden)))


def _heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2)
