import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.golden import Golden
from training.model.geometry import box_cells, box_mask, region_mask, unpadded_box


def test_boxes_equal_the_published_geometry():
    golden = Golden("g1_geometry.safetensors")
    for number, case in enumerate(golden.metadata["cases"]):
        box = unpadded_box(case["side"], case["w"], case["h"])
        assert [box.height, box.width] == case["unpadded_hw"]
        assert torch.equal(box_cells(case["side"], box), golden[f"c{number}.unpad_index"])
        assert torch.equal(box_mask(case["side"], box), golden[f"c{number}.mask"])


@pytest.mark.parametrize(
    ("width", "height", "expected"), [(1333, 800, (14, 24)), (1920, 1080, (14, 24)), (1000, 97, (2, 24)), (101, 100, (24, 24))]
)
def test_measured_examples(width, height, expected):
    box = unpadded_box(24, width, height)
    assert (box.height, box.width) == expected


@given(width=st.integers(1, 10_000), height=st.integers(1, 10_000), side=st.sampled_from([1, 4, 24, 96]))
def test_something_is_always_left(width, height, side):
    box = unpadded_box(side, width, height)
    assert 1 <= box.height <= side
    assert 1 <= box.width <= side
    assert side in {box.height, box.width}


def test_masks_equal_the_published_collator():
    golden = Golden("p2_nonsquare_batch2.safetensors")
    sides = [round(length**0.5) for length in golden.metadata["config"]["mm_vision_tower_aux_token_len_list"]]
    for i, side in enumerate(sides):
        masks = [region_mask(side, 4, *sample["size"]) for sample in golden.metadata["samples"]]
        assert torch.equal(torch.stack(masks), golden[f"static.collated.aux_mask_{i}"])
