"""A plan as a page of its own: nothing in it is fetched, its charts follow the reader's light or dark preference.

The charts need the extra `pages` (altair and vl-convert, which carries Vega itself); everything else does without.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from curation.errors import ConfigurationError
from curation.storage.store import replacing

TEMPLATE = "page.html.j2"


def write_plan_page(path: Path, documents: Sequence[Mapping[str, Any]]) -> None:
    """Write the plans of `documents` (as `curate plan --json` prints them) to `path`.

    Raises ConfigurationError when the extra `pages` is not installed or the page cannot be written there.
    """
    page = plan_page(documents)
    try:
        with replacing(path.absolute()) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as problem:
        raise ConfigurationError(f"--html {path}: cannot be written ({problem.strerror}); give another file") from None


def plan_page(documents: Sequence[Mapping[str, Any]]) -> str:
    """The page as HTML."""
    try:
        import vl_convert

        from curation.planning.charts import bars, caps_to_show, curves, rings
    except ImportError as problem:
        raise ConfigurationError(
            f"--html needs {problem.name}, which is not installed; `pip install 'cambrian-curation[pages]'` brings it"
        ) from None
    plans: list[dict[str, Any]] = []
    charts: list[dict[str, Any]] = []
    for document in documents:
        drawn = [rings(document), bars(document), curves(document, caps_to_show(document))] if document["total"] else []
        plans.append({"document": document, "charts": list(range(len(charts), len(charts) + len(drawn)))})
        charts += [chart.to_dict() for chart in drawn]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return environment.get_template(TEMPLATE).render(plans=plans, charts=_script(charts), bundle=_inside_script(bundle))


def _script(value: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _inside_script(code: str) -> str:
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")
