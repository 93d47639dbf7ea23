"""How duplicates are sought and judged: the settings under a mixture's `dedup:` key.

Without the key a mixture drops exact duplicates only. With it (even empty) near duplicates are found too, and the settings
below say what counts as one, which of two stays and what becomes of answers that contradict each other.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from curation.yaml_file import Settings

MAX_HASHES = 1_024
LOOK_ALIKE = "pictures look alike"
"""How the detail of a verdict begins whose pictures look alike but have other pixels."""

ANSWER_THRESHOLD = 0.5
"""Answers of two near duplicates share at least this part of their n-grams: a long common question does not make "yes" and
"no" one sample."""


class SemanticSpec(Settings):
    """Duplicates in meaning, by vectors of transformers models: texts that are near on pictures that are the same or near.

    `model`: the folder of a text model (config.json, tokenizer, *.safetensors), relative to where the command runs; without
    one only equal texts say the same. `vision_model`: that of a model of pictures (with preprocessor_config.json in place of
    a tokenizer), by which the pictures of samples with a single one may be near; without one they must be the same.
    `threshold`: the cosine that questions, answers and pictures must each reach. `max_tokens`: what is read of a text.
    """

    model: str | None = None
    vision_model: str | None = None
    threshold: Annotated[float, Field(ge=0.5, le=1)] = 0.95
    max_tokens: Annotated[int, Field(ge=8, le=32_768)] = 256

    @model_validator(mode="after")
    def _has_a_model(self) -> "SemanticSpec":
        if self.model is None and self.vision_model is None:
            raise ValueError("neither `model` nor `vision_model` is given; name the folder of one at least")
        return self


class DedupSpec(Settings):
    """What a duplicate is.

    `unit`: whole samples, or `turn`, which also removes single question-answer turns that repeat on the same pictures.
    `key`: what is compared, whole conversations or questions only. `text`: also `near` duplicates or only `exact` ones.
    `near_images`: whether pictures that look alike, verified place by place between the two samples, count as the same;
    `mirrored_images`: mirror images too.
    `threshold`: the Jaccard similarity from which texts are near, over sets of `ngram` words (`sign_ngram` signs in scripts
    without spaces). `bands` x `rows`: MinHash values a text is hashed to; more bands find more, more rows propose less
    (24 x 6 finds 95 % of the pairs that are just at the default threshold; 14 x 8, a usual choice, 56 %). `probes`: parts a
    band is cut into, of which one may differ: 14 x 8 with 4 probes finds 99 % of those pairs from the same hashes.
    `bucket_cap`: members of one bucket with which all others are compared; above it some pairs are not, which is reported.
    `boilerplate_share`: n-grams in more than this part of a source's samples count for nothing; 0 turns that off.
    `semantic`: texts that mean the same by a model are duplicates too. `same_numbers`: near duplicates state the same numbers
    in the same order. `conflicts`: what becomes of samples with the same pictures and question but another answer. `sources`:
    whose samples are rather kept, best first; then `prefer` decides, then the smaller sample_id.
    """

    unit: Literal["sample", "turn"] = "sample"
    key: Literal["conversation", "question"] = "conversation"
    text: Literal["near", "exact"] = "near"
    near_images: bool = False
    mirrored_images: bool = False
    threshold: Annotated[float, Field(gt=0.3, le=1)] = 0.7
    ngram: Annotated[int, Field(ge=1, le=16)] = 3
    sign_ngram: Annotated[int, Field(ge=1, le=32)] = 5
    bands: Annotated[int, Field(ge=1, le=256)] = 24
    rows: Annotated[int, Field(ge=1, le=64)] = 6
    probes: Annotated[int, Field(ge=1, le=16)] = 1
    bucket_cap: Annotated[int, Field(ge=1, le=10_000)] = 64
    boilerplate_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    semantic: SemanticSpec | None = None
    same_numbers: bool = True
    conflicts: Literal["keep", "prefer", "drop_all"] = "keep"
    sources: list[str] = []
    prefer: list[Literal["larger_image", "longer_answer"]] = ["larger_image", "longer_answer"]

    @field_validator("sources", "prefer")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError(f"{value} names something twice; write each once, best first")
        return value

    @model_validator(mode="after")
    def _mirrors_are_sought(self) -> "DedupSpec":
        if self.mirrored_images and not self.near_images:
            raise ValueError("mirrored_images asks for near_images: true; write both, or neither")
        return self

    @model_validator(mode="after")
    def _affordable(self) -> "DedupSpec":
        if self.bands * self.rows > MAX_HASHES:
            raise ValueError(f"bands x rows is {self.bands * self.rows}; at most {MAX_HASHES} MinHash values are computed")
        if self.probes > self.rows:
            raise ValueError(f"probes is {self.probes}, but a band of {self.rows} rows cannot be cut into more parts than rows")
        if self.bands * self.probes > MAX_HASHES:
            raise ValueError(f"bands x probes is {self.bands * self.probes}; at most {MAX_HASHES} keys a text are joined")
        return self

    @property
    def num_keys(self) -> int:
        """Keys by which texts meet: those of the bands, and one of the whole text."""
        return self.bands * self.probes + 1

    def signing(self) -> dict[str, object]:
        """The settings that signatures depend on; mixtures that agree on them share signatures."""
        return self.model_dump(include={"unit", "key", "ngram", "sign_ngram"})
