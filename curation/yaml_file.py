"""Reading the YAML that people edit: safe, typed, and with errors that point at a line.

The file is composed into nodes first (never executed: no tags, no anchors, no aliases), so that every value keeps its line;
pydantic models then say what is valid, and its findings are turned into one paragraph with `file:line`.
"""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from curation.errors import ConfigurationError

MAX_FILE_BYTES = 4 << 20
MAX_NESTING = 64
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML was built with it: a catalog of 65 sources is read in a tenth of the time."""

Location = tuple[str | int, ...]
Plain = dict[str, "Plain"] | list["Plain"] | str | int | float | bool | None
ModelT = TypeVar("ModelT", bound=BaseModel)

_TAGS: dict[type[yaml.Node], set[str]] = {
    yaml.ScalarNode: {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp")},
    yaml.SequenceNode: {"tag:yaml.org,2002:seq"},
    yaml.MappingNode: {"tag:yaml.org,2002:map"},
}


class Settings(BaseModel):
    """Base of every model read from YAML: immutable, exact types, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class YamlFile:
    """A parsed YAML file: `value` as plain Python types, `line_of` for any path into it."""

    def __init__(self, path: Path, *, error: type[ConfigurationError]) -> None:
        """Raises `error` when the file is absent, too large, not UTF-8, not YAML, or uses what is refused here."""
        self.path = path
        self._error = error
        self._lines: dict[Location, int] = {(): 1}
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise error(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB; settings files are written by hand")
            text = path.read_text(encoding="utf-8")
        except OSError as problem:
            raise error(f"{path}: cannot be read ({problem.strerror}); give the path of an existing YAML file") from None
        except UnicodeDecodeError:
            raise error(f"{path}: not UTF-8 text; expected a YAML file") from None
        try:
            self._refuse_aliases(text)
            node = yaml.compose(text, Loader=_LOADER)
            self.value: Plain = None if node is None else self._plain(node, ())
        except yaml.MarkedYAMLError as problem:
            line = problem.problem_mark.line + 1 if problem.problem_mark else 1
            raise error(f"{path}:{line}: not valid YAML: {problem.problem}") from None
        except yaml.YAMLError as problem:
            raise error(f"{path}: not valid YAML: {problem}") from None
        except RecursionError:
            raise error(f"{path}: nested too deeply; settings are a few levels deep") from None

    @property
    def error(self) -> type[ConfigurationError]:
        """The type of this file's errors."""
        return self._error

    def lines(self) -> Iterable[tuple[Location, int]]:
        """Every location in the file with its line (from 1)."""
        return self._lines.items()

    def line_of(self, location: Sequence[str | int]) -> int:
        """Line (from 1) of the value at `location`, or of its nearest ancestor."""
        here = tuple(location)
        while here not in self._lines:
            here = here[:-1]
        return self._lines[here]

    def fail(self, message: str, *, at: Sequence[str | int] = ()) -> ConfigurationError:
        """The error for `message` at `location`, to be raised by the caller."""
        where = ".".join(map(str, at))
        return self._error(f"{self.path}:{self.line_of(at)}: {where + ': ' if where else ''}{message}")

    def parse(self, model: type[ModelT], value: Plain, *, at: Location = ()) -> ModelT:
        """`value` (found at `at`) as `model`. Raises the file's error for the first thing wrong, naming what is valid."""
        if not isinstance(value, dict):
            raise self.fail(f"found {_describe(value)}, expected a mapping", at=at)
        try:
            return model.model_validate(value)
        except ValidationError as problem:
            raise self._explain(problem, model, at) from None

    def _explain(self, problem: ValidationError, model: type[BaseModel], at: Location) -> ConfigurationError:
        found = _most_telling(problem.errors(include_url=False))
        inner = self._inside(found["loc"], at)
        if found["type"] == "extra_forbidden":
            key = str(inner[-1])
            valid = sorted(_field_names(model, found["loc"][:-1]))
            return self.fail(f"unknown key '{key}'{nearest(key, valid)}; valid keys: {', '.join(valid)}", at=inner)
        if found["type"] == "missing":
            return self.fail(f"required key '{found['loc'][-1]}' is missing", at=inner)
        message = found["msg"].removeprefix("Value error, ")
        shown = found["input"]
        if found["type"] == "value_error" or isinstance(shown, dict | list):
            return self.fail(message, at=inner)
        return self.fail(f"found {_describe(shown)}: {message}", at=inner)

    def _inside(self, loc: Sequence[str | int], at: Location) -> Location:
        """`loc` without the names pydantic adds for members of unions, which are no keys of the file."""
        models = {model.__name__ for model in Settings.__subclasses__()}
        loc = [step for step in loc if step not in models]
        here = at
        for step in loc:
            if (*here, step) in self._lines:
                here = (*here, step)
        return (*here, loc[-1]) if loc and here[-1:] != (loc[-1],) else here

    def _refuse_aliases(self, text: str) -> None:
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_NESTING:
                raise RecursionError
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise self._error(f"{self.path}:{line}: anchors and aliases are not used here; write the value out")

    def _plain(self, node: yaml.Node, location: Location) -> Plain:
        self._lines[location] = node.start_mark.line + 1
        if node.tag not in _TAGS[type(node)]:
            raise self.fail(f"tag {node.tag} is not allowed; plain values only", at=location)
        if isinstance(node, yaml.MappingNode):
            return dict(self._items(node, location))
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*location, number)) for number, item in enumerate(node.value)]
        if node.tag.endswith(":timestamp"):
            return str(node.value)
        try:
            value: Plain = yaml.SafeLoader("").construct_object(node)
        except ValueError as problem:
            raise self.fail(f"found '{node.value}': {problem}", at=location) from None
        return value

    def _items(self, node: yaml.MappingNode, location: Location) -> Iterator[tuple[str, Plain]]:
        seen: set[str] = set()
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else ""
            self._lines[(*location, key)] = key_node.start_mark.line + 1
            if not key:
                raise self.fail("found a key that is not plain text", at=location)
            if key in seen:
                raise self.fail("this key stands twice in the same mapping", at=(*location, key))
            seen.add(key)
            line = key_node.start_mark.line + 1
            value = self._plain(value_node, (*location, key))
            self._lines[(*location, key)] = line
            yield key, value


def _most_telling(problems: Sequence[ErrorDetails]) -> ErrorDetails:
    """The first problem; of a value that may be several types, that of the type which it has."""
    first = problems[0]
    same = [item for item in problems if item["loc"][: len(first["loc"]) - 1] == first["loc"][:-1]]
    return next((item for item in same if not item["type"].endswith("_type")), first) if len(same) > 1 else first


def nearest(name: str, valid: Sequence[str]) -> str:
    """` (did you mean 'x'?)` for the most similar valid name, or nothing."""
    close = difflib.get_close_matches(name, valid, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _describe(value: object) -> str:
    if value is None:
        return "nothing"
    kinds = {dict: "a mapping", list: "a list", str: "text", bool: "a truth value", int: "a number", float: "a number"}
    kind = kinds.get(type(value), type(value).__name__)
    return kind if isinstance(value, dict | list) else f"{kind} {value!r}"


def _field_names(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Keys valid at `loc` below `model`, followed through nested models, lists and mappings."""
    candidates: list[type[BaseModel]] = [model]
    for step in loc:
        if named := [item for item in candidates if item.__name__ == step]:
            candidates = named
            continue
        following = [nested for item in candidates for nested in _nested_models(item, step)]
        candidates = following or candidates
    return [name for item in candidates for name in item.model_fields]


def _nested_models(model: type[BaseModel], step: str | int) -> list[type[BaseModel]]:
    field = model.model_fields.get(str(step))
    return [] if field is None else _models_in(field.annotation)


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments: tuple[object, ...] = getattr(annotation, "__args__", ())
    return [model for argument in arguments for model in _models_in(argument)]
