"""Encoder weights under the names they were published with, taken to the names of the transformers modules that run here.

open_clip and timm publish SigLIP, ConvNeXt, DFN and supervised encoders under their own names; the arithmetic is the same, so a
mapping of names and a split of joined projections is all there is to it. Text towers and heads of a file are left aside.
"""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from training.errors import CheckpointError


class TowerKind(StrEnum):
    """Encoders this package knows: what module runs them and which of its outputs is taken (`training/model/towers.py`)."""

    CLIP = "clip"
    OPEN_CLIP = "open_clip"
    SIGLIP = "siglip"
    DINOV2 = "dinov2"
    CONVNEXT = "convnext"
    VIT = "vit"
    IJEPA = "ijepa"
    SAM = "sam"
    DPT = "dpt"
    EVA02 = "eva02"


Rules = tuple[tuple[str, str], ...]
_PREFIXES = ("visual.trunk.", "visual.", "trunk.", "module.base_encoder.")

_TIMM_VIT: Rules = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^blocks\.(\d+)\.norm1\.", r"layers.\1.layernorm_before."),
    (r"^blocks\.(\d+)\.norm2\.", r"layers.\1.layernorm_after."),
    (r"^blocks\.(\d+)\.attn\.(qkv|[qkv])\.", r"layers.\1.attention.\2."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"layers.\1.attention.o_proj."),
    (r"^blocks\.(\d+)\.mlp\.", r"layers.\1.mlp."),
    (r"^norm\.", "layernorm."),
)
_TIMM_DINOV2: Rules = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^mask_token$", "embeddings.mask_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^blocks\.(\d+)\.ls(\d)\.gamma$", r"encoder.layer.\1.layer_scale\2.lambda1"),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"encoder.layer.\1.attention.qkv."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.o_proj."),
    (r"^blocks\.(\d+)\.mlp\.w3\.", r"encoder.layer.\1.mlp.down_proj."),
    (r"^blocks\.(\d+)\.mlp\.w12\.", r"encoder.layer.\1.mlp.gate_up."),
    (r"^blocks\.(\d+)\.", r"encoder.layer.\1."),
    (r"^norm\.", "layernorm."),
)
_TIMM_SIGLIP: Rules = (
    (r"^pos_embed$", "embeddings.position_embedding.weight"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^blocks\.(\d+)\.norm(\d)\.", r"encoder.layers.\1.layer_norm\2."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.\1.self_attn.qkv."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.out_proj."),
    (r"^blocks\.(\d+)\.mlp\.", r"encoder.layers.\1.mlp."),
    (r"^norm\.", "post_layernorm."),
)
_TIMM_CONVNEXT: Rules = (
    (r"^stem\.0\.", "embeddings.patch_embeddings."),
    (r"^stem\.1\.", "embeddings.layernorm."),
    (r"^stages\.(\d+)\.downsample\.", r"encoder.stages.\1.downsampling_layer."),
    (r"^stages\.(\d+)\.blocks\.(\d+)\.gamma$", r"encoder.stages.\1.layers.\2.layer_scale_parameter"),
    (r"^stages\.(\d+)\.blocks\.(\d+)\.conv_dw\.", r"encoder.stages.\1.layers.\2.dwconv."),
    (r"^stages\.(\d+)\.blocks\.(\d+)\.norm\.", r"encoder.stages.\1.layers.\2.layernorm."),
    (r"^stages\.(\d+)\.blocks\.(\d+)\.mlp\.fc(\d)\.", r"encoder.stages.\1.layers.\2.pwconv\3."),
)
_TIMM_EVA02: Rules = ((r"^(cls_token$|pos_embed$|patch_embed\.|blocks\.|norm\.)", r"\1"),)
_OPEN_CLIP: Rules = (
    (r"^class_embedding$", "embeddings.class_embedding"),
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^conv1\.", "embeddings.patch_embedding."),
    (r"^ln_pre\.", "pre_layrnorm."),
    (r"^ln_post\.", "post_layernorm."),
    (r"^transformer\.resblocks\.(\d+)\.ln_(\d)\.", r"encoder.layers.\1.layer_norm\2."),
    (r"^transformer\.resblocks\.(\d+)\.attn\.in_proj_", r"encoder.layers.\1.self_attn.qkv."),
    (r"^transformer\.resblocks\.(\d+)\.attn\.out_proj\.", r"encoder.layers.\1.self_attn.out_proj."),
    (r"^transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"encoder.layers.\1.mlp.fc1."),
    (r"^transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"encoder.layers.\1.mlp.fc2."),
)
_RULES: dict[TowerKind, Rules] = {
    TowerKind.CLIP: _OPEN_CLIP,
    TowerKind.OPEN_CLIP: _OPEN_CLIP,
    TowerKind.SIGLIP: _TIMM_SIGLIP,
    TowerKind.DINOV2: _TIMM_DINOV2,
    TowerKind.CONVNEXT: _TIMM_CONVNEXT,
    TowerKind.VIT: _TIMM_VIT,
    TowerKind.IJEPA: _TIMM_VIT,
    TowerKind.EVA02: _TIMM_EVA02,
}
_JOINED = {"qkv.": ("q_proj.", "k_proj.", "v_proj."), "gate_up.": ("gate_proj.", "up_proj.")}


def from_published_names(
    kind: TowerKind, weights: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """Weights of an open_clip or timm file under the names in `shapes`, those of the transformers module.

    Names that no rule knows are another tower's or a head's. What a file does not hold is not in the result. Raises
    CheckpointError for a kind that has no published names here.
    """
    if kind not in _RULES:
        raise CheckpointError(f"no mapping of published names for tower kind '{kind}'; give `path`, a transformers folder")
    found: dict[str, Tensor] = {}
    for name, value in _strip_prefix(weights):
        for renamed, part in _rename(name, value, _RULES[kind]):
            found[renamed] = part.reshape(shapes[renamed]) if _is_same_but_for_ones(part, shapes.get(renamed)) else part
    return found


def _strip_prefix(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for prefix in _PREFIXES:
        if any(name.startswith(prefix) for name in weights):
            yield from ((name.removeprefix(prefix), value) for name, value in weights.items() if name.startswith(prefix))
            return
    yield from weights.items()


def _rename(name: str, value: Tensor, rules: Rules) -> Iterator[tuple[str, Tensor]]:
    for pattern, replacement in rules:
        renamed, hits = re.subn(pattern, replacement, name)
        if not hits:
            continue
        for joined, parts in _JOINED.items():
            if joined in renamed:
                yield from zip((renamed.replace(joined, part) for part in parts), value.chunk(len(parts)), strict=True)
                return
        yield renamed, value
        return


def _is_same_but_for_ones(value: Tensor, shape: tuple[int, ...] | None) -> bool:
    """Whether only axes of one element differ, as in position tables published with a batch axis."""
    return shape is not None and [n for n in value.shape if n > 1] == [n for n in shape if n > 1]


def load_published(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises CheckpointError naming a file that cannot be read."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"encoder weights '{path}' cannot be read as safetensors: {error}") from error
