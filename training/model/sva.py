"""The Spatial Vision Aggregator: each query of a grid attends to the patch of every encoder that lies under it.

Parameter names are those of cambrian-mllm/cambrian (vision_sampler.py), so its weights load as they are. The arithmetic is
arranged otherwise. A row has one query and m x m keys per encoder; projecting the keys costs m * m products with a d x d
matrix each for K and for V. Where m > 1 the projections are moved to the other side: the query is taken into key space
(q_h W_k) and attention-weighted keys are averaged before W_v, one product each whatever m. For the 8B model (19 keys a
query) that is 8 products instead of 38. LayerNorm's weight and bias go along into the projections, so that a key is
normalised once for both; a bias adds one score a head and encoder, which matters because all encoders share one softmax.

On a CPU the rows go in blocks: what is made of large keys is then used while it is in the cache.

Shapes: N rows = batch * side * side, M = m * m keys of one encoder, H heads, E = head width, D hidden, Q query width,
C context width, F key-value width of an encoder.
"""
# ruff: noqa: N803, N806, N815 - names carry the shape suffixes above

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import ConfigError

NUM_HEADS = 16
"""Fixed in the published code; hidden_dim must be a multiple of it."""
BLOCK_BYTES = 2 << 20
"""Keys of one encoder that are worked on together on a CPU: what stays in its cache, and what the allocator hands out again.
With all rows at once, half of the time of what is done to such keys went into fresh pages of memory."""


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


@dataclass(frozen=True, slots=True)
class _Projection:
    """LayerNorm's weight and bias taken into the projection after it, by heads."""

    weight_HEF: Tensor
    shift_HE: Tensor


@dataclass(frozen=True, slots=True)
class _Cells:
    """An encoder with one key a query, which is projected, and so is the value: [N, H, E]."""

    key_NHE: Tensor
    value_NHE: Tensor

    @property
    def row_bytes(self) -> int:
        return self.key_NHE[0:1].nbytes

    def blocks(self, rows: int) -> "Iterator[_Cells]":
        return map(_Cells, torch.split(self.key_NHE, rows), torch.split(self.value_NHE, rows))

    def score(self, query_NHE: Tensor) -> Tensor:
        return (query_NHE * self.key_NHE).sum(dim=-1, keepdim=True)

    def mix(self, weights_NHM: Tensor) -> Tensor:
        return weights_NHM * self.value_NHE


@dataclass(frozen=True, slots=True)
class _Regions:
    """An encoder with several keys a query, not projected: [N, M, F]; `place_MF` tells where in its region a key is."""

    features_NMF: Tensor
    place_MF: Tensor
    key: _Projection
    value: _Projection

    @property
    def row_bytes(self) -> int:
        return self.features_NMF[0:1].nbytes

    def blocks(self, rows: int) -> "Iterator[_Regions]":
        """Some rows at a time, with normalised keys."""
        for x in torch.split(self.features_NMF, rows):
            yield replace(self, features_NMF=_normalise(x + self.place_MF))

    def score(self, query_NHE: Tensor) -> Tensor:
        moved_NHF = torch.einsum("nhe,hef->nhf", query_NHE, self.key.weight_HEF)
        shift_NH1 = (query_NHE * self.key.shift_HE).sum(dim=-1, keepdim=True)
        return moved_NHF @ self.features_NMF.transpose(1, 2) + shift_NH1

    def mix(self, weights_NHM: Tensor) -> Tensor:
        mean_NHF = weights_NHM.to(self.features_NMF.dtype) @ self.features_NMF
        value_NHE = torch.einsum("nhf,hef->nhe", mean_NHF, self.value.weight_HEF)
        return value_NHE + weights_NHM.sum(dim=-1, keepdim=True) * self.value.shift_HE


def _attend(query_NHE: Tensor, encoders: Sequence[_Cells | _Regions], mask_NM: Tensor | None) -> Tensor:
    """Values [N, H, E] of some rows, mixed under one softmax over the keys of all encoders."""
    scores = [encoder.score(query_NHE) for encoder in encoders]
    scores_NHM = torch.cat(scores, dim=-1)
    if mask_NM is not None:
        scores_NHM = scores_NHM.masked_fill(~mask_NM.unsqueeze(1), torch.finfo(scores_NHM.dtype).min)
    weights = torch.split(torch.softmax(scores_NHM, dim=-1), [x.shape[-1] for x in scores], dim=-1)
    return reduce(torch.add, [encoder.mix(x) for encoder, x in zip(encoders, weights, strict=True)])


def _attend_in_blocks(query_NHE: Tensor, encoders: Sequence[_Cells | _Regions], mask_NM: Tensor | None) -> Tensor:
    """`_attend` for all rows: on a CPU as many at a time as have keys that stay in its cache."""
    rows = max(1, len(query_NHE))
    if query_NHE.device.type == "cpu":
        rows = min(rows, *(max(1, BLOCK_BYTES // max(1, encoder.row_bytes)) for encoder in encoders))
    queries = torch.split(query_NHE, rows)
    masks = [None] * len(queries) if mask_NM is None else torch.split(mask_NM, rows)
    blocks = zip(queries, zip(*(encoder.blocks(rows) for encoder in encoders), strict=True), masks, strict=True)
    return torch.cat([_attend(*block) for block in blocks])


def _heads(x_ND: Tensor) -> Tensor:
    return x_ND.unflatten(-1, (NUM_HEADS, -1))  # type: ignore[no-any-return, no-untyped-call]


def _by_heads(projection: nn.Module) -> _Projection:
    norm, linear = projection.children()
    assert isinstance(norm, nn.LayerNorm) and isinstance(linear, nn.Linear)
    weight, shift = linear.weight * norm.weight, linear.weight @ norm.bias
    return _Projection(weight.unflatten(0, (NUM_HEADS, -1)), shift.unflatten(0, (NUM_HEADS, -1)))  # type: ignore[no-untyped-call]


class RegionAttention(nn.Module):
    """One query a row over the keys of all encoders under one softmax."""

    def __init__(self, kv_dims: Sequence[int], hidden_dim: int) -> None:
        super().__init__()
        self.q_proj = _normed_linear(hidden_dim, hidden_dim)
        for i, kv_dim in enumerate(kv_dims):
            self.add_module(f"k_proj_{i}", _normed_linear(kv_dim, hidden_dim))
            self.add_module(f"v_proj_{i}", _normed_linear(kv_dim, hidden_dim))
        self.o_proj = nn.Linear(hidden_dim, hidden_dim, bias=False)

    def forward(
        self, hidden_ND: Tensor, features: Sequence[Tensor], places: Sequence[Tensor | None], mask_NM: Tensor | None
    ) -> Tensor:
        """Attend from hidden [N, D] to features [N, M_i, F_i] with places [M_i, F_i] where M_i > 1; the mask [N, sum M_i] is
        True where a key counts. Gives [N, D].
        """
        query_NHE = _heads(self.q_proj(hidden_ND)) / math.sqrt(hidden_ND.shape[1] // NUM_HEADS)
        encoders = [self._encoder(i, x, place) for i, (x, place) in enumerate(zip(features, places, strict=True))]
        attended_ND: Tensor = self.o_proj(_attend_in_blocks(query_NHE, encoders, mask_NM).flatten(-2))
        return attended_ND

    def _encoder(self, i: int, features_NMF: Tensor, place_MF: Tensor | None) -> _Cells | _Regions:
        key, value = self.get_submodule(f"k_proj_{i}"), self.get_submodule(f"v_proj_{i}")
        if place_MF is not None:
            return _Regions(features_NMF, place_MF, _by_heads(key), _by_heads(value))
        features_NF = features_NMF[:, 0]
        return _Cells(_heads(key(features_NF)), _heads(value(features_NF)))


class SingleAttention(nn.Module):
    """One query a row over several keys of one encoder."""

    def __init__(self, kv_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.q_proj = _normed_linear(hidden_dim, hidden_dim)
        self.k_proj = _normed_linear(kv_dim, hidden_dim)
        self.v_proj = _normed_linear(kv_dim, hidden_dim)
        self.o_proj = nn.Linear(hidden_dim, hidden_dim, bias=False)

    def forward(self, hidden_ND: Tensor, features_NMF: Tensor, place_MF: Tensor, mask_NM: Tensor | None) -> Tensor:
        """Attend from hidden [N, D] to features [N, M, F]. Gives [N, D]."""
        query_NHE = _heads(self.q_proj(hidden_ND)) / math.sqrt(hidden_ND.shape[1] // NUM_HEADS)
        regions = _Regions(features_NMF, place_MF, _by_heads(self.k_proj), _by_heads(self.v_proj))
        attended_ND: Tensor = self.o_proj(_attend_in_blocks(query_NHE, [regions], mask_NM).flatten(-2))
        return attended_ND


def _normalise(x: Tensor) -> Tensor:
    """LayerNorm without its weights, once in the type that the products after it compute in."""
    normed = functional.layer_norm(x, x.shape[-1:])
    if torch.is_autocast_enabled(x.device.type):
        return normed.to(torch.get_autocast_dtype(x.device.type))
    return normed


class TwoLinears(nn.Module):
    """Linear, exact GELU, Linear, without bias."""

    def __init__(self, in_features: int, out_features: int, *, between: int | None = None) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_features, between or in_features, bias=False)
        self.linear_2 = nn.Linear(between or in_features, out_features, bias=False)

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
        mask_NM: Tensor | None,
    ) -> Tensor:
        """The updated query [N, Q]."""
        of_query, of_context = self.proj_in.weight.tensor_split([query_NQ.shape[1]], dim=1)
        context = functional.linear(self.proj_context(context_IC), of_context)
        hidden_ND = functional.linear(query_NQ, of_query) + (context if context_rows is None else context[context_rows])
        places = [self.get_parameter(f"pos_embed_{i}") if side > 1 else None for i, side in enumerate(self._region_sides)]
        attended_ND = self.cross_attn(hidden_ND, features, places, mask_NM)
        out_NQ: Tensor = query_NQ + self.proj_out(self.norm(hidden_ND + attended_ND))
        return out_NQ


class SeparateLayer(nn.Module):
    """The published code's other layer, which no published model uses: every encoder has an attention of its own, or two
    linears where it has one key a query, and what they give is mixed in shares told from query and context.
    """

    def __init__(
        self, q_dim: int, context_dim: int, kv_dims: Sequence[int], region_sides: Sequence[int], *, hidden_dim: int
    ) -> None:
        super().__init__()
        for i, (kv_dim, side) in enumerate(zip(kv_dims, region_sides, strict=True)):
            if side > 1:
                self.register_parameter(f"pos_embed_{i}", nn.Parameter(torch.randn(side * side, kv_dim)))
            gather = SingleAttention(kv_dim, hidden_dim) if side > 1 else TwoLinears(kv_dim, hidden_dim)
            self.add_module(f"aggregate_{i}", nn.ModuleDict({"attention_layer": gather}))
        self.proj_context = nn.Linear(context_dim, hidden_dim, bias=False)
        self.proj_in = nn.Linear(q_dim + hidden_dim, hidden_dim, bias=False)
        if len(kv_dims) > 1:
            self.weight_mlp = TwoLinears(q_dim + hidden_dim, len(kv_dims), between=hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)
        self.proj_out = TwoLinears(hidden_dim, q_dim)
        self._region_sides = tuple(region_sides)

    def forward(
        self,
        query_NQ: Tensor,
        context_IC: Tensor,
        context_rows: Tensor | None,
        features: Sequence[Tensor],
        mask_NM: Tensor | None,
    ) -> Tensor:
        """The updated query [N, Q]."""
        context_ID = self.proj_context(context_IC)
        context_ND = context_ID.expand(len(query_NQ), -1) if context_rows is None else context_ID[context_rows]
        joined = torch.cat([query_NQ, context_ND], dim=-1)
        hidden_ND = self.proj_in(joined)
        sizes = [x.shape[1] for x in features]
        masks = [None] * len(features) if mask_NM is None else torch.split(mask_NM, sizes, dim=1)
        found = [self._gather(i, hidden_ND, x, mask) for i, (x, mask) in enumerate(zip(features, masks, strict=True))]
        if len(found) > 1:
            shares = self.weight_mlp(joined).softmax(dim=-1).unbind(dim=-1)
            found = [x * share.unsqueeze(-1) for x, share in zip(found, shares, strict=True)]
        out_NQ: Tensor = query_NQ + self.proj_out(self.norm(reduce(torch.add, found, hidden_ND)))
        return out_NQ

    def _gather(self, i: int, hidden_ND: Tensor, features_NMF: Tensor, mask_NM: Tensor | None) -> Tensor:
        layer = self.get_submodule(f"aggregate_{i}.attention_layer")
        if self._region_sides[i] == 1:
            return layer(features_NMF[:, 0])  # type: ignore[no-any-return]
        return layer(hidden_ND, features_NMF, self.get_parameter(f"pos_embed_{i}"), mask_NM)  # type: ignore[no-any-return]


_LAYERS = {"joint": SamplerLayer, "sep": SeparateLayer}


class VisionTokenSampler(nn.Module):
    """`num_layers` sampler layers in sequence over the same features.

    `kv_dims` and `region_sides` (m, keys of an encoder are m x m) hold one number an encoder. `layer_type` "sep" is the
    published code's other kind of layer (SeparateLayer).
    """

    def __init__(
        self,
        q_dim: int,
        context_dim: int,
        kv_dims: Sequence[int],
        region_sides: Sequence[int],
        hidden_dim: int = 1024,
        num_layers: int = 1,
        layer_type: Literal["joint", "sep"] = "joint",
    ) -> None:
        super().__init__()
        if hidden_dim % NUM_HEADS:
            raise ConfigError(f"hidden_dim is {hidden_dim}; expected a multiple of the {NUM_HEADS} heads")
        if not kv_dims or len(kv_dims) != len(region_sides):
            raise ConfigError(f"{len(kv_dims)} kv_dims and {len(region_sides)} region_sides; expected one of each an encoder")
        self.layers = nn.ModuleList(
            _LAYERS[layer_type](q_dim, context_dim, kv_dims, region_sides, hidden_dim=hidden_dim) for _ in range(num_layers)
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
        query_NQ, context_IC = queries.squeeze(1), context.squeeze(1)
        if context_rows is None and context_IC.stride(0) == 0:
            context_IC = context_IC[:1]  # one row that was expanded
        mask_NM = _join(masks, features)
        for layer in self.layers:
            query_NQ = layer(query_NQ, context_IC, context_rows, features, mask_NM)
        return query_NQ.unsqueeze(1)


def _join(masks: Sequence[Tensor | None] | None, features: Sequence[Tensor]) -> Tensor | None:
    """One mask [N, sum M_i] over the keys of all encoders; None where all count."""
    if masks is None or all(mask is None for mask in masks):
        return None
    whole = [
        x.new_ones(x.shape[:2], dtype=torch.bool) if mask is None else mask for mask, x in zip(masks, features, strict=True)
    ]
    return torch.cat(whole, dim=1)
