import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.catalog.spec import Catalog
from curation.errors import MixtureError, PlanError
from curation.mixture.file import load_curriculum, load_mixture, load_written
from curation.mixture.layers import Layer
from curation.mixture.spec import Mixture
from tests.support.tokenizer_files import write_letter_tokenizer


def write(catalog: Catalog, **files: str) -> Path:
    """Files of mixtures beside the catalog; the path of the first."""
    for name, text in files.items():
        (catalog.folder / f"{name}.yaml").write_text(text)
    return catalog.folder / f"{next(iter(files))}.yaml"


def test_a_mixture_lies_over_the_one_it_extends(world: Catalog):
    top = write(
        world,
        top="name: top\nextends: base.yaml\nsize: 9\nratios: {math: 1}\nsources: {sums: {repeat: 2}, chats: {exclude: true}}\n",
        base="name: base\nsize: 5\ncap: 7\nratios: {math: 0.5, general: 0.5}\nsources: {sums: {cap: 3, repeat: 4}}\n",
    )
    expected = Mixture(
        name="top",
        size=9,
        cap=7,
        ratios={"math": 1},
        sources={"sums": {"cap": 3, "repeat": 2}, "chats": {"exclude": True}},
    )
    assert load_mixture(top, world) == expected


def test_null_takes_an_inherited_key_out(world: Catalog):
    top = write(
        world,
        top="name: top\nextends: base.yaml\ncap: null\nsources: {sums: {cap: null}}\nwhere: {num_turns: null}\n",
        base="name: base\ncap: 7\nsources: {sums: {cap: 3, repeat: 4}}\nwhere: {num_turns: 2, num_tokens: 3}\n",
    )
    expected = Mixture(name="top", sources={"sums": {"repeat": 4}}, where={"num_tokens": 3})
    assert load_mixture(top, world) == expected


def test_what_one_file_is_called_is_not_inherited(world: Catalog):
    with pytest.raises(MixtureError, match=r"top\.yaml:1: name: required key 'name' is missing"):
        load_mixture(write(world, top="extends: base.yaml\n", base="name: base\n"), world)


@pytest.mark.parametrize(
    ("top", "place", "told"),
    [
        ("name: top\nextends: base.yaml\n", "base.yaml:3", "cap: found a number 0"),
        ("name: top\nextends: base.yaml\ncap: 2\nsise: 4\n", "top.yaml:4", "unknown key 'sise'"),
        ("name: top\nextends: base.yaml\ncap: 2\nsources: {sums: {repeat: 0}}\n", "top.yaml:4", "sources.sums.repeat"),
    ],
)
def test_what_is_wrong_is_shown_in_the_file_it_is_written_in(world: Catalog, top: str, place: str, told: str):
    path = write(world, top=top, base="name: base\n\ncap: 0\nsources: {sums: {repeat: 3}}\n")
    with pytest.raises(MixtureError) as caught:
        load_mixture(path, world)
    assert str(caught.value).startswith(f"{world.folder}/{place}: ")
    assert told in str(caught.value)


def test_files_that_extend_one_another_are_refused(world: Catalog):
    chain = {"a": "name: a\nextends: b.yaml\n", "b": "name: b\nextends: c.yaml\n", "c": "name: c\n\nextends: a.yaml\n"}
    with pytest.raises(MixtureError, match=r"c\.yaml:3: extends: .* in a circle: a\.yaml -> b\.yaml -> c\.yaml -> a\.yaml"):
        load_mixture(write(world, **chain), world)


def test_an_endless_chain_is_refused(world: Catalog):
    chain = {f"m{number}": f"name: m{number}\nextends: m{number + 1}.yaml\n" for number in range(30)}
    with pytest.raises(MixtureError, match="more than 16 files"):
        load_mixture(write(world, **chain, m30="name: m30\n"), world)


def test_stages_come_in_order_over_what_they_share(world: Catalog):
    path = write(
        world,
        two="name: two\nseed: 4\ncap: 8\nstages:\n- {name: warm, extends: base.yaml, include: [sums]}\n"
        "- {name: main, cap: 3}\n",
        base="name: base\nsize: 5\ncap: 6\n",
    )
    found = load_curriculum(path, world)
    assert (found.name, found.is_staged) == ("two", True)
    assert [written.mixture for written in found.stages] == [
        Mixture(name="two-warm", seed=4, size=5, cap=6, include=["sums"]),
        Mixture(name="two-main", seed=4, cap=3),
    ]
    assert load_written(path, world, "main").mixture.cap == 3


def test_one_of_several_stages_must_be_named(world: Catalog):
    two = write(world, two="name: two\nstages:\n- {name: warm}\n- {name: main}\n", one="name: one\n")
    with pytest.raises(MixtureError, match=r"name one behind '#': two\.yaml#warm"):
        load_mixture(two, world)
    with pytest.raises(MixtureError, match=r"no stage 'mian' \(did you mean 'main'\?\); its stages are warm, main"):
        load_mixture(two, world, "mian")
    with pytest.raises(MixtureError, match="has no stages"):
        load_mixture(world.folder / "one.yaml", world, "main")


def test_a_plan_that_asks_for_too_much_points_at_the_line(world: Catalog):
    written = load_written(write(world, top="name: top\nextends: base.yaml\n", base="name: base\n\nsize: 99\n"), world)
    with pytest.raises(PlanError, match=r"^\S+base\.yaml:3: size: too much$"), written.pointing():
        raise PlanError("too much", ("size",))
    with pytest.raises(PlanError, match=r"^\S+top\.yaml:\d: too much$"), written.pointing():
        raise PlanError("too much")


@pytest.mark.parametrize(
    "text",
    [
        "name: m\nname: n\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nname: m\n",
        "name: &n m\nsources: {sums: {take: *n}}\n",
        "name: m\nsources: {sums: {take: 1}, sums: {take: 2}}\n",
        "name: !!python/object/apply:os.system [ls]\n",
        "name: m\nwhere: " + "{num_tokens: " * 300 + "1" + "}" * 300 + "\n",
        "name: m\nsize: 99999999999999999999999999999999999\nratios: [1]\n",
        "name: m\nwhere: {num_tokens: __import__('os').system('ls')}\n",
        "- name: m\n",
        "name: [m]\nstages: {}\n",
        "name: 3\nstages: [{name: a}]\n",
        "name: m\nstages: [a, b]\n",
        "\ufeffname: m\nsize: x\n",
    ],
)
def test_whatever_is_no_mixture_is_refused_with_its_place(world: Catalog, text: str):
    path = write(world, m=text)
    with pytest.raises(MixtureError) as caught:
        load_curriculum(path, world)
    assert caught.value.exit_code == 2
    assert re.match(rf"{re.escape(str(path))}(:\d+)?: ", str(caught.value))
    assert "\n" not in str(caught.value)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.dictionaries(st.sampled_from([*Mixture.model_fields, "stages", "extends"]), PLAIN, max_size=4))
def test_any_values_are_read_or_refused_in_one_paragraph(world: Catalog, keys: dict[str, object]):
    path = world.folder / "any.yaml"
    path.write_text(yaml.safe_dump({"name": "m"} | keys, allow_unicode=True), encoding="utf-8", errors="surrogateescape")
    try:
        load_curriculum(path, world)
    except MixtureError as problem:
        assert str(path) in str(problem)


@given(
    base=st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)),
    top=st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 3)),
)
def test_a_layer_replaces_and_takes_out(base: dict[str, int], top: dict[str, int | None]):
    places = {(key,): (Path("top"), 1) for key in top}
    found = Layer(dict(top), places).over(Layer(dict(base), {(key,): (Path("base"), 1) for key in base}), ())
    assert found.value == {key: value for key, value in {**base, **top}.items() if value is not None}
    assert {key: found.places[(key,)][0].name for key in found.value} == {
        key: "top" if key in top else "base" for key in found.value
    }


def test_a_tokenizer_lies_beside_the_file_that_names_it(world: Catalog):
    tokenizer = write_letter_tokenizer(world.folder / "base" / "letters")
    (world.folder / "base" / "base.yaml").write_text("name: base\ntokenizer: letters\n")
    top = write(world, top="name: top\nextends: base/base.yaml\n")
    assert load_mixture(top, world).tokenizer == str(tokenizer)
    with pytest.raises(MixtureError, match=r"top\.yaml:2: tokenizer: tokenizer '.*gone': No such file"):
        load_mixture(write(world, top="name: top\ntokenizer: gone\n"), world)
