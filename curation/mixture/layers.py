"""Settings files that extend others: `extends: other.yaml` puts this file's keys in place of that file's.

Mappings named in `merged` are merged key by key, at any depth; everything else is replaced whole, and `null` takes a key
out. Every value keeps the file and line it came from, so that errors point at where it is written.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from curation.errors import ConfigurationError
from curation.yaml_file import Location, Plain, YamlFile

MAX_DEPTH = 16
EXTENDS = "extends"


@dataclass(frozen=True, slots=True)
class Layer:
    """A mapping and where each of its values is written; locations start at the mapping."""

    value: dict[str, Plain] = field(default_factory=dict)
    places: dict[Location, tuple[Path, int]] = field(default_factory=dict)

    def without(self, *keys: str) -> "Layer":
        """The layer without these keys."""
        value = {key: item for key, item in self.value.items() if key not in keys}
        return Layer(value, {at: place for at, place in self.places.items() if not at or at[0] not in keys})

    def over(self, base: "Layer", merged: Collection[str] | None) -> "Layer":
        """This layer's keys in place of those of `base`; mappings under `merged` keys (None: all) key by key."""
        value, places = dict(base.value), dict(base.places)
        places.update({at: place for at, place in self.places.items() if not at})
        for key, item in self.value.items():
            below = value.get(key)
            if (merged is None or key in merged) and isinstance(item, dict) and isinstance(below, dict):
                inner = self._below(key).over(base._below(key), None)
                value[key] = inner.value
                places = {at: place for at, place in places.items() if not at or at[0] != key}
                places.update({(key, *at): place for at, place in inner.places.items()})
                continue
            places = {at: place for at, place in places.items() if not at or at[0] != key}
            if item is None:
                value.pop(key, None)
            else:
                value[key] = item
                places.update({at: place for at, place in self.places.items() if at and at[0] == key})
        return Layer(value, places)

    def _below(self, key: str) -> "Layer":
        value = self.value[key]
        assert isinstance(value, dict)
        return Layer(value, {at[1:]: place for at, place in self.places.items() if at and at[0] == key})


class LayeredYaml(YamlFile):
    """A layer as a settings file: parsed and complained about like one, each value at the place where it is written."""

    def __init__(self, path: Path, layer: Layer, *, error: type[ConfigurationError]) -> None:
        self.path = path
        self.value = layer.value
        self._error = error
        self._paths = {at: place[0] for at, place in layer.places.items()}
        self._lines = {(): 1} | {at: place[1] for at, place in layer.places.items()}

    def path_of(self, location: Sequence[str | int]) -> Path:
        """The file in which the value at `location`, or its nearest ancestor, is written."""
        here = tuple(location)
        while here not in self._paths and here:
            here = here[:-1]
        return self._paths.get(here, self.path)

    def fail(self, message: str, *, at: Sequence[str | int] = ()) -> ConfigurationError:
        """The error for `message` at `location`, to be raised by the caller."""
        here = tuple(at)
        while here not in self._paths and here:
            here = here[:-1]
        path = self.path_of(at)
        where = ".".join(map(str, at))
        return self._error(f"{path}:{self.line_of(here)}: {where + ': ' if where else ''}{message}")


def layer_of(file: YamlFile, at: Location, merged: Collection[str], *, kept_by_each: Collection[str]) -> Layer:
    """The mapping at `at` of `file` over all that it extends; keys `kept_by_each` are never taken from an extended file.

    Raises the file's error for a chain that comes back to itself or is deeper than 16, or a file that cannot be read.
    """
    return _layer(file, at, merged, kept_by_each, (file.path.resolve(),))


def _layer(
    file: YamlFile, at: Location, merged: Collection[str], kept_by_each: Collection[str], chain: tuple[Path, ...]
) -> Layer:
    own = _own(file, at)
    if EXTENDS not in own.value:
        return own
    named = own.value[EXTENDS]
    place = (*at, EXTENDS)
    if not isinstance(named, str) or not named:
        raise file.fail("expected the path of another YAML file, relative to this one", at=place)
    other = (file.path.parent / named).resolve()
    if other in chain:
        names = " -> ".join(path.name for path in (*chain, other))
        raise file.fail(f"the files extend one another in a circle: {names}", at=place)
    if len(chain) >= MAX_DEPTH:
        raise file.fail(f"extends through more than {MAX_DEPTH} files; write the values out", at=place)
    if not other.is_file():
        near = ", ".join(sorted(path.name for path in other.parent.glob("*.yaml"))) if other.parent.is_dir() else ""
        raise file.fail(f"no file '{named}' there{f'; there are {near}' if near else ''}", at=place)
    base = _layer(YamlFile(file.path.parent / named, error=file.error), (), merged, kept_by_each, (*chain, other))
    return own.without(EXTENDS).over(base.without(*kept_by_each), merged)


def _own(file: YamlFile, at: Location) -> Layer:
    value = file.value
    for step in at:
        assert isinstance(value, Mapping | list)
        value = value[step]  # type: ignore[index]
    if not isinstance(value, dict):
        raise file.fail("expected a mapping", at=at)
    places = {place[len(at) :]: (file.path, line) for place, line in file.lines() if place[: len(at)] == at}
    return Layer(value, places)
