"""What a catalog may say where a text is made from a record."""

from typing import Annotated

from pydantic import Field, StringConstraints

from curation.catalog.template import Template, TemplateError
from curation.yaml_file import Settings


class Text(Settings):
    """A value that is the same for every record."""

    text: str


def check_template(value: str) -> str:
    """`value`. Raises ValueError unless it is a well-formed template."""
    try:
        Template(value)
    except TemplateError as problem:
        raise ValueError(str(problem)) from None
    return value


TemplateText = Annotated[str, StringConstraints(min_length=1)]
Value = TemplateText | Text | Annotated[list[TemplateText], Field(min_length=1)]
"""A field path (`answer`, `html.cells`), a template (`{question} {unit?}`), alternatives in a list, or fixed `{text: ...}`."""
