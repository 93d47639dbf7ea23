"""Conversations to token ids and labels, under the prompt templates of Cambrian-1.

A conversation becomes a list of segments, each text that is trained or not, or an image. What stands between two images is
tokenised in one piece, since some tokenizers treat the start of a text differently, and every token is labelled by the
characters it covers. The published code tokenises each round again and counts; where its counts do not add up it drops the
whole sample, so there is nothing to equal there: here every answer and its end token are trained.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from curation.shard_format import IMAGE_MARKER
from training.errors import ConfigError, SampleError
from training.layout import IGNORE_ID, IMAGE_ID

_SYSTEM_V1 = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_CAMBRIAN = (
    "You are Cambrian, a highly intelligent multimodal AI trained by NYU Vision X.",
    "As a multimodal AI, you have the ability to process and analyze images. Whenever an image is present in the "
    "conversation, very carefully examine it and consider its content when formulating your response.",
    "You should give concise responses to very simple questions, but provide thorough responses to more complex and "
    "open-ended questions.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """How a conversation is written down. `opening` holds `{system}`; answers and `gpt_end` are trained, nothing else.

    `has_bos`: the opening brings its own start token. `between_rounds` stands before every question but the first.
    """

    system: str
    opening: str
    human_start: str
    human_end: str
    gpt_start: str
    gpt_end: str
    between_rounds: str = ""
    has_bos: bool = False
    is_caption: bool = False

    @property
    def markers(self) -> list[str]:
        """Tokens that must be known to a tokenizer as one."""
        text = "".join((self.opening, self.human_start, self.human_end, self.gpt_start, self.gpt_end))
        return sorted(set(re.findall(r"<\|[^|>]+\|>|</s>", text)))


TEMPLATES: dict[str, Template] = {
    "v1": Template(
        system=_SYSTEM_V1,
        opening="{system} ",
        human_start="USER: ",
        human_end=" ",
        gpt_start="ASSISTANT: ",
        gpt_end="</s>",
    ),
    "llama_3": Template(
        system=f"{_CAMBRIAN[0]} \n    {_CAMBRIAN[1]}\n    {_CAMBRIAN[2]} ",
        opening="<|begin_of_text|><|start_header_id|>system<|end_header_id|>{system}<|eot_id|>",
        human_start="<|start_header_id|>user<|end_header_id|>",
        human_end="<|eot_id|>",
        gpt_start="<|start_header_id|>assistant<|end_header_id|>",
        gpt_end="<|eot_id|>",
        has_bos=True,
    ),
    "chatml_direct": Template(
        system=" ".join(_CAMBRIAN),
        opening="<|im_start|>system\n{system}<|im_end|>",
        human_start="<|im_start|>user\n",
        human_end="<|im_end|>",
        gpt_start="<|im_start|>assistant\n",
        gpt_end="<|im_end|>",
    ),
    "phi3": Template(
        system="You are a helpful AI assistant.",
        opening="<|system|>\n{system}<|end|>\n",
        human_start="<|user|>\n",
        human_end="<|end|>\n",
        gpt_start="<|assistant|>\n",
        gpt_end="<|end|>",
        between_rounds="\n",
    ),
    "plain": Template(system="", opening="", human_start="", human_end="", gpt_start="", gpt_end="\n", is_caption=True),
}


@dataclass(frozen=True, slots=True)
class Segment:
    """Text that is trained or not; an image where `text` is None."""

    text: str | None
    is_trained: bool = False


def get_template(name: str, *, system: str | None = None) -> Template:
    """A template by name, with another system text if given. Raises ConfigError for an unknown name."""
    if name not in TEMPLATES:
        raise ConfigError(f"no chat template '{name}'; valid are {', '.join(TEMPLATES)}")
    return TEMPLATES[name] if system is None else replace(TEMPLATES[name], system=system)


def tokenize_conversation(
    conversation: Sequence[Mapping[str, str]], tokenizer: PreTrainedTokenizerBase, template: str | Template
) -> tuple[list[int], list[int]]:
    """Ids with IMAGE_ID for every image marker, and labels that are IGNORE_ID where nothing is trained.

    Raises SampleError for roles that do not alternate, ConfigError for a tokenizer that gives no character offsets.
    """
    chosen = get_template(template) if isinstance(template, str) else template
    if not tokenizer.is_fast:
        raise ConfigError(f"tokenizer {type(tokenizer).__name__} gives no offsets; use its fast version")
    input_ids = [] if chosen.has_bos else _start_ids(tokenizer)
    labels = [IGNORE_ID] * len(input_ids)
    piece: list[Segment] = []
    for segment in [*segment_conversation(conversation, chosen), Segment(None)]:
        if segment.text is not None:
            piece.append(segment)
            continue
        ids, own_labels = _tokenize_piece(piece, tokenizer)
        input_ids += [*ids, IMAGE_ID]
        labels += [*own_labels, IGNORE_ID]
        piece = []
    return input_ids[:-1], labels[:-1]  # without the image that closed the last piece


def tokenize_prompt(question: str, tokenizer: PreTrainedTokenizerBase, template: str | Template) -> list[int]:
    """Ids of a question up to where its answer begins: those that training has there, whatever the tokenizer joins."""
    asked = [{"from": "human", "value": question}, {"from": "gpt", "value": "A"}]
    ids, labels = tokenize_conversation(asked, tokenizer, template)
    while labels and labels[-1] != IGNORE_ID:
        labels.pop()
    return ids[: len(labels)]


def segment_conversation(conversation: Sequence[Mapping[str, str]], template: Template) -> Iterator[Segment]:
    """The text of a conversation under a template, in order."""
    turns = _check_turns(conversation)
    if template.is_caption:
        question, answer = turns[0], turns[1]
        yield from [Segment(None)] * question.count(IMAGE_MARKER)
        yield Segment(answer + template.gpt_end, is_trained=True)
        return
    yield Segment(template.opening.format(system=template.system))
    for number, text in enumerate(turns):
        if number % 2:
            yield Segment(template.gpt_start)
            yield Segment(text + template.gpt_end, is_trained=True)
            continue
        yield Segment((template.between_rounds if number else "") + template.human_start)
        for place, part in enumerate(_place_images(text).split(IMAGE_MARKER)):
            if place:
                yield Segment(None)
            yield Segment(part)
        yield Segment(template.human_end)


def _check_turns(conversation: Sequence[Mapping[str, str]]) -> list[str]:
    """Texts from the first question on; even places are the human's. A first turn that is not the human's is dropped."""
    turns = list(conversation)
    if turns and turns[0].get("from") != "human":
        turns = turns[1:]
    for number, turn in enumerate(turns):
        expected = ("human", "gpt")[number % 2]
        if turn.get("from") != expected or not isinstance(turn.get("value"), str):
            raise SampleError(f"turn {number} is from {turn.get('from')!r}; expected '{expected}' with a text in 'value'")
    if len(turns) < 2:
        raise SampleError(f"a conversation has {len(turns)} usable turns; expected a question and its answer")
    return [turn["value"] for turn in turns]


def _place_images(text: str) -> str:
    """One marker is put in front, as the published code does; several stay where they are, since place has a meaning."""
    if text.count(IMAGE_MARKER) != 1:
        return text
    return f"{IMAGE_MARKER}\n{text.replace(IMAGE_MARKER, '').strip()}"


def _start_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts before any text: its start token or nothing."""
    added: list[int] = tokenizer("").input_ids
    return added[:1] if added and added[0] != tokenizer.eos_token_id else []


def _tokenize_piece(piece: Sequence[Segment], tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    text, is_trained = "", bytearray()
    for segment in piece:
        assert segment.text is not None
        text += segment.text
        is_trained += bytes([segment.is_trained]) * len(segment.text)
    if not text:
        return [], []
    encoded: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = encoded.input_ids
    labels = []
    for token, (start, stop) in zip(ids, encoded.offset_mapping, strict=True):
        first = start if stop > start else max(0, stop - 1)  # a bare space whose offsets were trimmed to nothing
        labels.append(token if any(is_trained[first:stop]) else IGNORE_ID)
    return ids, labels


if __name__ == "__main__":  # the command needs the model; making tokens does not
    from training.generation import main

    sys.exit(main())
