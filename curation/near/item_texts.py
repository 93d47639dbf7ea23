"""What is compared of a file of samples: whole samples or single turns, as ranges of normalised texts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from curation.cleaning import normalised
from curation.tables import Int64s


@dataclass(frozen=True, slots=True)
class ItemTexts:
    """Item i holds `texts[edges[i]:edges[i + 1]]` of the sample in row `rows[i]` of its file.

    `roles` of the texts are 0 for the human's turns and 1 for the model's; `turns` count question-answer turns from 0, and are
    -1 for whole samples. `answer_chars` is by sample: characters of the model's turns.
    """

    texts: pa.LargeStringArray
    roles: npt.NDArray[np.uint8]
    edges: Int64s
    rows: Int64s
    turns: Int64s
    answer_chars: Int64s

    def questions(self) -> "ItemTexts":
        """The same items, of which only the human's turns are left."""
        is_question = self.roles == 0
        before = np.concatenate([[0], np.cumsum(is_question)])
        return replace(
            self, texts=self.texts.filter(pa.array(is_question)), roles=self.roles[is_question], edges=before[self.edges]
        )


def item_texts(samples: pl.DataFrame, prompts: Sequence[str], *, by_turn: bool) -> ItemTexts:
    """The items of `samples` (columns conversations, images); `prompts` are left out of texts.

    By turn, samples with pictures are cut into question-answer turns; texts alone repeat too easily ("Thanks.").
    """
    turns = samples.select(pl.col("conversations").list.eval(pl.element().struct.field("value")))["conversations"]
    lengths = turns.list.len().to_numpy().astype(np.int64)
    texts = normalised(turns.explode(), prompts)
    is_cut = (samples["images"].list.len().to_numpy() > 0) & by_turn
    num_items = np.where(is_cut, (lengths + 1) // 2, 1)
    rows = np.repeat(np.arange(len(lengths)), num_items)
    places = _places(num_items)
    sizes = np.where(is_cut[rows], np.minimum(2, lengths[rows] - 2 * places), lengths[rows])
    return ItemTexts(
        texts=texts.to_arrow().cast(pa.large_string()),
        roles=(_places(lengths) % 2).astype(np.uint8),
        edges=np.concatenate([[0], np.cumsum(sizes)]),
        rows=rows,
        turns=np.where(is_cut[rows], places, -1),
        answer_chars=_answer_chars(texts, lengths),
    )


def _places(lengths: Int64s) -> Int64s:
    """0, 1, ... within each of consecutive groups of these lengths."""
    return np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _answer_chars(texts: pl.Series, lengths: Int64s) -> Int64s:
    chars = np.where(_places(lengths) % 2 == 1, texts.str.len_chars().to_numpy(), 0)
    running = np.concatenate([[0], np.cumsum(chars)])
    ends = np.cumsum(lengths)
    counted: Int64s = running[ends] - running[ends - lengths]
    return counted
