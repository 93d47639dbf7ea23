"""A model that is trained on pictures answers questions about others; see docs/training.md for the full figures."""

import pytest
import torch

from benchmarks.learning import draw, learn


@pytest.mark.slow
@pytest.mark.extra
def test_a_tiny_model_learns_to_see(tmp_path):
    """A minute or two on one core. Chance is 0.25; a model that only knows the questions cannot do better."""
    torch.set_num_threads(1)
    draw(tmp_path)
    accuracy = learn(tmp_path, "sva")
    assert accuracy.blank < 0.4
    assert accuracy.seen > 0.5
    assert accuracy.seen > accuracy.blank + 0.2
    assert accuracy.by_source["counting"] > 0.6
