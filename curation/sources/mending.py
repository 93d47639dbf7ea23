"""Pictures that lie elsewhere than their record says: in another case or folder. Found again only where there is no doubt.

A name in another case is the same picture when no second one differs from it in case alone. A name in another folder is taken
when it is the only picture of that name that no record names rightly, or the one that shares most folders from the end, and
when no other lost name would take it too. Everything else stays missing, with the nearest candidates named.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a lost picture is: `found`, or None and the `nearest` names."""

    found: str | None
    nearest: tuple[str, ...] = ()

    def hint(self) -> str:
        """Words to follow a message that the picture is missing."""
        return f"; nearest are {', '.join(map(repr, self.nearest))}" if self.nearest else ""


def base_key(name: str) -> str:
    """What two names have in common that differ in case and folder only."""
    return name.rsplit("/", 1)[-1].casefold()


def stem_key(name: str) -> str:
    """What two names have in common that differ in case, folder and extension only."""
    return base_key(name).rsplit(".", 1)[0]


def find_moved(missing: Sequence[str], named: set[str], names: Iterable[str]) -> dict[str, Whereabouts]:
    """Where each of `missing` is among `names`, the pictures there are; `named` are all that records ask for."""
    bases = {base_key(ref) for ref in missing}
    stems = {stem_key(ref) for ref in missing}
    by_base: dict[str, list[str]] = defaultdict(list)
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if (key := base_key(name)) in bases:
            by_base[key].append(name)
        elif (key := stem_key(name)) in stems:
            by_stem[key].append(name)
    choices = {ref: _choice(ref, by_base[base_key(ref)], named) for ref in missing}
    takers: dict[str, set[str]] = defaultdict(set)
    for ref, choice in choices.items():
        if choice is not None:
            takers[choice].add(ref.casefold())
    found: dict[str, Whereabouts] = {}
    for ref, choice in choices.items():
        if choice is not None and (len(takers[choice]) == 1 or choice.casefold() == ref.casefold()):
            found[ref] = Whereabouts(choice)
        else:
            near = by_base[base_key(ref)] or by_stem[stem_key(ref)]
            ordered = sorted(near, key=lambda name, ref=ref: (-_shared_end(ref, name), name))  # type: ignore[misc]
            found[ref] = Whereabouts(None, tuple(ordered[:MAX_NAMED]))
    return found


def _choice(ref: str, names: Sequence[str], named: set[str]) -> str | None:
    """The one picture that `ref` may mean, judged by itself."""
    same = [name for name in names if name.casefold() == ref.casefold()]
    if same:
        return same[0] if len(same) == 1 else None
    free = [name for name in names if name not in named]
    if len(free) <= 1:
        return free[0] if free else None
    lengths = sorted(((_shared_end(ref, name), name) for name in free), reverse=True)
    is_clear = lengths[0][0] > max(1, lengths[1][0])
    return lengths[0][1] if is_clear else None


def _shared_end(one: str, other: str) -> int:
    """How many components two paths share from the end, case aside."""
    shared = 0
    for mine, theirs in zip(
        reversed(PurePosixPath(one.casefold()).parts), reversed(PurePosixPath(other.casefold()).parts), strict=False
    ):
        if mine != theirs:
            break
        shared += 1
    return shared


def missing_detail(ref: str, where: Mapping[str, Whereabouts], place: str) -> str:
    """The detail of a reject for a picture that is not there."""
    return f"{ref}: no picture '{ref}' in {place}{where[ref].hint()}"
