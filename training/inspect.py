"""Looking at a stream: `python -m training.inspect stream|which RELEASE ...`, which `curate stream` and `curate which` call.

Results go to stdout, messages to stderr; exit 0 done, 1 the release cannot be used, 2 wrong usage.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from training.errors import TrainingError
from training.members import Sample
from training.stream import ShardStream

_SHOWN_CHARS = 600


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = _parse(arguments)
    try:
        given.run(given)
    except TrainingError as error:
        print(f"{given.program}: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stderr.close()
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.inspect", description="Look at a stream of samples.")
    parser.add_argument("--program", default="inspect", help=argparse.SUPPRESS)
    commands = parser.add_subparsers(required=True, metavar="stream|which")
    stream = commands.add_parser("stream", help="samples as a person reads them, or the speed of reading them")
    stream.set_defaults(run=_stream)
    stream.add_argument("--head", type=_positive, default=5, metavar="N", help="samples to show")
    stream.add_argument("--bench", action="store_true", help="read on for some seconds and tell how fast that was")
    stream.add_argument("--seconds", type=float, default=5.0, help="with --bench: how long to read at most")
    stream.add_argument(
        "--decode", choices=("none", "pil", "turbo"), default="none", help="with --bench: what to do with images"
    )
    which = commands.add_parser("which", help="the samples of any batch, from counts alone")
    which.set_defaults(run=_which)
    which.add_argument("--step", type=_count, required=True, metavar="N", help="train step of the epoch, from 0")
    which.add_argument("--rank", type=_count, default=0)
    which.add_argument("--world-size", type=_positive, default=1)
    which.add_argument("--batch-size", type=_positive, default=1, help="a rank's")
    which.add_argument("--tail", choices=("even", "drop", "pad"), default="even")
    for command in (stream, which):
        command.add_argument("release", help="a release's folder or URL")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--epoch", type=_count, default=0)
        command.add_argument("--shuffle", choices=("block", "full", "file"), default="block")
        command.add_argument("--keep", metavar="FILE.parquet", help="only samples whose sample_id is listed there")
        command.add_argument("--json", action="store_true", help="one JSON document on stdout and nothing else there")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative; expected 0 or more")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is too small; expected 1 or more")
    return value


def _open(given: argparse.Namespace, **options: Any) -> ShardStream:
    stream = ShardStream(given.release, seed=given.seed, shuffle=given.shuffle, keep=given.keep, **options)
    stream.set_epoch(given.epoch)
    return stream


def _stream(given: argparse.Namespace) -> None:
    if given.bench:
        _bench(given)
        return
    samples = islice(_open(given, decode=None, rank=0, world_size=1), given.head)
    if given.json:
        print(json.dumps({"samples": [_document(sample) for sample in samples]}, indent=1, ensure_ascii=False))  # noqa: T201
        return
    for sample in samples:
        print("\n".join(_lines(sample)))  # noqa: T201


def _document(sample: Sample) -> dict[str, Any]:
    return {**sample, "images": [{"num_bytes": len(content)} for content in sample["images"]]}


def _lines(sample: Sample) -> Iterator[str]:
    yield f"{sample['id']}  ({sample['source']}, {sample['category']}, {sample['license'] or 'no licence stated'})"
    for turn in sample["conversations"]:
        text = turn["value"] if len(turn["value"]) <= _SHOWN_CHARS else turn["value"][:_SHOWN_CHARS] + " ..."
        yield f"  {turn['from']:<7} " + text.replace("\n", "\n" + " " * 10)
    for number, content in enumerate(sample["images"]):
        yield f"  image {number}: {len(content):,} bytes"
    origin = sample["origin"]
    if origin:
        yield f"  from {origin.get('file')} at position {origin.get('position')}"
    yield ""


def _bench(given: argparse.Namespace) -> None:
    decode = None if given.decode == "none" else given.decode
    stream = _open(given, decode=decode, rank=0, world_size=1)
    categories: Counter[str] = Counter()
    begun = time.perf_counter()
    for sample in stream:
        categories[sample["category"]] += 1
        if time.perf_counter() - begun > given.seconds:
            break
    seconds = time.perf_counter() - begun
    total = categories.total()
    rows = stream.batch_rows(0, rank=0, world_size=1, batch_size=total)
    num_bytes = sum(stream.row_bytes(rows))
    speed = {"samples_per_second": total / seconds, "megabytes_per_second": num_bytes / seconds / 1e6}
    shares = {name: count / total for name, count in sorted(categories.items())}
    if given.json:
        print(json.dumps({"num_samples": total, "seconds": seconds, **speed, "shares": shares}))  # noqa: T201
        return
    print(f"{total:,} samples in {seconds:.2f} s, images {given.decode}")  # noqa: T201
    print(f"{speed['samples_per_second']:,.0f} samples/s, {speed['megabytes_per_second']:,.1f} MB/s")  # noqa: T201
    for name, share in shares.items():
        print(f"  {name:<12} {share:.1%}")  # noqa: T201


def _which(given: argparse.Namespace) -> None:
    stream = _open(given, decode=None, tail=given.tail, rank=0, world_size=1)
    rows = stream.batch_rows(given.step, rank=given.rank, world_size=given.world_size, batch_size=given.batch_size)
    samples = stream.describe_rows(rows)
    if given.json:
        about = {
            name: getattr(given, name) for name in ("release", "seed", "epoch", "step", "rank", "world_size", "batch_size")
        }
        print(json.dumps({**about, "samples": samples}, indent=1))  # noqa: T201
        return
    for sample in samples:
        print(f"{sample['id']}  {sample['source']}  {sample['category']}  {sample['shard']} at {sample['offset_bytes']}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
