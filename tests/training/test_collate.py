import pytest
import torch
from PIL import Image

from training.chat import get_template
from training.collate import Collator
from training.errors import SampleError
from training.model.geometry import ImageLayout
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


def test_long_samples_are_cut_where_an_answer_stays():
    whole = collator()([sample("a", (9, 9))])
    length = whole.layout.origin_BT.shape[1]
    cut = collator(max_tokens=length - 1)([sample("a", (9, 9))])
    assert cut.layout.origin_BT.shape == (1, length - 1)
    assert (cut.layout.labels_BT != -100).sum() == 2  # of the answer "ab" and its end token
    assert (cut.sample_ids, cut.too_long, cut.num_given) == (("a",), (), 1)


def test_samples_without_an_answer_before_the_limit_are_left_out_and_told():
    whole = collator()([sample("a", (9, 9))])
    first = int((whole.layout.labels_BT[0] != -100).nonzero()[0])
    batch = collator(max_tokens=first)([sample("a", (9, 9)), sample("b")])
    assert (batch.sample_ids, batch.too_long, batch.num_given) == (("b",), ("a",), 2)
    assert (batch.pixels, batch.image_sizes) == ((), ())
    assert collator(max_tokens=first + 1)([sample("a", (9, 9))]).sample_ids == ("a",)
    assert collator(max_tokens=3)([sample("a", (9, 9))]).layout.origin_BT.shape == (0, 0)


def test_the_padded_layout_has_whole_grids():
    batch = collator(image_layout=ImageLayout.PADDED)([sample("a", (10, 2))])
    assert batch.layout.num_image_tokens == 2 * 3


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


def test_packs_are_packed_anew_by_their_true_lengths():
    samples = [sample(name, *[(9, 9)] * (name in "ac")) for name in "abcde"]
    alone = collator()(samples)
    lengths = alone.layout.attention_BT.sum(dim=1)
    limit = int(lengths.max()) + int(lengths.min())
    batch = collator(is_packed=True, max_tokens=limit)([samples[:4], samples[4:]])
    assert (batch.num_given, sorted(batch.sample_ids)) == (2, list("abcde"))
    assert batch.layout.attention_BT.sum() == lengths.sum(), "no sample is cut because of another"
    assert len(batch.layout.origin_BT) < 5
    assert batch.layout.origin_BT.shape[1] <= limit
    assert torch.equal(batch.layout.samples_BT.unique(), torch.arange(-1, 5)[-len(batch.layout.samples_BT.unique()) :])
    assert [len(batch.pixels[0]), len(batch.image_sizes)] == [2, 2]
