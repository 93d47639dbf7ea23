import pytest
import torch

from training.errors import SampleError
from training.layout import IGNORE_ID, IMAGE_ID, lay_out


def ids(*numbers):
    return torch.tensor(numbers)


def test_tokens_are_spliced_in_place_and_padded_right():
    layout = lay_out([ids(7, IMAGE_ID, 8), ids(9)], [ids(7, -100, 8), ids(9)], [[2], []])
    assert layout.text_W.tolist() == [7, 8, 9]
    assert layout.origin_BT.tolist() == [[0, 3, 4, 1], [2, 5, 5, 5]]
    assert layout.labels_BT.tolist() == [[7, IGNORE_ID, IGNORE_ID, 8], [9, IGNORE_ID, IGNORE_ID, IGNORE_ID]]
    assert layout.attention_BT.tolist() == [[True] * 4, [True, False, False, False]]
    assert layout.positions_BT.tolist() == [[0, 1, 2, 3], [0, 0, 0, 0]]


def test_adjacent_images_and_edges():
    layout = lay_out([ids(IMAGE_ID, IMAGE_ID)], [ids(-100, -100)], [[1, 2]])
    assert layout.origin_BT.tolist() == [[0, 1, 2]]


def test_long_sequences_are_cut():
    layout = lay_out([ids(1, IMAGE_ID, 2)], [ids(1, -100, 2)], [[3]], max_tokens=3)
    assert layout.origin_BT.tolist() == [[0, 2, 3]]


def test_markers_and_images_must_agree():
    with pytest.raises(SampleError, match="sample 1 of the batch has 0 image markers and 1 images"):
        lay_out([ids(1), ids(2)], [ids(1), ids(2)], [[], [4]])


def test_an_empty_batch_is_empty():
    assert lay_out([], [], []).origin_BT.shape == (0, 0)
