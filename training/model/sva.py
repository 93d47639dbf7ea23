"""The Spatial Vision Aggregator: each query of a grid attends to the patch of every encoder that lies under it.

Parameter names are those of cambrian-mllm/cambrian (vision_sampler.py), so its weights load as they are. The arithmetic is
arranged otherwise. A row has one query and m x m keys per encoder; projecting the keys costs m * m products with a d x d
matrix each for K and for V. Where m > 1 the projections are moved to the other side: the query is taken into key space
(q_h W_k) and attention-weighted keys are averaged before W_v, one product each whatever m. For the 8B model (19 keys a
query) that is 8 products instead of 38. LayerNorm's weight and bias go along into the projections, so that a key is
normalised once for both; a bias adds one score a head and encoder, which matters because all encoders share one softmax.

Shapes: N rows = batch * side * side, M = m * m keys of one encoder, H heads, E = head width, D hidden, Q query width,
C context width, F key-value width of an encoder.
"""
# ruff: noqa: N803, N806 - names carry the shape suffixes above

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import ConfigError

NUM_HEADS = 16
"""Fixed in the published code; hidden_dim must be a multiple of it."""


def split_regions(features_BLF: Tensor, side: int) -> Tensor:
    """Rearrange a square grid [B, L, F] into the sub-regions under a side x side query grid: [B * side * side, m * m, F].

    Row r is one query, row-major; keys are row-major inside their region. Raises ConfigError unless sqrt(L) is a multiple
    of `side`.
    """
    batch, length, width = features_BLF.shape
    grid = math.isqrt(length)
    m = grid // side
    if grid * grid != length or m * side != grid:
        raise ConfigError(f"{length} tokens are no square grid whose side is a multiple of the query grid's {side}")
    regions = features_BLF.view(batch, side, m, side, m, width).permute(0, 1, 3, 2, 4, 5)
    return regions.reshape(batch * side * side, m * m, width)


def _normed_linear(in_features: int, out_features: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(in_features), nn.Linear(in_features, out_features, bias=False))


class RegionAttention(nn.Module):
    """One query a row over the keys of all encoders under one softmax."""

    def __init__(self, kv_dims: Sequence[int], hidden_dim: int) -> None:
        super().__init__()
        self.num_encoders = len(kv_dims)
        self.head_dim = hidden_dim // NUM_HEADS
        self.q_proj = _normed_linear(hidden_dim, hidden_dim)
        for i, kv_dim in enumerate(kv_dims):
            self.add_module(f"k_proj_{i}", _normed_linear(kv_dim, hidden_dim))
            self.add_module(f"v_proj_{i}", _normed_linear(kv_dim, hidden_dim))
        self.o_proj = nn.Linear(hidden_dim, hidden_dim, bias=False)

    def forward(self, hidden_ND: Tensor, features: Sequence[Tensor], masks: Sequence[Tensor | None]) -> Tensor:
        """Attend from hidden [N, D] to features [N, M_i, F_i]; masks [N, M_i] are True where a key counts. Gives [N, D]."""
        query_NHE = self.q_proj(hidden_ND).unflatten(-1, (NUM_HEADS, self.head_dim)) / math.sqrt(self.head_dim)
        regions = [_normalise(x) if x.shape[1] > 1 else x for x in features]
        scores = [self._scores(i, query_NHE, x, mask) for i, (x, mask) in enumerate(zip(regions, masks, strict=True))]
        weights_NHM = torch.softmax(torch.cat(scores, dim=-1), dim=-1)
        parts = torch.split(weights_NHM, [x.shape[1] for x in regions], dim=-1)
        mixed = [self._mix(i, weights, x) for i, (weights, x) in enumerate(zip(parts, regions, strict=True))]
        attended_ND: Tensor = self.o_proj(torch.stack(mixed).sum(dim=0).flatten(-2))
        return attended_ND

    def _of_one(self, kind: str, i: int, region_N1F: Tensor) -> Tensor:
        """Keys or values [N, H, E] of regions of one cell."""
        projected: Tensor = self.get_submodule(f"{kind}_proj_{i}")(region_N1F[:, 0])
        return projected.view(-1, NUM_HEADS, self.head_dim)

    def _projection(self, kind: str, i: int) -> tuple[Tensor, Tensor]:
        """LayerNorm's weight and bias taken into the projection after it, by heads: [H, E, F] and [H, E]."""
        norm, linear = self.get_submodule(f"{kind}_proj_{i}").children()
        assert isinstance(norm, nn.LayerNorm) and isinstance(linear, nn.Linear)
        weight, shift = linear.weight * norm.weight, linear.weight @ norm.bias
        return weight.view(NUM_HEADS, self.head_dim, -1), shift.view(NUM_HEADS, self.head_dim)

    def _scores(self, i: int, query_NHE: Tensor, region_NMF: Tensor, mask_NM: Tensor | None) -> Tensor:
        if region_NMF.shape[1] == 1:
            scores_NHM = (query_NHE * self._of_one("k", i, region_NMF)).sum(dim=-1, keepdim=True)
        else:
            weight_HEF, shift_HE = self._projection("k", i)
            moved_NHF = torch.einsum("nhe,hef->nhf", query_NHE, weight_HEF)
            scores_NHM = moved_NHF @ region_NMF.transpose(1, 2) + (query_NHE * shift_HE).sum(dim=-1, keepdim=True)
        if mask_NM is None:
            return scores_NHM
        return scores_NHM.masked_fill(~mask_NM.unsqueeze(1), torch.finfo(scores_NHM.dtype).min)

    def _mix(self, i: int, weights_NHM: Tensor, region_NMF: Tensor) -> Tensor:
        if region_NMF.shape[1] == 1:
            return weights_NHM * self._of_one("v", i, region_NMF)
        weight_HEF, shift_HE = self._projection("v", i)
        mean_NHF = weights_NHM.to(region_NMF.dtype) @ region_NMF
        value_NHE = torch.einsum("nhf,hef->nhe", mean_NHF, weight_HEF)
        return value_NHE + weights_NHM.sum(dim=-1, keepdim=True) * shift_HE


def _normalise(x: Tensor) -> Tensor:
    """LayerNorm without its weights, once in the type that the products after it compute in."""
    normed = functional.layer_norm(x, x.shape[-1:])
    if torch.is_autocast_enabled(x.device.type):
        return normed.to(torch.get_autocast_dtype(x.device.type))
    return normed


class TwoLinears(nn.Module):
    """Linear, exact GELU, Linear, without bias."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_features, in_features, bias=False)
        self.linear_2 = nn.Linear(in_features, out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Along the last axis."""
        out: Tensor = self.linear_2(functional.gelu(self.linear_1(x)))
        return out


class SamplerLayer(nn.Module):
    """One layer: fuse query and context, attend, and add the result to the query."""

    def __init__(
        self, q_dim: int, context_dim: int, kv_dims: Sequence[int], region_sides: Sequence[int], *, hidden_dim: int
    ) -> None:
        super().__init__()
        for i, (kv_dim, side) in enumerate(zip(kv_dims, region_sides, strict=True)):
            if side > 1:
                self.register_parameter(f"pos_embed_{i}", nn.Parameter(torch.randn(side * side, kv_dim)))
        self.proj_context = nn.Linear(context_dim, hidden_dim, bias=False)
        self.proj_in = nn.Linear(q_dim + hidden_dim, hidden_dim, bias=False)
        self.cross_attn = RegionAttention(kv_dims, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)
        self.proj_out = TwoLinears(hidden_dim, q_dim)
        self._region_sides = tuple(region_sides)

    def forward(
        self,
        query_NQ: Tensor,
        context_IC: Tensor,
        context_rows: Tensor | None,
        features: Sequence[Tensor],
        masks: Sequence[Tensor | None],
    ) -> Tensor:
        """The updated query [N, Q]."""
        of_query, of_context = self.proj_in.weight.tensor_split([query_NQ.shape[1]], dim=1)
        context = functional.linear(self.proj_context(context_IC), of_context)
        hidden_ND = functional.linear(query_NQ, of_query) + (context if context_rows is None else context[context_rows])
        placed = [
            x + self.get_parameter(f"pos_embed_{i}") if side > 1 else x
            for i, (x, side) in enumerate(zip(features, self._region_sides, strict=True))
        ]
        attended_ND = self.cross_attn(hidden_ND, placed, masks)
        out_NQ: Tensor = query_NQ + self.proj_out(self.norm(hidden_ND + attended_ND))
        return out_NQ


class VisionTokenSampler(nn.Module):
    """`num_layers` sampler layers in sequence over the same features.

    `kv_dims` and `region_sides` (m, keys of an encoder are m x m) hold one number an encoder.
    """

    def __init__(
        self,
        q_dim: int,
        context_dim: int,
        kv_dims: Sequence[int],
        region_sides: Sequence[int],
        hidden_dim: int = 1024,
        num_layers: int = 1,
    ) -> None:
        super().__init__()
        if hidden_dim % NUM_HEADS:
            raise ConfigError(f"hidden_dim is {hidden_dim}; expected a multiple of the {NUM_HEADS} heads")
        if not kv_dims or len(kv_dims) != len(region_sides):
            raise ConfigError(f"{len(kv_dims)} kv_dims and {len(region_sides)} region_sides; expected one of each an encoder")
        self.layers = nn.ModuleList(
            SamplerLayer(q_dim, context_dim, kv_dims, region_sides, hidden_dim=hidden_dim) for _ in range(num_layers)
        )

    def forward(
        self,
        queries: Tensor,
        context: Tensor,
        features: Sequence[Tensor],
        masks: Sequence[Tensor | None] | None = None,
        context_rows: Tensor | None = None,
    ) -> Tensor:
        """Update queries [N, 1, Q] from context [N, 1, C] and features [N, m_i * m_i, F_i].

        All queries of an image have the same context: with `context_rows` [N], context is [I, 1, C] and says which row each
        query has, so that a context is projected once. Masks [N, m_i * m_i] are boolean, True where a key may be attended to;
        a row without any attends to all keys alike.
        """
        query_NQ, context_NC = queries.squeeze(1), context.squeeze(1)
        for layer in self.layers:
            query_NQ = layer(query_NQ, context_NC, context_rows, features, masks or [None] * len(features))
        return query_NQ.unsqueeze(1)
