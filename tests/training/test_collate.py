import pytest
import torch
from PIL import Image

from training.chat import get_template
from training.collate import Collator
from training.errors import SampleError
from training.model.preprocess import HALF, ImageSpec
from training.tokenizers import build_byte_tokenizer

SPECS = (ImageSpec(side_px=8, mean=HALF, std=HALF, pad_mean=HALF), ImageSpec(side_px=4, mean=HALF, std=HALF, pad_mean=HALF))


def collator(**changes):
    settings = {
        "tokenizer": build_byte_tokenizer(), "template": get_template("phi3", system="S"), "specs": SPECS, "image_side": 2,
        "max_tokens": 500,
    }  # fmt: skip
    return Collator(**settings | changes)


def sample(sample_id, *sizes, markers=None):
    question = "<image>" * (len(sizes) if markers is None else markers) + "q"
    return {
        "id": sample_id, "source": f"source-{sample_id}", "category": "general", "license": "", "origin": {},
        "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": "ab"}],
        "images": [Image.new("RGB", size) for size in sizes],
    }  # fmt: skip


def test_a_batch_holds_every_image_for_every_tower():
    batch = collator()([sample("a", (10, 10)), sample("b"), sample("c", (10, 5), (5, 10))])
    assert [x.shape for x in batch.pixels] == [(3, 3, 8, 8), (3, 3, 4, 4)]
    assert batch.image_sizes == ((10, 10), (10, 5), (5, 10))
    assert batch.sample_ids == ("a", "b", "c")
    assert batch.sources == ("source-a", "source-b", "source-c")
    assert batch.layout.num_image_tokens == 6 + 6 + 6
    assert (batch.layout.labels_BT != -100).sum(dim=1).tolist() == [3, 3, 3]


def test_text_alone_brings_no_pixels():
    batch = collator()([sample("a"), sample("b")])
    assert (batch.pixels, batch.image_sizes, batch.layout.num_image_tokens) == ((), (), 0)


def test_no_samples_make_an_empty_batch():
    assert len(collator()([]).layout.origin_BT) == 0


def test_long_samples_are_cut():
    assert collator(max_tokens=9)([sample("a", (9, 9))]).layout.origin_BT.shape == (1, 9)


def test_markers_and_images_must_agree():
    with pytest.raises(SampleError, match="sample 'a' of source 'source-a' has 2 image markers in its questions and 1 images"):
        collator()([sample("a", (9, 9), markers=2)])


def test_unusable_conversations_name_the_sample():
    bad = sample("a") | {"conversations": []}
    with pytest.raises(SampleError, match="sample 'a' of source"):
        collator()([bad])


def test_batches_move_as_a_whole():
    moved = collator()([sample("a", (9, 9))]).to(torch.device("meta"))
    assert {moved.layout.origin_BT.device.type, moved.pixels[0].device.type, moved.layout.text_W.device.type} == {"meta"}
