"""The encoders of the paper's study and of its released models: one row each, sizes as published.

Rows say which module runs an encoder, in what size, and how it wants its images; weights come from a local folder
(transformers) or file (open_clip, timm). An encoder that neither library has is listed with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from training.model.preprocess import CLIP_MEAN, CLIP_STD, HALF, IMAGENET_MEAN, IMAGENET_STD, Colour
from training.model.published import TowerKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Colours:
    """Normalisation, and the mean in whose colour images are padded."""

    mean: Colour
    std: Colour
    pad_mean: Colour


CLIP_COLOURS = Colours(mean=CLIP_MEAN, std=CLIP_STD, pad_mean=CLIP_MEAN)
IMAGENET_COLOURS = Colours(mean=IMAGENET_MEAN, std=IMAGENET_STD, pad_mean=IMAGENET_MEAN)
HALF_COLOURS = Colours(mean=HALF, std=HALF, pad_mean=HALF)
HALF_ON_CLIP = Colours(mean=HALF, std=HALF, pad_mean=CLIP_MEAN)
"""open_clip and timm encoders are padded in CLIP's mean by the published code, whatever they normalise with."""
IMAGENET_ON_CLIP = Colours(mean=IMAGENET_MEAN, std=IMAGENET_STD, pad_mean=CLIP_MEAN)

COLOURS: dict[TowerKind, Colours] = {
    TowerKind.CLIP: CLIP_COLOURS,
    TowerKind.OPEN_CLIP: CLIP_COLOURS,
    TowerKind.SIGLIP: HALF_ON_CLIP,
    TowerKind.DINOV2: IMAGENET_COLOURS,
    TowerKind.CONVNEXT: CLIP_COLOURS,
    TowerKind.VIT: IMAGENET_ON_CLIP,
    TowerKind.IJEPA: IMAGENET_COLOURS,
    TowerKind.SAM: IMAGENET_COLOURS,
    TowerKind.DPT: HALF_COLOURS,
    TowerKind.EVA02: CLIP_COLOURS,
}
"""Of a tower that names no backbone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Backbone:
    """One encoder. `config` are values of its transformers configuration, `norm_eps` that of all its LayerNorms where it
    differs from transformers', `grid_side` the side of its own grid of tokens, `family` how it was supervised."""

    kind: TowerKind
    family: str
    side_px: int
    grid_side: int
    config: Mapping[str, Any] = field(repr=False)
    colours: Colours
    norm_eps: float | None = None


def _vit(width: int, depth: int, heads: int, patch: int, mlp: int | None = None, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads, "patch_size": patch}
    return sizes | {"intermediate_size": mlp or 4 * width} | more


def _dinov2(width: int, depth: int, heads: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "patch_size": 14,
        "mlp_ratio": 4,
    } | more


def _sam(width: int, depth: int, heads: int, whole: list[int]) -> dict[str, Any]:
    return {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads, "global_attn_indexes": whole}


_L16, _L14, _H14 = _vit(1024, 24, 16, 16), _vit(1024, 24, 16, 14), _vit(1280, 32, 16, 14)
_XXL = {"hidden_sizes": [384, 768, 1536, 3072], "depths": [3, 4, 30, 3]}
_CONVNEXT_L = {"hidden_sizes": [192, 384, 768, 1536], "depths": [3, 3, 27, 3]}
_QUICK = {"hidden_act": "quick_gelu"}
_EPS = {"layer_norm_eps": 1e-6}

_LANGUAGE, _SELF, _LABELS, _SEGMENTS, _DEPTH = "language", "self-supervised", "class labels", "segmentation", "depth"


def _row(kind: TowerKind, family: str, side_px: int, grid_side: int, config: Mapping[str, Any], **more: Any) -> Backbone:
    chosen = {"colours": COLOURS[kind]} | more
    return Backbone(kind=kind, family=family, side_px=side_px, grid_side=grid_side, config=config, **chosen)


BACKBONES: dict[str, Backbone] = {
    "clip-l14-336": _row(TowerKind.CLIP, _LANGUAGE, 336, 24, _L14 | _QUICK),
    "dfn-l14-224": _row(TowerKind.OPEN_CLIP, _LANGUAGE, 224, 16, _L14 | _QUICK),
    "dfn-h14-378": _row(TowerKind.OPEN_CLIP, _LANGUAGE, 378, 27, _H14 | _QUICK),
    "eva02-l14-336": _row(TowerKind.EVA02, _LANGUAGE, 336, 24, _vit(1024, 24, 16, 14, 2730, rope_side=16)),
    # timm runs these with the exact GELU, transformers' own conversion with the tanh form; the published models used timm
    "siglip-l16-384": _row(TowerKind.SIGLIP, _LANGUAGE, 384, 24, _L16 | {"hidden_act": "gelu"}),
    "siglip-so400m-384": _row(TowerKind.SIGLIP, _LANGUAGE, 384, 27, _vit(1152, 27, 16, 14, 4304, hidden_act="gelu")),
    "convnext-l-512": _row(TowerKind.CONVNEXT, _LANGUAGE, 512, 64, _CONVNEXT_L),
    "convnext-l-1024": _row(TowerKind.CONVNEXT, _LANGUAGE, 1024, 96, _CONVNEXT_L),
    "convnext-xxl-1024": _row(TowerKind.CONVNEXT, _LANGUAGE, 1024, 96, _XXL, norm_eps=1e-5),
    "dinov2-l14-336": _row(TowerKind.DINOV2, _SELF, 336, 24, _dinov2(1024, 24, 16)),
    "dinov2-l14-518": _row(TowerKind.DINOV2, _SELF, 518, 37, _dinov2(1024, 24, 16)),
    "dinov2-g14-378": _row(TowerKind.DINOV2, _SELF, 378, 27, _dinov2(1536, 40, 24, use_swiglu_ffn=True)),
    "mocov3-b16-224": _row(TowerKind.VIT, _SELF, 224, 14, _vit(768, 12, 12, 16) | _EPS),
    "mocov3-l16-224": _row(TowerKind.VIT, _SELF, 224, 14, _L16 | _EPS),
    "mae-l16-224": _row(TowerKind.VIT, _SELF, 224, 14, _L16 | _EPS, colours=IMAGENET_COLOURS),
    "mae-h14-224": _row(TowerKind.VIT, _SELF, 224, 16, _H14 | _EPS, colours=IMAGENET_COLOURS),
    "ijepa-h14-224": _row(TowerKind.IJEPA, _SELF, 224, 16, _H14 | _EPS),
    "supervised-l16-224": _row(TowerKind.VIT, _LABELS, 224, 14, _L16 | _EPS, colours=HALF_ON_CLIP),
    "supervised-h14-224": _row(TowerKind.VIT, _LABELS, 224, 16, _H14 | _EPS, colours=HALF_ON_CLIP),
    "sam-l16-1024": _row(TowerKind.SAM, _SEGMENTS, 1024, 64, _sam(1024, 24, 16, [5, 11, 17, 23])),
    "sam-h16-1024": _row(TowerKind.SAM, _SEGMENTS, 1024, 64, _sam(1280, 32, 16, [7, 15, 23, 31])),
    "midas-l16-384": _row(TowerKind.DPT, _DEPTH, 384, 24, _L16),
}
UNAVAILABLE: dict[str, str] = {
    "diffusion-21-512": "neither transformers nor timm has the UNet of Stable Diffusion 2.1 with the autoencoder before it",
}
"""The rest of the paper's 23, and why it does not run here."""
