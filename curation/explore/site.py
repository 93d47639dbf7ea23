"""The pages of `curate explore`: a list that is searched and filtered, and one page a sample. No script runs in them.

Text from data is escaped by the templates; the content policy allows nothing but this site's own pictures and style.
"""

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from curation.errors import ConfigurationError
from curation.explore.index import REJECTED
from curation.explore.records import NoSuchPictureError, Records
from curation.explore.search import COUNT_LIMIT, FACETS, Found, Index, Query

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_STYLE = (Path(__file__).parent / "templates" / "explore.css").read_text(encoding="utf-8")
_MAX_QUERY_CHARS = 500


def listen(host: str, port: int) -> socket.socket:
    """A socket at `host` that listens at `port`, or at any free one for 0. Raises ConfigurationError when it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as problem:
        raise ConfigurationError(
            f"cannot listen at {host} port {port}: {problem.strerror or problem}; --port 0 takes any that is free"
        ) from None


def make_site(title: str, index: Index, records: Records, *, hosts: list[str]) -> FastAPI:
    """The application. Requests that name another host than `hosts` are refused, so no other page can reach it by name."""
    site = FastAPI(title="curate explore", docs_url=None, redoc_url=None, openapi_url=None)
    site.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("curation.explore"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    pages.filters["count"] = lambda number: f"{number:,}"
    pages.globals.update(title=title, link=_link, count_limit=COUNT_LIMIT, rejected=REJECTED)

    def page(name: str, status: int = 200, **values: Any) -> HTMLResponse:
        return HTMLResponse(pages.get_template(name).render(**values), status)

    @site.middleware("http")
    async def with_headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        response.headers.update(_HEADERS)
        return response

    @site.get("/")
    def listing(request: Request) -> HTMLResponse:
        query = _query(request)
        found = index.find(query)
        return page("list.html.j2", query=query, found=found, facets=index.facets, shown=_facts(found))

    @site.get("/sample/{identifier:path}")
    def sample(identifier: str) -> HTMLResponse:
        row = index.row(identifier)
        if row is None:
            return page("missing.html.j2", 404, identifier=identifier[:200])
        record = records.record(row)
        text = "\n".join(turn["value"] for turn in record["conversations"])
        twin = index.row(row["twin_id"]) if row["twin_id"] else None
        return page(
            "sample.html.j2",
            row=row,
            record=record,
            raw=(record.get("raw") or b"").decode("utf-8", "replace"),
            twin=twin,
            twin_record=records.record(twin) if twin else None,
            duplicates=[other for other in index.duplicates(row) if not twin or other["id"] != twin["id"]],
            alike=index.alike(row, text or row["question"] or ""),
        )

    @site.get("/picture/{number}/{identifier:path}")
    def picture(number: int, identifier: str) -> Response:
        row = index.row(identifier)
        if row is None or row["verdict"] == REJECTED:
            return Response("no such sample", 404)
        try:
            data, media_type = records.picture(row, number)
        except NoSuchPictureError as problem:
            return Response(str(problem), 404)
        return Response(data, media_type=media_type, headers={"Cache-Control": "private, max-age=86400"})

    @site.get("/explore.css")
    def style() -> Response:
        return Response(_STYLE, media_type="text/css")

    @site.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)

    return site


def _query(request: Request) -> Query:
    given = request.query_params
    after = given.get("after", "0")
    facets = {kind: given[kind] for kind in FACETS if given.get(kind)}
    return Query(
        text=given.get("q", "")[:_MAX_QUERY_CHARS],
        facets=facets,
        after=int(after) if after.isdecimal() and len(after) < 18 else 0,
    )


def _link(query: Query, after: int) -> str:
    return "/?" + urlencode({"q": query.text, **query.facets, "after": after})


def _facts(found: Found) -> str:
    return f"more than {COUNT_LIMIT:,}" if found.num > COUNT_LIMIT else f"{found.num:,}"
