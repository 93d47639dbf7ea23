"""The templates' surroundings: where they lie, and how figures are written in them."""

import jinja2

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def environment(*, autoescape: bool) -> jinja2.Environment:
    """Templates of this package; an undefined name in one is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("curation.report"),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update({"count": count, "percent": percent, "size": size})
    return made


def count(number: int) -> str:
    """A number with its thousands apart."""
    return f"{number:,}"


def percent(share: float) -> str:
    """A share of 1 in per cent: `12.3 %`; what is little but not nothing is `<0.1 %`."""
    return "<0.1 %" if 0 < share < 0.0005 else f"{share * 100:.1f} %"


def size(num_bytes: int) -> str:
    """A size in decimal units: `130.7 MB`."""
    if num_bytes < 1_000:
        return f"{num_bytes} bytes"
    power = min((len(str(num_bytes)) - 1) // 3, len(_UNITS) - 1)
    return f"{num_bytes / 1_000**power:,.1f} {_UNITS[power]}"
