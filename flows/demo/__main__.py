"""`make demo`: draw a small world, curate it, check what was found against what was planted, train a tiny model on it."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.embedded_server import embedded_server
from flows.environment import prepare_environment

MIXTURE = "mixtures/demo.yaml"
CATALOG = Path(__file__).parent / "catalog.yaml"
RECIPE = "training/recipes/demo.yaml"
REPAIRED_NAME = "extension_corrected"


def main() -> int:
    """Run the demo in the folder given as argument (default `demo`); returns the exit status."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo").absolute()
    os.environ["CURATION_DEMO_DATA"] = str(folder / "upstream")
    os.environ.setdefault("PREFECT_HOME", str(folder / "prefect"))
    prepare_environment()
    console = Console()
    started = time.monotonic()

    from flows.demo.world import generate

    with embedded_server() as ready:
        console.rule("1. A small world of sources, drawn here")
        planted = generate(folder / "upstream")
        records = f"{planted.records:,} records of {len(planted.sources)} sources in {folder / 'upstream'}"
        console.print(records, highlight=False)

        console.rule("2. Curation: a Prefect flow on a local Ray")
        from flows.pipeline import build

        ready()
        release = build(MIXTURE, str(folder / "lake"), str(CATALOG))
    manifest: dict[str, Any] = json.loads((release / "manifest.json").read_bytes())

    console.rule("3. Training: a tiny encoder-SVA-LLM streams the shards")
    trained = _train(release, folder / "run")

    console.rule("4. What was planted, and what was found")
    differing = _show_findings(console, planted, manifest)
    _show_made(console, folder, release, manifest, trained)
    console.print(f"Done in {time.monotonic() - started:.0f} seconds.", highlight=False)
    return 1 if differing else 0


def _train(release: Path, run: Path) -> Mapping[str, Any]:
    """Train in a process of its own, as a user would; its last line of output is a JSON summary."""
    command = [sys.executable, "-m", "training", RECIPE, "--release", str(release), "--output", str(run)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    summary: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return summary


def _show_findings(console: Console, planted: Any, manifest: Mapping[str, Any]) -> int:
    """The closing table; returns how many of its lines differ."""
    from flows.views import conservation_table, table

    conservation = manifest["conservation"].values()
    rejected: Counter[str] = sum((Counter(counts["rejected"]) for counts in conservation), Counter())
    dropped: Counter[str] = sum((Counter(counts["dropped"]) for counts in conservation), Counter())
    repaired = sum(counts["repaired"].get(REPAIRED_NAME, 0) for counts in conservation)
    lying = sum(source.lying_extensions for source in planted.sources.values())
    rows = [("records read", planted.records, sum(counts["records"] for counts in conservation))]
    rows += [(f"rejected: {reason}", number, rejected.pop(reason, 0)) for reason, number in sorted(planted.rejected.items())]
    rows += [(f"dropped: {reason}", number, dropped.pop(reason, 0)) for reason, number in sorted(planted.dropped.items())]
    rows += [("extensions that lie, corrected", lying, repaired)]
    rows += [("kept samples", planted.kept, sum(counts["kept"] for counts in conservation))]
    rows += [(f"unplanned: {reason}", 0, number) for reason, number in (rejected + dropped).items()]
    console.print(conservation_table(manifest["conservation"], manifest["sources"]))
    console.print()
    shown = [(*row, "as planted" if row[1] == row[2] else "DIFFERS") for row in rows]
    console.print(table("planted and found", ("what", "planted", "found", ""), shown))
    return sum(row[1] != row[2] for row in rows)


def _show_made(console: Console, folder: Path, release: Path, manifest: Mapping[str, Any], trained: Mapping[str, Any]) -> None:
    shards = f"{manifest['num_samples']:,} samples in {len(manifest['shards'])} shards, {manifest['num_bytes'] / 1e6:.1f} MB"
    loss = f"loss {trained['first_loss']:.2f} -> {trained['last_loss']:.2f} in {trained['num_train_steps']} steps"
    lines = [
        "",
        f"release     {release}",
        f"            {shards}",
        f"report      {release / 'report.html'}",
        f"model       {trained['checkpoint']}",
        f"            {loss}",
        "",
        "Look around:",
        "  source .venv/bin/activate",
        f"  export CURATION_CATALOG={os.path.relpath(CATALOG)}",
        f"  export CURATION_DEMO_DATA={folder / 'upstream'}",
        f"  export CURATION_ROOT={os.path.relpath(folder / 'lake')}",
        f"  curate plan {MIXTURE}",
        "  curate verify demo",
        "  curate why scenes:scenes.json:7",
        "  curate leakage demo",
        "",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
