"""The ledger of the demo world: what was planted in each source, to be compared with what curation finds.

Nothing here is declared by hand: samples register their text and pixels when they are made, and duplicates are counted from
that, by the plain definition (same pixels in the same order, same text up to case, width, spaces and format prompt).
"""

import hashlib
import io
import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from PIL import Image

from curation.errors import DropReason, RejectReason

WORD_PROMPT = "Answer the question using a single word or phrase."
NUMBER_PROMPT = "Answer the question using a single number or phrase."
LETTER_PROMPT = "Answer with the option's letter from the given choices directly."
HTML_PROMPT = "Directly provide the HTML code."
FORMAT_PROMPTS = (WORD_PROMPT, NUMBER_PROMPT, LETTER_PROMPT, HTML_PROMPT)


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleKey:
    """What makes two samples the same: text after normalisation and hashes of decoded pixels, in order."""

    text: str
    pixels: tuple[str, ...]

    @classmethod
    def of(cls, turns: Sequence[str], pictures: Iterable[bytes]) -> "SampleKey":
        """The key of a sample with these turns and picture files."""
        return cls(text="\n".join(map(_normalised, turns)), pixels=tuple(map(pixel_hash, pictures)))


def _normalised(text: str) -> str:
    for prompt in FORMAT_PROMPTS:
        text = text.replace(prompt, "")
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def pixel_hash(data: bytes) -> str:
    """Hash of size and RGB pixels, the same for every lossless encoding of a picture."""
    with Image.open(io.BytesIO(data)) as image:
        rgb = image.convert("RGB")
        return hashlib.sha256(repr(rgb.size).encode() + rgb.tobytes()).hexdigest()[:24]


@dataclass(kw_only=True, slots=True)
class PlantedSource:
    """One source: records = samples + rejected; duplicates, samples without words and exam questions are dropped after that."""

    records: int = 0
    samples: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    duplicates_within: int = 0
    no_words: int = 0
    from_exams: int = 0
    lying_extensions: int = 0
    keys: list[SampleKey] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class Planted:
    """The whole world. `duplicates_between` counts samples by the pair of sources that share them, as `a + b`."""

    seed: int
    scale: int
    sources: dict[str, PlantedSource]
    duplicates_between: dict[str, int]
    same_image_other_text: int
    same_text_other_image: int

    @classmethod
    def of(cls, sources: dict[str, PlantedSource], *, seed: int, scale: int) -> "Planted":
        """The ledger of these sources, with the duplicates counted from the keys of their samples."""
        owners: dict[SampleKey, list[str]] = defaultdict(list)
        for name, source in sources.items():
            source.duplicates_within = len(source.keys) - len(set(source.keys))
            for key in set(source.keys):
                owners[key].append(name)
        between = Counter(" + ".join(names) for names in owners.values() if len(names) > 1)
        with_pictures = [key for key in owners if key.pixels]
        return cls(
            seed=seed,
            scale=scale,
            sources=sources,
            duplicates_between=dict(sorted(between.items())),
            same_image_other_text=_surplus(key.pixels for key in with_pictures),
            same_text_other_image=_surplus(key.text for key in with_pictures),
        )

    @property
    def records(self) -> int:
        """Records of all sources."""
        return sum(source.records for source in self.sources.values())

    @property
    def samples(self) -> int:
        """Samples of all sources, before anything is dropped."""
        return sum(source.samples for source in self.sources.values())

    @property
    def rejected(self) -> dict[RejectReason, int]:
        """Rejected records of all sources, by reason; every reason has an entry."""
        totals: Counter[str] = Counter()
        for source in self.sources.values():
            totals.update(source.rejected)
        return {reason: totals[reason] for reason in RejectReason}

    @property
    def dropped(self) -> dict[DropReason, int]:
        """Samples that a whole-pool mixture leaves out, by reason."""
        within = sum(source.duplicates_within for source in self.sources.values())
        duplicates = within + sum(self.duplicates_between.values())
        return {
            DropReason.CONTAMINATED: sum(source.from_exams for source in self.sources.values()),
            DropReason.EXACT_DUPLICATE: duplicates,
            DropReason.NO_WORDS: sum(source.no_words for source in self.sources.values()),
        }

    @property
    def kept(self) -> int:
        """Samples that a whole-pool mixture keeps."""
        return self.samples - sum(self.dropped.values())

    def to_json(self) -> bytes:
        """`planted.json`: the ledger by source and its totals."""
        document = {
            "seed": self.seed,
            "scale": self.scale,
            "totals": {
                "records": self.records,
                "samples": self.samples,
                "rejected": {reason.value: count for reason, count in self.rejected.items()},
                "dropped": {reason.value: count for reason, count in self.dropped.items()},
                "kept": self.kept,
                "lying_extensions": sum(source.lying_extensions for source in self.sources.values()),
                "same_image_other_text": self.same_image_other_text,
                "same_text_other_image": self.same_text_other_image,
            },
            "duplicates_between": self.duplicates_between,
            "sources": {name: _source_json(source) for name, source in self.sources.items()},
        }
        return (json.dumps(document, indent=1) + "\n").encode()


def _surplus(values: Iterable[object]) -> int:
    """How many of the values share theirs with another one."""
    return sum(count for count in Counter(values).values() if count > 1)


def _source_json(source: PlantedSource) -> dict[str, object]:
    fields = asdict(source)
    del fields["keys"]
    return {**fields, "rejected": dict(sorted(source.rejected.items()))}
