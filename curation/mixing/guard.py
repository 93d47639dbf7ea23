"""The guard against whole sources vanishing in cleaning or de-duplication, the best-known accident of such pipelines."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from curation.errors import GuardError
from curation.mixture.spec import Mixture

_ID_TAIL = r"-[0-9a-f]{24}(?:-d\d+)?$"


@dataclass(frozen=True, slots=True)
class Loss:
    """What cleaning and de-duplication took from one source; `reasons` says what for, in words."""

    source: str
    samples: int
    dropped: int
    reasons: Sequence[str]

    @property
    def share(self) -> float:
        """Dropped samples of all."""
        return self.dropped / self.samples


def losses(verdicts: pl.DataFrame) -> list[Loss]:
    """The loss of every source that lost anything, by name. `verdicts` has columns source, verdict, reason, twin_id."""
    totals = dict(verdicts.group_by("source").len().iter_rows())
    dropped = verdicts.filter(pl.col("verdict") == "drop")
    keeper = pl.col("twin_id").str.replace(_ID_TAIL, "")
    by_reason = (
        dropped.group_by("source", "reason", keeper=keeper)
        .len()
        .sort("len", "reason", "keeper", descending=[True, False, False])
    )
    found: dict[str, list[tuple[str, int]]] = {}
    for source, reason, kept_in, number in by_reason.iter_rows():
        where = "" if kept_in is None else f" of '{kept_in}'" if kept_in != source else " within it"
        found.setdefault(source, []).append((f"{reason} {number:,}{where}", number))
    return [
        Loss(name, totals[name], sum(number for _, number in parts), [text for text, _ in parts])
        for name, parts in sorted(found.items())
    ]


def check_guard(mixture: Mixture, verdicts: pl.DataFrame, accepted: Sequence[str]) -> None:
    """Raises GuardError with a table when a source that is not `accepted` lost more than the mixture's guard lets pass."""
    if mixture.guard is None:
        return
    limit = mixture.guard.max_drop_share
    over = [loss for loss in losses(verdicts) if loss.share > limit and loss.source not in accepted]
    if not over:
        return
    width = max(len("source"), *(len(loss.source) for loss in over))
    lines = [f"  {'source':<{width}}  {'samples':>11}  {'dropped':>11}  {'share':>6}  for"]
    lines += [
        f"  {loss.source:<{width}}  {loss.samples:>11,}  {loss.dropped:>11,}  {loss.share:>6.1%}  {', '.join(loss.reasons[:3])}"
        for loss in over
    ]
    accept = " ".join(f"--accept {loss.source}" for loss in over)
    raise GuardError(
        f"mixture '{mixture.name}': cleaning and de-duplication dropped more than {limit:.0%} of {len(over)} "
        f"source{'s' * (len(over) > 1)} (guard.max_drop_share); nothing was released. `curate why ID` shows single samples; "
        f"to go on all the same: `curate build ... {accept}`\n" + "\n".join(lines)
    )
