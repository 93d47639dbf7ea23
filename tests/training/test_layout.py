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


def test_samples_that_share_a_row_begin_anew():
    first, second = ids(7, IMAGE_ID, 8), ids(9, 5)
    layout = lay_out([first, second, ids(4)], [first, second, ids(4)], [[2], [], []], row_sizes=[2, 1])
    assert layout.is_packed
    assert layout.origin_BT.tolist() == [[0, 5, 6, 1, 2, 3], [4, 7, 7, 7, 7, 7]]
    assert layout.positions_BT.tolist() == [[0, 1, 2, 3, 0, 1], [0] * 6]
    assert layout.samples_BT.tolist() == [[0, 0, 0, 0, 1, 1], [2, -1, -1, -1, -1, -1]]
    assert layout.labels_BT.tolist() == [[7, -100, -100, 8, -100, 5], [4, -100, -100, -100, -100, -100]]
    assert not lay_out([first, second], [first, second], [[2], []]).is_packed
