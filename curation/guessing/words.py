"""The names that publishers give to the fields of a record, the most telling first."""

import re

QUESTION = ("question", "questiontext", "query", "problem", "problemtext", "prompt", "instruction", "q", "input")
STATEMENT = ("statement", "sentence", "hypothesis", "claim", "caption")
"""What is said to be true or false, rather than asked."""
ANSWER = (
    "answer", "gtanswer", "gtanswers", "correctanswer", "finalanswer", "label", "answers", "answertext", "output", "response",
    "target", "completion", "answernumber", "solution", "correct", "a", "assistant",
)  # fmt: skip
OPTIONS = ("options", "choices", "candidates", "answerchoices", "multiplechoices", "endings")
CAPTION = ("caption", "captions", "txt", "text", "description", "alttext", "alt", "title", "summary")
INSTRUCTION = ("instruction",)
OUTPUT = ("output", "response", "completion", "answer")
INPUT = ("input", "context")
IDENTITY = (
    "id", "uid", "qid", "pid", "questionid", "sampleid", "problemid", "imgid", "imageid", "identifier", "uuid", "key",
)  # fmt: skip
PREAMBLE = ("system", "systemprompt", "tools")
IMAGE = (
    "image", "images", "imagepath", "imagefile", "imagename", "img", "imgname", "imgpath", "filename", "picture", "file",
    "diagram", "photo", "figure", "imagebytes", "bytes", "imgbytes",
)  # fmt: skip
PAIRS = (("user", "assistant"), ("human", "gpt"), ("question", "answer"), ("q", "a"), ("prompt", "response"))
ALL_NAMES = frozenset((*QUESTION, *STATEMENT, *ANSWER, *OPTIONS, *CAPTION, *OUTPUT, *INPUT, *IDENTITY, *IMAGE))


def plain_name(name: str) -> str:
    """A field's name without case, spaces and signs, as it stands in these lists."""
    return re.sub(r"[\W_]+", "", name).lower()
