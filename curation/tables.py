"""The Arrow schemas that steps hand to each other on disk, and the hashing that names samples.

Tables hold text and facts about pictures, never picture bytes: those stay in `images-*.tar`, addressed by (tar, offset).
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_128_digest

Int64s = npt.NDArray[np.int64]

ROLES = ("human", "gpt")
"""Roles alternate, human first, so a turn's role follows from its place."""

TURN = pa.struct([pa.field("from", pa.string()), pa.field("value", pa.string())])

IMAGE = pa.struct(
    [
        pa.field("sha256", pa.string()),
        pa.field("pixels", pa.string()),
        pa.field("extension", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("num_bytes", pa.int64()),
        pa.field("tar", pa.int32()),
        pa.field("offset", pa.int64()),
    ]
)
"""`sha256` of the bytes as published, `pixels` the hash of the decoded picture, `extension` its true encoding; the bytes are
`num_bytes` at `offset` of `images-<tar>.tar`. Of a picture that is known by reference only there is `pixels`, its reference
(`ref:<collection>/<name>`), and nothing else: sizes are 0, the rest null."""

REFERENCE_PREFIX = "ref:"

THUMBNAILS = pa.schema(
    [
        pa.field("pixels", pa.string()),
        pa.field("aspect", pa.float32()),
        pa.field("thumbnail", pa.binary()),
    ]
)
"""What look-alikes are found by: one row for what a source's pictures show; `aspect` is width / height, upright, `thumbnail` as
laid out in `curation.imaging`. What several look tasks met stands in the files of each."""

SAMPLES = pa.schema(
    [
        pa.field("sample_id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("conversations", pa.list_(TURN)),
        pa.field("images", pa.list_(IMAGE)),
        pa.field("num_images", pa.int32()),
        pa.field("num_turns", pa.int32()),
        pa.field("num_tokens", pa.int32()),
        pa.field("num_text_bytes", pa.int32()),
        pa.field("origin_file", pa.string()),
        pa.field("origin_position", pa.int64()),
        pa.field("origin_id", pa.string()),
        pa.field("annotation_file", pa.string()),
    ]
)
"""`num_tokens` counts words between white space (an estimate, no tokenizer); `origin_position` counts records, lines or rows
from 0 within `origin_file`, a path relative to the source's root; `annotation_file` is the file that a release says the record
was taken from, null elsewhere."""

REJECTED = pa.schema(
    [
        pa.field("record_id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("origin_file", pa.string()),
        pa.field("origin_position", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("raw", pa.binary()),
    ]
)
"""`raw` is the record as read, cut to 64 KiB; `record_id` is `<source>:<file>:<position>`, which `curate why` takes."""

VERDICTS = pa.schema(
    [
        pa.field("sample_id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("stage", pa.string()),
        pa.field("verdict", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("twin_id", pa.string()),
        pa.field("detail", pa.string()),
    ]
)

SIGNATURES = pa.schema(
    [
        pa.field("sample_id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("text_key", pa.binary(16)),
        pa.field("image_key", pa.binary(16)),
        pa.field("reason", pa.string()),
    ]
)
"""`reason` is set where a sample was judged and dropped by itself; the keys are equal for samples that say the same."""

ITEMS = pa.schema(
    [
        pa.field("row", pa.uint32()),
        pa.field("turn", pa.int32()),
        pa.field("question_key", pa.uint64()),
        pa.field("answer_key", pa.uint64()),
        pa.field("number_key", pa.uint64()),
        pa.field("pixels", pa.int64()),
        pa.field("answer_chars", pa.int64()),
    ]
)
"""What is compared with one another: whole samples, or single question-answer turns (`turn` counts them from 0; -1 is a whole
sample). `row` is the sample's row in its file. The keys are equal where questions, answers or stated numbers are; `pixels` and
`answer_chars` are the sample's, and decide which of two is kept. The sets of n-grams lie beside, item by item."""

SHINGLES = pa.schema([pa.field("shingles", pa.large_list(pa.uint32())), pa.field("set_key", pa.uint64())])
"""One row an item: its hashed n-grams, sorted and distinct, and a key that is equal for equal sets."""

REMOVED_TURNS = pa.schema(
    [
        pa.field("sample_id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("turn", pa.int32()),
        pa.field("twin_id", pa.string()),
        pa.field("twin_turn", pa.int32()),
    ]
)
"""Question-answer turns (counted from 0) that kept samples lose, and where the same is said."""

FINDINGS = pa.schema(
    [
        pa.field("sample_id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("finding", pa.string()),
        pa.field("cluster_id", pa.string()),
    ]
)
"""What is worth knowing of samples that are kept all the same; those of one cluster share `cluster_id`, its first sample."""

RAW_LIMIT_BYTES = 64 << 10
ID_DIGEST_CHARS = 24
XXH3_128_BYTES = 16


def record_id(source: str, origin_file: str, origin_position: int) -> str:
    """The name under which a rejected record can be looked up."""
    return f"{source}:{origin_file}:{origin_position}"


def content_ids(source: str, texts: pa.StringArray, ends: Int64s, image_hashes: Sequence[str] | None = None) -> pa.StringArray:
    """`<source>-<24 hex digits>` for each sample, from what it says and shows, never from where it was found.

    `texts` are the turns of all samples, those of sample i from `ends[i]` to `ends[i + 1]`; `image_hashes` one text a sample.
    XXH3 is fixed for good and several times faster than a cryptographic hash on texts this short. 96 bits: among 10 million
    samples a collision has odds of 1 in 10^15, and would only be treated as a copy.
    """
    num_samples = len(ends) - 1
    # What is hashed is the text of all turns followed by their lengths, which say where one ends.
    offsets = string_offsets(texts)
    lengths = pa.py_buffer(np.diff(offsets).astype("<u4"))
    parts = [_blocks(texts.buffers()[2], offsets[ends]), _blocks(lengths, ends * 4)]
    if image_hashes is not None:
        parts.append(pa.array([shown.encode() for shown in image_hashes], pa.large_binary()))
    blocks = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary()))
    edges = np.frombuffer(blocks.buffers()[1], np.int64, num_samples + 1).tolist()
    hashed = memoryview(blocks.buffers()[2] or b"")
    digests = b"".join(map(xxh3_128_digest, map(hashed.__getitem__, map(slice, edges, edges[1:]))))
    digits = np.frombuffer(digests.hex().encode(), np.uint8).reshape(num_samples, 2 * XXH3_128_BYTES)[:, :ID_DIGEST_CHARS]
    prefix = np.frombuffer(f"{source}-".encode(), np.uint8)
    letters = np.hstack([np.broadcast_to(prefix, (num_samples, len(prefix))), digits])
    starts = np.arange(num_samples + 1, dtype=np.int32) * letters.shape[1]
    return pa.StringArray.from_buffers(num_samples, pa.py_buffer(starts), pa.py_buffer(letters))


def _blocks(data: pa.Buffer | None, edges: Int64s) -> pa.LargeBinaryArray:
    """The bytes of `data` from one edge to the next as values, without a copy."""
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(edges) - 1, [None, pa.py_buffer(edges), data])


def string_offsets(texts: pa.StringArray) -> Int64s:
    """Where each text of an array (from its start, without nulls) begins and the last ends, in bytes."""
    offsets: Int64s = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1).astype(np.int64)
    return offsets


COPY_SUFFIX = r"-d\d+$"


def copy_id(sample_id: str, copy: int) -> str:
    """The id of the `copy`-th record (from 0) with the very same content in one source."""
    return sample_id if copy == 0 else f"{sample_id}-d{copy}"


def id_bits(sample_ids: pl.Series) -> npt.NDArray[np.uint64]:
    """64 uniformly distributed bits of each sample_id, the same on every machine, for keyed selection and order.

    They are the leading bits of the id's digest, mixed with the copy number so that copies differ.
    """
    parts = sample_ids.str.extract_groups(r"-([0-9a-f]{16})[0-9a-f]{8}(?:-d(\d+))?$").struct.unnest()
    digest = parts["1"].str.to_integer(base=16, dtype=pl.UInt64).to_numpy()
    copy = parts["2"].fill_null("0").cast(pl.UInt64).to_numpy()
    return mix_bits(digest ^ mix_bits(copy))


def counts_by(index: pl.DataFrame, column: str) -> dict[str, dict[str, int]]:
    """Samples, images, tokens and bytes of a release by `column` of its index, repeats counted."""
    totals = index.group_by(column).agg(
        samples=pl.len(),
        images=pl.col("num_images").sum(),
        tokens=pl.col("num_tokens").sum(),
        num_bytes=pl.col("num_bytes").sum(),
    )
    return {row.pop(column): {key: int(value) for key, value in row.items()} for row in totals.sort(column).to_dicts()}


def mix_bits(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A bijective scrambling of 64-bit values (the splitmix64 finaliser)."""
    mixed = values ^ (values >> np.uint64(30))
    mixed = mixed * np.uint64(0xBF58476D1CE4E5B9)
    mixed = mixed ^ (mixed >> np.uint64(27))
    mixed = mixed * np.uint64(0x94D049BB133111EB)
    scrambled: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return scrambled


def keyed_bits(bits: npt.NDArray[np.uint64], *key: object) -> npt.NDArray[np.uint64]:
    """`bits` scrambled under a key such as (seed, source): an order of its own for each key."""
    text = "\x1f".join(map(str, key)).encode()
    salt = np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big"))
    return mix_bits(bits ^ salt)
