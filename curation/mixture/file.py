"""Reading mixtures from YAML: one file over those it `extends`, one mixture or several `stages`; checked by the catalog."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from curation.catalog.spec import Catalog
from curation.errors import MixtureError, PlanError
from curation.mixture.dedup import SemanticSpec
from curation.mixture.layers import LayeredYaml, layer_of
from curation.mixture.spec import Mixture, Selector, participants
from curation.model_files import model_problem
from curation.token_counts import TokenizerFile
from curation.yaml_file import YamlFile, nearest

MERGED_KEYS = ("sources", "categories", "where")
"""Keys of a mixture that extends another which are merged with that one's; all others take their place."""

STAGES = "stages"
_OWN_KEYS = ("name", "reproduces", STAGES)
"""Keys that say what one file is, and are never taken from one that it extends."""


@dataclass(frozen=True, slots=True)
class WrittenMixture:
    """A mixture and the file it is written in; `stage` is its name among the stages of that file, if it has any."""

    mixture: Mixture
    file: LayeredYaml
    stage: str | None = None

    @contextmanager
    def pointing(self) -> Iterator[None]:
        """Say in which file and line the key stands that a PlanError raised inside the block is about."""
        try:
            yield
        except PlanError as problem:
            raise PlanError(str(self.file.fail(str(problem), at=problem.key)), problem.key) from None


@dataclass(frozen=True, slots=True)
class Curriculum:
    """What a mixture file holds: one mixture, or several that are trained on in order."""

    path: Path
    name: str
    stages: Sequence[WrittenMixture]

    @property
    def is_staged(self) -> bool:
        """Whether the file has `stages`."""
        return any(stage.stage is not None for stage in self.stages)

    def stage(self, name: str | None) -> WrittenMixture:
        """The stage called `name`, or the mixture of a file without stages. Raises MixtureError naming what there is."""
        for written in self.stages:
            if written.stage == name:
                return written
        names = [written.stage for written in self.stages if written.stage is not None]
        if name is None:
            message = f"has stages, and one mixture is wanted; name one behind '#': {self.path.name}#{names[0]}"
        elif not names:
            message = f"has no stages, so there is no '{name}'; leave '#{name}' out"
        else:
            message = f"no stage '{name}'{nearest(name, names)}; its stages are {', '.join(names)}"
        raise MixtureError(f"{self.path}: {message}")


def load_mixture(path: Path, catalog: Catalog, stage: str | None = None) -> Mixture:
    """The one mixture at `path`, or its stage. Raises MixtureError, with file and line, for whatever is wrong with it."""
    return load_written(path, catalog, stage).mixture


def load_written(path: Path, catalog: Catalog, stage: str | None = None) -> WrittenMixture:
    """Like `load_mixture`, with the file. A file with several stages needs the name of one."""
    return load_curriculum(path, catalog).stage(stage)


def load_curriculum(path: Path, catalog: Catalog) -> Curriculum:
    """Every mixture at `path`, in order. Raises MixtureError, with file and line, for the first thing wrong with it."""
    file = YamlFile(path, error=MixtureError)
    outer = layer_of(file, (), MERGED_KEYS, kept_by_each=_OWN_KEYS)
    if STAGES not in outer.value:
        written = LayeredYaml(path, outer, error=MixtureError)
        mixture = _parse(written, catalog)
        return Curriculum(path, mixture.name, [WrittenMixture(mixture, written)])
    listed, name = outer.value[STAGES], outer.value.get("name")
    if not isinstance(listed, list) or not listed:
        raise file.fail("expected a list of mixtures, each with a name of its own", at=(STAGES,))
    if not isinstance(name, str):
        raise file.fail("required key 'name' is missing" if name is None else f"found {name!r}, expected text", at=("name",))
    stages: list[WrittenMixture] = []
    defaults = outer.without(*_OWN_KEYS)
    for number in range(len(listed)):
        at = (STAGES, number)
        inner = layer_of(file, at, MERGED_KEYS, kept_by_each=_OWN_KEYS)
        called = inner.value.get("name")
        if not isinstance(called, str):
            raise file.fail("expected the stage's `name`", at=at)
        if called in [stage.stage for stage in stages]:
            raise file.fail(f"two stages are called '{called}'", at=(*at, "name"))
        if STAGES in inner.value:
            raise file.fail("a stage has no stages of its own", at=(*at, STAGES))
        layer = inner.over(defaults, MERGED_KEYS)
        layer.value["name"] = f"{name}-{called}"
        written = LayeredYaml(path, layer, error=MixtureError)
        mixture = _parse(written, catalog)
        stages.append(WrittenMixture(mixture, written, called))
    return Curriculum(path, name, stages)


def _parse(file: LayeredYaml, catalog: Catalog) -> Mixture:
    """The mixture, checked by the catalog; the path of its tokenizer starts at the file that names it."""
    mixture = file.parse(Mixture, file.value)
    _check(mixture, file, catalog)
    if mixture.tokenizer is None:
        return mixture
    path = file.path_of(("tokenizer",)).parent / mixture.tokenizer
    try:
        found = TokenizerFile.find(path)
    except MixtureError as problem:
        raise file.fail(str(problem), at=("tokenizer",)) from None
    return mixture.model_copy(update={"tokenizer": str(found.path.absolute())})


def _check(mixture: Mixture, file: LayeredYaml, catalog: Catalog) -> None:
    """Raises MixtureError when the mixture names what the catalog does not have, or leaves nothing in."""
    valid = sorted(catalog.sources)
    for name in mixture.sources:
        if name not in catalog.sources:
            raise file.fail(_unknown("source", name, valid), at=("sources", name))
    for number, name in enumerate(mixture.dedup.sources if mixture.dedup else ()):
        if name not in catalog.sources:
            raise file.fail(_unknown("source", name, valid), at=("dedup", "sources", number))
    if mixture.dedup is not None and mixture.dedup.semantic is not None:
        _check_models(mixture.dedup.semantic, file)
    for key, selector in (("include", mixture.include), ("exclude", mixture.exclude)):
        if selector is not None:
            _check_selector(key, selector, file, catalog)
    _check_benchmarks(mixture, file, list(catalog.benchmarks))
    present = participants(mixture, catalog.sources)
    if not present:
        raise file.fail("every source is excluded; leave at least one in", at=_blamed(mixture))
    held = sorted({source.category.value for source in present.values()})
    for category, ratio in (mixture.ratios or {}).items():
        if ratio and category not in held:
            message = f"has a share, but no source of it takes part; categories that do: {', '.join(held)}"
            raise file.fail(message, at=("ratios", category))


def _check_selector(key: str, selector: Selector, file: LayeredYaml, catalog: Catalog) -> None:
    rows = catalog.sources.values()
    for kind, names, valid in (
        ("source", selector.sources, sorted(catalog.sources)),
        ("licence", selector.licenses, sorted({row.license for row in rows})),
        ("tag", selector.tags, sorted({tag for row in rows for tag in row.tags})),
    ):
        field = {"source": "sources", "licence": "licenses", "tag": "tags"}[kind]
        for number, name in enumerate(names or ()):
            known = name in valid if kind == "source" else any(fnmatchcase(value, name) for value in valid)
            if not known:
                at: tuple[str | int, ...] = (key, field, number)
                place = at if isinstance(file.value, dict) and isinstance(file.value.get(key), dict) else (key, number)
                raise file.fail(_unknown(kind, name, valid), at=place)


def _check_models(spec: SemanticSpec, file: LayeredYaml) -> None:
    for folder, key, problem_of in (
        (spec.model, "model", partial(model_problem, kind="text")),
        (spec.vision_model, "vision_model", partial(model_problem, kind="vision")),
    ):
        if folder is not None and (problem := problem_of(Path(folder))):
            raise file.fail(f"model '{folder}' {problem}", at=("dedup", "semantic", key))


def _check_benchmarks(mixture: Mixture, file: LayeredYaml, known: list[str]) -> None:
    spec = mixture.decontaminate
    if spec is None:
        return
    if not known:
        raise file.fail("the catalog has no `benchmarks:` to hold samples against", at=("decontaminate",))
    named = [] if spec.benchmarks == "all" else spec.benchmarks
    for name in [*named, *spec.rules]:
        if name not in known:
            raise file.fail(_unknown("benchmark", name, known), at=("decontaminate",))


def _unknown(kind: str, name: str, valid: list[str]) -> str:
    return f"unknown {kind} '{name}'{nearest(name, valid)}; the catalog has {', '.join(valid) or 'none'}"


def _blamed(mixture: Mixture) -> tuple[str, ...]:
    return ("include",) if mixture.include is not None else ("exclude",) if mixture.exclude is not None else ("sources",)
