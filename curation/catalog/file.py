"""Reading a catalog file: rows with the defaults that they share, the commits pinned beside it, and the originals chosen.

What rows share is said once: `upstreams.<name>.defaults` for the rows of a release, `datasets.<owner/name>` for what is
published on the Hub in one shape. Both are filled in here, so that a `Catalog` knows nothing of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from curation.catalog.locations import HubDataset, LocalFiles, Name
from curation.catalog.parts import Part
from curation.catalog.pins import pinned, pinned_url, read_pins
from curation.catalog.spec import Benchmark, Catalog, Original, ReleaseRows, Row, Source, Upstream
from curation.errors import CatalogError
from curation.yaml_file import Settings, YamlFile, nearest

_PART_KEYS = frozenset(Part.model_fields)
_MADE = frozenset({"name", "parts", "reads_original"})
"""Fields of a row that are no keys of the file."""
_KEYS = ("sources", "upstreams", "datasets", "benchmarks", "originals")

RowT = TypeVar("RowT", bound=Row)
At = tuple[str | int, ...]


class _Chosen(Settings):
    originals: list[Annotated[str, Field(min_length=1)]] = []


class _Dataset(Settings):
    revision: Name | None = None


def load_catalog(path: Path, originals: Sequence[str] = (), *, is_pinned: bool = True) -> Catalog:
    """The catalog at `path`, in which the sources named in `originals`, or in the file, are read from their originals.

    Branches on the Hub are the commits that they are pinned to, unless `is_pinned` is false. Raises CatalogError with file and
    line for the first thing wrong.
    """
    return _CatalogFile(YamlFile(path, error=CatalogError), is_pinned=is_pinned).load().reading_originals(originals)


class _CatalogFile:
    """A catalog while it is read."""

    def __init__(self, file: YamlFile, *, is_pinned: bool) -> None:
        self.file = file
        self.pins = read_pins(file.path) if is_pinned else {}
        self.releases: dict[str, dict[str, Any]] = {}
        self.datasets: dict[str, dict[str, Any]] = {}
        self.revisions: dict[str, str] = {}

    def load(self) -> Catalog:
        value = self.file.value
        if not isinstance(value, dict) or not isinstance(value.get("sources"), dict):
            raise self.file.fail("expected a mapping `sources:` of source names to their descriptions")
        if unknown := sorted(set(value) - set(_KEYS)):
            message = f"unknown key '{unknown[0]}'{nearest(unknown[0], _KEYS)}; valid keys: {', '.join(_KEYS)}"
            raise self.file.fail(message, at=(unknown[0],))
        upstreams = {name: self._upstream(name, row) for name, row in self._rows("upstreams")}
        for name, row in self._rows("datasets"):
            self._dataset(name, row)
        sources = {name: self._row(Source, "sources", name, row, upstreams) for name, row in self._rows("sources")}
        benchmarks = {name: self._row(Benchmark, "benchmarks", name, row, upstreams) for name, row in self._rows("benchmarks")}
        if both := [name for name in benchmarks if name in sources]:
            message = f"a source has this name too; call it '{both[0]}-test' or the like"
            raise self.file.fail(message, at=("benchmarks", both[0]))
        folder = self.file.path.resolve().parent
        catalog = Catalog(folder=folder, sources=sources, upstreams=upstreams, benchmarks=benchmarks)
        return self._with_originals(catalog, value)

    def _with_originals(self, catalog: Catalog, value: dict[str, Any]) -> Catalog:
        chosen = self.file.parse(_Chosen, {key: value[key] for key in ("originals",) if key in value})
        for number, name in enumerate(chosen.originals):
            try:
                catalog = catalog.reading_originals([name])
            except CatalogError as problem:
                raise self.file.fail(str(problem), at=("originals", number)) from None
        return catalog

    def _rows(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        assert isinstance(self.file.value, dict)
        rows = self.file.value.get(kind, {})
        if not isinstance(rows, dict):
            raise self.file.fail("expected a mapping of names to their descriptions", at=(kind,))
        for name, row in rows.items():
            if not isinstance(row, dict):
                raise self.file.fail(f"found no mapping, expected a description of the {kind[:-1]}", at=(kind, name))
            yield name, row

    # --- What rows share ------------------------------------------------------------------------------------------------

    def _upstream(self, name: str, row: dict[str, Any]) -> Upstream:
        """An upstream. Its `defaults` are a part but for the location, for every part that has rows of it."""
        at = ("upstreams", name)
        self.releases[name] = self._defaults(row, at, {"release": name})
        upstream = self.file.parse(Upstream, {"name": name, **{key: row[key] for key in row if key != "defaults"}}, at=at)
        archives = {folder: self._pinned_places(place) for folder, place in upstream.archives.items()}
        at_commit = {} if upstream.hub is None else {"revision": pinned(self.pins, upstream.hub, upstream.revision)}
        return upstream.model_copy(update={"archives": archives, **at_commit})

    def _dataset(self, name: str, row: dict[str, Any]) -> None:
        """What every part has in common that lies in this dataset on the Hub."""
        at = ("datasets", name)
        self.datasets[name] = self._defaults(row, at, {"hub": name})
        found = self.file.parse(_Dataset, {key: row[key] for key in row if key != "defaults"}, at=at)
        if found.revision is not None:
            self.revisions[name] = found.revision

    def _defaults(self, row: dict[str, Any], at: At, location: dict[str, Any]) -> dict[str, Any]:
        defaults = row.get("defaults", {})
        if not defaults:
            return {}
        where = (*at, "defaults")
        if not isinstance(defaults, dict) or "location" in defaults:
            raise self.file.fail("expected the keys of a part, without `location`", at=where)
        self.file.parse(Part, {"location": location, **defaults}, at=where)
        return defaults

    def _pinned_places(self, place: str | list[str]) -> str | list[str]:
        return [pinned_url(self.pins, item) for item in place] if isinstance(place, list) else pinned_url(self.pins, place)

    # --- Rows -----------------------------------------------------------------------------------------------------------

    def _row(self, model: type[RowT], kind: str, name: str, row: dict[str, Any], upstreams: Mapping[str, Upstream]) -> RowT:
        """A row as `model`. Keys of a part may stand in the row itself: they are the defaults of all its parts."""
        at = (kind, name)
        shared = {key: value for key, value in row.items() if key in _PART_KEYS}
        own = {key: value for key, value in row.items() if key not in _PART_KEYS and key != "parts"}
        valid = model.model_fields.keys() - _MADE
        if unknown := [key for key in own if key not in valid]:
            keys = sorted(valid | _PART_KEYS | {"parts"})
            message = f"unknown key '{unknown[0]}'{nearest(unknown[0], keys)}; valid keys: {', '.join(keys)}"
            raise self.file.fail(message, at=(*at, unknown[0]))
        parts = [self._part({**shared, **part}, place, upstreams) for part, place in self._parts(row, "parts", at)]
        found: dict[str, Any] = {"name": name, **own, "parts": parts}
        if "original" in own:
            found["original"] = [self._original(part, place, upstreams) for part, place in self._parts(row, "original", at)]
        return self.file.parse(model, found, at=at)

    def _parts(self, row: dict[str, Any], key: str, at: At) -> list[tuple[dict[str, Any], At]]:
        """The mappings under `key`, one or a list, each with its place; one empty part where there is no such key."""
        listed = row.get(key, [{}])
        if key == "original" and isinstance(listed, dict):
            return [(listed, (*at, key))]
        if not isinstance(listed, list) or not listed:
            raise self.file.fail("expected a list of parts", at=(*at, key))
        places = [(*at, key, number) if key in row else at for number in range(len(listed))]
        for part, place in zip(listed, places, strict=True):
            if not isinstance(part, dict):
                raise self.file.fail("found no mapping, expected a part", at=place)
        return list(zip(listed, places, strict=True))

    def _part(self, keys: dict[str, Any], at: At, upstreams: Mapping[str, Upstream]) -> Part:
        part = self.file.parse(Part, self._filled(keys), at=at)
        if isinstance(part.location, ReleaseRows) and part.location.release not in upstreams:
            release = part.location.release
            valid = ", ".join(upstreams) or "none"
            message = f"no upstream '{release}'{nearest(release, list(upstreams))}; the catalog has {valid}"
            raise self.file.fail(message, at=(*at, "location", "release"))
        return self._pinned(part)

    def _original(self, keys: dict[str, Any], at: At, upstreams: Mapping[str, Upstream]) -> Original:
        """An original, whole with its part when the row or its dataset says how records are read."""
        filled = self._filled(keys)
        part = self._part(keys, at, upstreams) if filled.keys() - {"location"} else None
        found = self.file.parse(Original, {"location": filled["location"]} if "location" in filled else {}, at=at)
        return found if part is None else Original(location=part.location, part=part)

    def _filled(self, keys: dict[str, Any]) -> dict[str, Any]:
        """The keys of a part with what its release or dataset says for all."""
        location = keys.get("location")
        if not isinstance(location, dict):
            return keys
        if "release" in location:
            return {**self.releases.get(str(location["release"]), {}), **keys}
        name = str(location.get("hub", ""))
        if name in self.revisions:
            keys = {**keys, "location": {"revision": self.revisions[name], **location}}
        return {**self.datasets.get(name, {}), **keys}

    def _pinned(self, part: Part) -> Part:
        location, images = part.location, part.images
        if images is not None:
            packed = {
                name: self._pinned_places(place) for name in ("zip", "tar") if (place := getattr(images, name)) is not None
            }
            part = part.model_copy(update={"images": images.model_copy(update=packed)})
        if isinstance(location, HubDataset):
            commit = pinned(self.pins, location.hub, location.revision)
            return part.model_copy(update={"location": location.model_copy(update={"revision": commit})})
        if isinstance(location, LocalFiles):
            root = pinned_url(self.pins, location.root)
            return part.model_copy(update={"location": location.model_copy(update={"root": root})})
        return part
