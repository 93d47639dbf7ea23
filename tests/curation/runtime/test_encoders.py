from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curation.errors import ConfigurationError
from curation.runtime.encoders import TextEncoder, VisionEncoder
from tests.support.tiny_models import write_text_model, write_vision_model

WORDS = [f"w{number}" for number in range(50)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("model"), WORDS)


def test_vectors_have_length_one_and_mean_what_the_words_mean(model: Path):
    encoder = TextEncoder(model, 64)
    texts = ["w1 w2 w3 w4 w5 w6", "w6 w4 w2 w5 w3 w1", "w20 w21 w22 w23", ""]
    vectors = encoder.encode(texts)
    assert np.linalg.norm(vectors, axis=1).round(5).tolist() == [1, 1, 1, 0]
    assert vectors[0] @ vectors[1] > 0.98
    assert vectors[0] @ vectors[2] < 0.9


def test_company_hardly_changes_a_vector(model: Path):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, size)) for size in rng.integers(1, 60, 100)]
    encoder = TextEncoder(model, 64)
    together = encoder.encode(texts)
    assert np.array_equal(together, encoder.encode(texts))
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-5
    assert encoder.encode([]).shape[0] == 0


def test_only_the_first_tokens_count(model: Path):
    encoder = TextEncoder(model, 8)
    start = " ".join(WORDS[:8])
    one, other = encoder.encode([f"{start} w20 w21", f"{start} w30"])
    assert np.allclose(one, other, atol=1e-6)


def test_weights_in_pickles_are_not_loaded(model: Path, tmp_path: Path):
    for path in model.iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    with pytest.raises(ConfigurationError, match="transformers cannot load it"):
        TextEncoder(tmp_path, 64)
    assert not Path("executed").exists()


def test_weights_that_are_missing_are_not_made_up(model: Path, tmp_path: Path):
    from safetensors.numpy import load_file, save_file

    for path in model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(model / "model.safetensors")
    gone = next(name for name in sorted(tensors) if "attention" in name)
    save_file(
        {name: values for name, values in tensors.items() if name != gone}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ConfigurationError, match=f"1 of its weights are in no .*{gone}"):
        TextEncoder(tmp_path, 64)


def test_pictures_that_differ_in_a_pixel_mean_the_same(tmp_path: Path):
    encoder = VisionEncoder(write_vision_model(tmp_path))
    first, other = np.random.default_rng(0).integers(0, 256, (2, 40, 30, 3), np.uint8)
    touched = first.copy()
    touched[0, 0] = 255 - touched[0, 0]
    vectors = encoder.encode([Image.fromarray(pixels) for pixels in (first, touched, other)])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.99
    assert vectors[0] @ vectors[2] < 0.9
    assert len(encoder.encode([])) == 0
