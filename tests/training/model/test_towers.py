import pytest
import torch

from tests.support.golden import Golden
from training.errors import ConfigError
from training.model.towers import TowerKind, build_tower, join_stages, resample_grid

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIGS = {
    TowerKind.CLIP: SMALL | {"patch_size": 8},
    TowerKind.SIGLIP: SMALL | {"patch_size": 8},
    TowerKind.DINOV2: {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2, "patch_size": 8},
    TowerKind.CONVNEXT: {"hidden_sizes": [4, 6, 8, 10], "depths": [1, 1, 1, 1]},
}


@pytest.mark.parametrize("kind", list(TowerKind))
@pytest.mark.parametrize("grid_side", [4, 6])
def test_every_tower_gives_a_square_grid(kind, grid_side):
    tower = build_tower(kind, side_px=32, grid_side=grid_side, config=CONFIGS[kind])
    features = tower(torch.randn(2, 3, 32, 32))
    assert features.shape == (2, grid_side**2, tower.width)
    assert features.isfinite().all()


@pytest.mark.parametrize("kind", list(TowerKind))
def test_towers_are_frozen(kind):
    tower = build_tower(kind, side_px=32, grid_side=4, config=CONFIGS[kind]).train()
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert not any(module.training for module in tower.modules())
    assert not tower(torch.randn(1, 3, 32, 32)).requires_grad


def test_clip_gives_the_layer_before_the_last_without_class_token():
    tower = build_tower(TowerKind.CLIP, side_px=32, grid_side=4, config=CONFIGS[TowerKind.CLIP])
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
    tower = build_tower(TowerKind.DINOV2, side_px=32, grid_side=4, config=CONFIGS[TowerKind.DINOV2])
    tower.backbone.save_pretrained(tmp_path)
    again = build_tower(TowerKind.DINOV2, side_px=32, grid_side=4, path=tmp_path)
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(tower(pixels), again(pixels))


def test_wrong_settings_are_named(tmp_path):
    with pytest.raises(ConfigError, match="either `config`"):
        build_tower(TowerKind.CLIP, side_px=32, grid_side=4)
    with pytest.raises(ConfigError, match="no folder"):
        build_tower(TowerKind.CLIP, side_px=32, grid_side=4, path=tmp_path / "gone")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        build_tower(TowerKind.CLIP, side_px=32, grid_side=4, path=tmp_path)


def test_padding_colours_are_the_published_ones():
    colours = {kind: build_tower(kind, side_px=32, grid_side=4, config=CONFIGS[kind]).spec.pad_colour for kind in TowerKind}
    assert colours == {
        TowerKind.CLIP: (122, 116, 104),
        TowerKind.SIGLIP: (122, 116, 104),
        TowerKind.DINOV2: (123, 116, 103),
        TowerKind.CONVNEXT: (122, 116, 104),
    }
