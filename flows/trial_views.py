"""How `curate try` shows what records become, as a person reads them, within the width of the terminal."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from rich.console import Console
from rich.text import Text

from curation.guessing.suggest import Guess
from curation.inspection.trial import Trial, TriedPart, TriedPicture, TriedReject, TriedSample

MAX_SAMPLES = 5
"""Samples of a part that are shown in full; `--json` has all."""
MAX_REJECTS = 3
"""Rejects of a part with the same reason that are shown."""
_TEXT_CHARS = 400
_RAW_CHARS = 160
_INDENT = 10


def show_trial(console: Console, trial: Trial) -> None:
    """Samples, then rejects by reason, of each part; the counts last."""
    for number, part in enumerate(trial.parts):
        if len(trial.parts) > 1:
            _line(console, "", f"part {number} of {trial.name}", style="bold")
        _show_part(console, part)
    total = len(trial.samples) + len(trial.rejects)
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in trial.reasons.items())
    whole = "all" if all(part.is_all for part in trial.parts) else "the first"
    told = f"{trial.name}: {len(trial.samples):,} of {whole} {total:,} records map, {len(trial.rejects):,} are rejected"
    _line(console, "", f"{told}{f' ({reasons})' if reasons else ''}. Nothing was written.", style="bold")


def _show_part(console: Console, part: TriedPart) -> None:
    samples = [record for record in part.records if isinstance(record, TriedSample)]
    for sample in samples[:MAX_SAMPLES]:
        _show_sample(console, sample)
    if len(samples) > MAX_SAMPLES:
        _line(console, "", f"and {len(samples) - MAX_SAMPLES:,} more samples")
        console.print()
    rejects = [record for record in part.records if isinstance(record, TriedReject)]
    for reason in dict.fromkeys(reject.reason for reject in rejects):
        alike = [reject for reject in rejects if reject.reason == reason]
        for reject in alike[:MAX_REJECTS]:
            _show_reject(console, reject)
        if len(alike) > MAX_REJECTS:
            _line(console, "", f"and {len(alike) - MAX_REJECTS:,} more rejected as {reason}")
            console.print()


def _show_sample(console: Console, sample: TriedSample) -> None:
    name = f", id {sample.id}" if sample.id is not None else ""
    _line(console, "sample", f"{sample.file} at {sample.position}{name}", style="bold")
    for role, text in sample.turns:
        _line(console, role, _cut(text, _TEXT_CHARS))
    for image in sample.images:
        _line(console, "picture", _picture(image))
    console.print()


def _picture(image: TriedPicture) -> str:
    if image.note is not None:
        return f"{image.name}  not looked at: {image.note}"
    lie = f", though called {PurePosixPath(image.name).suffix}" if image.is_misnamed else ""
    return f"{image.name}  {image.width} x {image.height}  {image.num_bytes:,} bytes  {image.extension}{lie}"


def _show_reject(console: Console, reject: TriedReject) -> None:
    _line(console, "rejected", f"{reject.file} at {reject.position}", style="bold red")
    _line(console, "reason", f"{reject.reason}: {_cut(reject.detail, _TEXT_CHARS)}")
    _line(console, "raw", _cut(reject.raw, _RAW_CHARS))
    console.print()


def _line(console: Console, label: str, text: str, *, style: str = "") -> None:
    """`label` in the margin and `text` beside it, wrapped there."""
    margin = _INDENT if label else 0
    shown = Text(_printable(text)).wrap(console, max(20, console.width - margin))
    for number, line in enumerate(shown):
        head = (label if number == 0 else "").ljust(margin)
        console.print(Text(head, style="dim") + Text(line.plain.rstrip(), style=style), highlight=False, soft_wrap=True)


def _printable(text: str) -> str:
    """`text` without signs that steer terminals: data must not."""
    return "".join(sign if sign.isprintable() or sign == "\n" else " " if sign.isspace() else "\ufffd" for sign in text)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} ... ({len(text):,} characters)"


# --- JSON ---------------------------------------------------------------------------------------------------------------


def trial_document(trial: Trial) -> dict[str, Any]:
    """The trial as `curate try --json` prints it."""
    return {
        "source": trial.name,
        "counts": {"samples": len(trial.samples), "rejected": trial.reasons},
        "parts": [
            {"num_files": part.num_files, "is_all": part.is_all, "records": list(_documents(part.records))}
            for part in trial.parts
        ],
    }


def _documents(records: Sequence[TriedSample | TriedReject]) -> Iterator[dict[str, Any]]:
    for record in records:
        place = {"file": record.file, "position": record.position}
        if isinstance(record, TriedReject):
            yield {**place, "reason": record.reason, "detail": record.detail, "raw": record.raw}
            continue
        images = [{name: getattr(image, name) for name in TriedPicture.__slots__} for image in record.images]
        turns = [{"from": role, "value": text} for role, text in record.turns]
        yield {**place, "id": record.id, "conversations": turns, "images": images}


def guess_document(found: Guess, root: str) -> dict[str, Any]:
    """The suggestion as `curate try --guess --json` prints it."""
    counts = {"samples": len(found.trial.samples), "rejected": found.trial.reasons}
    return {"source": found.name, "row": found.row, "yaml": found.as_yaml(root), "counts": counts, "notes": list(found.notes)}
