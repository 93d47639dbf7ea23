from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from tests.support.encoders import Weights, open_clip_vit, timm_convnext, timm_eva02, timm_vit
from tests.support.golden import Golden
from training.errors import CheckpointError, ConfigError
from training.model.backbones import BACKBONES, UNAVAILABLE
from training.model.towers import (
    TowerKind,
    backbone_row,
    build_tower,
    join_stages,
    plain_row,
    resample_grid,
)

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIGS = {
    TowerKind.CLIP: SMALL | {"patch_size": 8},
    TowerKind.SIGLIP: SMALL | {"patch_size": 8},
    TowerKind.DINOV2: {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2, "patch_size": 8},
    TowerKind.CONVNEXT: {"hidden_sizes": [4, 6, 8, 10], "depths": [1, 1, 1, 1]},
    TowerKind.OPEN_CLIP: SMALL | {"patch_size": 8},
    TowerKind.VIT: SMALL | {"patch_size": 8},
    TowerKind.IJEPA: SMALL | {"patch_size": 8},
    TowerKind.SAM: SMALL | {"patch_size": 8, "window_size": 2, "global_attn_indexes": [1], "num_pos_feats": 8},
    TowerKind.DPT: SMALL | {"patch_size": 8, "backbone_out_indices": [0, 1, 1, 1]},
    TowerKind.EVA02: SMALL | {"patch_size": 8, "rope_side": 3},
}


def small_tower(kind, *, grid_side=4, is_trained=False, **where):
    row = plain_row(kind, side_px=32, grid_side=4, config=CONFIGS[kind])
    return build_tower(row, grid_side=grid_side, is_trained=is_trained, **where)


@pytest.mark.parametrize("kind", list(TowerKind))
@pytest.mark.parametrize("grid_side", [4, 6])
def test_every_tower_gives_a_square_grid(kind, grid_side):
    tower = small_tower(kind, grid_side=grid_side)
    features = tower(torch.randn(2, 3, 32, 32))
    assert features.shape == (2, grid_side**2, tower.width)
    assert features.isfinite().all()


@pytest.mark.parametrize("kind", list(TowerKind))
def test_towers_are_frozen(kind):
    tower = small_tower(kind).train()
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert not any(module.training for module in tower.modules())
    assert not tower(torch.randn(1, 3, 32, 32)).requires_grad


def test_clip_gives_the_layer_before_the_last_without_class_token():
    tower = small_tower(TowerKind.CLIP)
    pixels = torch.randn(1, 3, 32, 32)
    hidden = tower.backbone(pixels, output_hidden_states=True).hidden_states
    assert len(hidden) == 3
    assert torch.equal(tower(pixels), hidden[1][:, 1:])


def test_resampling_equals_the_published_code():
    golden = Golden("e1_preprocess.safetensors")
    for number, (_, side) in enumerate(golden.metadata["interp"]):
        torch.testing.assert_close(resample_grid(golden[f"interp{number}.in"], side), golden[f"interp{number}.out"])
    stages = [golden[f"stage{number}.in"] for number in range(4)]
    torch.testing.assert_close(join_stages(stages, golden.metadata["target_side"]), golden["stages.out"])


def test_weights_come_from_a_local_folder(tmp_path):
    tower = small_tower(TowerKind.DINOV2)
    tower.backbone.save_pretrained(tmp_path)
    again = small_tower(TowerKind.DINOV2, path=tmp_path)
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(tower(pixels), again(pixels))


def test_wrong_settings_are_named(tmp_path):
    with pytest.raises(ConfigError, match="no folder"):
        small_tower(TowerKind.CLIP, path=tmp_path / "gone")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        small_tower(TowerKind.CLIP, path=tmp_path)
    with pytest.raises(ConfigError, match="give one"):
        small_tower(TowerKind.CLIP, path=tmp_path, weights=tmp_path)
    with pytest.raises(ConfigError, match="no backbone 'resnet'; valid are clip-l14-336"):
        backbone_row("resnet")
    with pytest.raises(ConfigError, match="neither transformers nor timm"):
        backbone_row("diffusion-21-512")


def test_padding_colours_are_the_published_ones():
    colours = {kind: small_tower(kind).spec.pad_colour for kind in TowerKind}
    released = {kind: colours[kind] for kind in (TowerKind.CLIP, TowerKind.SIGLIP, TowerKind.DINOV2, TowerKind.CONVNEXT)}
    assert released == {
        TowerKind.CLIP: (122, 116, 104),
        TowerKind.SIGLIP: (122, 116, 104),
        TowerKind.DINOV2: (123, 116, 103),
        TowerKind.CONVNEXT: (122, 116, 104),
    }


VIT = {"width": 16, "depth": 2, "heads": 2, "patch": 8, "mlp": 24}
IMAGE = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(3))
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def published(folder, weights, prefix=""):
    """A file as it is published: some prefix, and things of the text tower beside."""
    path = folder / "open_clip_model.safetensors"
    save_file({prefix + name: value for name, value in weights.tensors.items()} | {"logit_scale": torch.ones(1)}, path)
    return path


@pytest.mark.parametrize("prefix", ["visual.trunk.", ""])
def test_siglip_weights_of_timm_run_the_same(tmp_path, prefix):
    weights = Weights()
    expected = timm_vit(weights, IMAGE, **VIT, has_class=False)
    weights("attn_pool.q.weight", 16, 16)  # heads are left aside
    row = plain_row(TowerKind.SIGLIP, side_px=32, grid_side=4, config=CONFIGS[TowerKind.SIGLIP] | {"hidden_act": "gelu"})
    tower = build_tower(row, grid_side=4, weights=published(tmp_path, weights, prefix))
    torch.testing.assert_close(tower(IMAGE.unsqueeze(0))[0], expected, **CLOSE)


@pytest.mark.parametrize("kind", [TowerKind.VIT, TowerKind.IJEPA])
def test_vit_weights_of_timm_run_the_same(tmp_path, kind):
    weights = Weights()
    has_class = kind is TowerKind.VIT
    expected = timm_vit(weights, IMAGE, **VIT, has_class=has_class)[int(has_class) :]
    row = plain_row(kind, side_px=32, grid_side=4, config=CONFIGS[kind] | {"layer_norm_eps": 1e-6})
    tower = build_tower(row, grid_side=4, weights=published(tmp_path, weights))
    torch.testing.assert_close(tower(IMAGE.unsqueeze(0))[0], expected, **CLOSE)


def test_eva02_weights_of_timm_run_the_same(tmp_path):
    weights = Weights()
    expected = timm_eva02(weights, IMAGE, **VIT, rope_side=3)[1:]
    weights("head.weight", 8, 16)  # of the contrastive training, left aside
    tower = small_tower(TowerKind.EVA02, weights=published(tmp_path, weights, "visual.trunk."))
    torch.testing.assert_close(tower(IMAGE.unsqueeze(0))[0], expected, **CLOSE)
    tower.backbone.save_pretrained(tmp_path / "folder")
    again = small_tower(TowerKind.EVA02, path=tmp_path / "folder")
    assert torch.equal(again(IMAGE.unsqueeze(0)), tower(IMAGE.unsqueeze(0)))


@pytest.mark.parametrize("is_swiglu", [False, True])
def test_dinov2_weights_run_the_same(tmp_path, is_swiglu):
    weights = Weights()
    hidden = (int(2 * 16 * 2 / 3) + 7) // 8 * 8 if is_swiglu else 32
    expected = timm_vit(weights, IMAGE, **VIT | {"mlp": hidden}, has_class=True, is_dinov2=True, is_swiglu=is_swiglu)[1:]
    config = CONFIGS[TowerKind.DINOV2] | {"use_swiglu_ffn": is_swiglu}
    row = plain_row(TowerKind.DINOV2, side_px=32, grid_side=4, config=config)
    tower = build_tower(row, grid_side=4, weights=published(tmp_path, weights))
    torch.testing.assert_close(tower(IMAGE.unsqueeze(0))[0], expected, **CLOSE)


@pytest.mark.parametrize("kind", [TowerKind.CLIP, TowerKind.OPEN_CLIP])
def test_clip_weights_of_open_clip_run_the_same(tmp_path, kind):
    weights = Weights()
    before_last, last = open_clip_vit(weights, IMAGE, **VIT)
    expected = (before_last if kind is TowerKind.CLIP else last)[1:]
    row = plain_row(kind, side_px=32, grid_side=4, config=CONFIGS[kind] | {"hidden_act": "quick_gelu"})
    tower = build_tower(row, grid_side=4, weights=published(tmp_path, weights, "visual."))
    torch.testing.assert_close(tower(IMAGE.unsqueeze(0))[0], expected, **CLOSE)


@pytest.mark.parametrize("eps", [1e-6, 1e-3])
def test_convnext_weights_of_timm_run_the_same(tmp_path, eps):
    weights = Weights()
    stages = timm_convnext(weights, IMAGE, widths=[4, 6, 8, 10], depths=[2, 1, 2, 1], eps=eps)
    expected = join_stages([stage.unsqueeze(0) for stage in stages], 6)
    config = {"hidden_sizes": [4, 6, 8, 10], "depths": [2, 1, 2, 1]}
    row = replace(plain_row(TowerKind.CONVNEXT, side_px=32, grid_side=6, config=config), norm_eps=eps)
    tower = build_tower(row, grid_side=6, weights=published(tmp_path, weights, "visual.trunk."))
    torch.testing.assert_close(tower(IMAGE.unsqueeze(0)), expected, **CLOSE)


def test_weights_that_do_not_fit_are_named(tmp_path):
    weights = Weights()
    timm_vit(weights, IMAGE, **VIT | {"depth": 3}, has_class=True)
    del weights.tensors["cls_token"]
    weights.tensors["norm.weight"] = torch.ones(3)
    path = published(tmp_path, weights)
    with pytest.raises(
        CheckpointError, match=r"1 missing \(embeddings.cls_token\); 16 unknown .*1 of another shape \(layernorm"
    ):
        small_tower(TowerKind.VIT, weights=path)
    with pytest.raises(CheckpointError, match="no mapping of published names for tower kind 'sam'"):
        small_tower(TowerKind.SAM, weights=path)
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        small_tower(TowerKind.VIT, weights=tmp_path / "gone")


def test_sam_is_taken_before_its_neck_and_dpt_before_its_norm():
    pixels = IMAGE.unsqueeze(0)
    sam = small_tower(TowerKind.SAM)
    seen = []
    sam.backbone.vision_encoder.layers[-1].register_forward_hook(lambda *call: seen.append(call[2]))
    assert torch.equal(sam(pixels), seen[0].flatten(1, 2))
    dpt = small_tower(TowerKind.DPT)
    dpt.backbone.layernorm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert torch.equal(dpt(pixels), seen[1][:, 1:])


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_of_the_study_is_built(name):
    row = BACKBONES[name]
    with torch.device("meta"):
        tower = build_tower(row, grid_side=row.grid_side)
        features = tower(torch.empty(1, 3, row.side_px, row.side_px))
    assert features.shape == (1, row.grid_side**2, tower.width)


def test_released_encoders_have_their_published_sizes():
    """Width and own grid of the reference table; parameters as published for the vision towers without pooling heads."""
    names = ["siglip-so400m-384", "clip-l14-336", "dinov2-g14-378", "convnext-xxl-1024"]
    with torch.device("meta"):
        towers = [build_tower(BACKBONES[name], grid_side=BACKBONES[name].grid_side) for name in names]
    assert [tower.width for tower in towers] == [1152, 1024, 1536, 5760]
    assert [tower.grid_side for tower in towers] == [27, 24, 27, 96]
    sizes = [sum(p.numel() for p in tower.parameters()) / 1e6 for tower in towers]
    assert [round(size) for size in sizes] == [413, 304, 1135, 843]


def test_the_study_names_all_of_the_papers_families():
    assert len(BACKBONES) + len(UNAVAILABLE) == 23
    assert {row.family for row in BACKBONES.values()} == {
        "language", "self-supervised", "class labels", "segmentation", "depth",
    }  # fmt: skip


@pytest.mark.parametrize("kind", list(TowerKind))
def test_trained_towers_have_gradients(kind):
    tower = small_tower(kind, is_trained=True).train()
    tower(torch.randn(1, 3, 32, 32)).square().mean().backward()
    gradients = [p.grad for p in tower.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
