"""A model that is trained on pictures answers questions about others; see docs/training.md for the full figures."""

import pytest
import torch

from benchmarks.learning import draw, learn


@pytest.mark.slow
@pytest.mark.extra
def test_a_tiny_model_learns_to_see(tmp_path):
    """Two kinds of questions, most of a minute on one core. Chance is 0.25; who only knows the questions cannot do better."""
    torch.set_num_threads(1)
    draw(tmp_path, num_train=4_000, num_questions=2)
    accuracy = learn(tmp_path, "sva", num_train_steps=400)
    assert accuracy.blank < 0.4
    assert accuracy.seen > 0.65
    assert accuracy.seen > accuracy.blank + 0.3
    assert accuracy.by_source["counting"] > 0.5
