"""Fuzz one reader, guided by coverage: `pip install atheris`, then `python -m tests.fuzzing json --seconds 600`.

What fails is written to `tests/fuzzing/found/<reader>-<error>-<line>.bin`, once for each place that fails; tests feed it
again from then on (`tests/fuzzing/test_fuzzing.py`). Inputs that reach new code are kept in `--corpus` for the next time.
"""

import argparse
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

FOUND = Path(__file__).parent / "found"
MAX_BYTES = 1 << 16


def main() -> None:
    """Fuzz until the time is over."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris")
    arguments = _arguments()
    with atheris.instrument_imports(include=["curation", "training"]):
        from tests.fuzzing.readers import READERS
    if arguments.reader not in READERS:
        sys.exit(f"no reader '{arguments.reader}'; there are {', '.join(READERS)}")
    reader = READERS[arguments.reader]
    corpus = Path(arguments.corpus) / arguments.reader
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(reader.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    folder = Path(tempfile.mkdtemp(prefix="fuzzing-"))
    warnings.simplefilter("ignore")
    known: set[str] = set()

    def run(data: bytes) -> None:
        try:
            reader.feed(data, folder)
        except Exception as problem:
            frame = traceback.extract_tb(problem.__traceback__)[-1]
            name = f"{arguments.reader}-{type(problem).__name__}-{Path(frame.filename).stem}-{frame.lineno}.bin"
            if name not in known:
                known.add(name)
                (FOUND / name).write_bytes(data)
                traceback.print_exc()

    options = [f"-max_total_time={arguments.seconds}", f"-max_len={MAX_BYTES}", "-timeout=60", "-rss_limit_mb=3000"]
    options.append(f"-artifact_prefix={corpus.parent}/")
    atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", str(corpus)], run)
    atheris.Fuzz()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("reader")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", default=".fuzzing", help="folder of inputs worth keeping")
    return parser.parse_args()


if __name__ == "__main__":
    main()
