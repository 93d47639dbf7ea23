"""Pictures at URLs that records hold: fetched once, bounded, politely, and from public hosts only."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from curation.catalog.template import Unusable
from curation.errors import FetchError, RejectReason
from curation.fetch.picture_urls import (
    SILENCES,
    PictureSettings,
    fetch_pictures,
    forget_gone,
    picture_name,
    read_picture,
)
from curation.runtime.progress import LineReporter
from tests.support.http_server import Server, serving
from tests.support.upstream import picture

QUICK = PictureSettings(first_wait_s=0.0, longest_wait_s=0.0, timeout_s=5.0)
GOOD = {f"{number}.png": picture(number) for number in range(20)}


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("CURATION_ALLOW_PRIVATE_HOSTS", "all")
    with serving(dict(GOOD)) as server:
        yield server


def fetch(urls: list[str], folder: Path, settings: PictureSettings = QUICK) -> None:
    fetch_pictures(urls, folder, LineReporter(None), settings)


def reason(folder: Path, url: str) -> tuple[RejectReason, str]:
    with pytest.raises(Unusable) as caught:
        read_picture(folder, url)
    return caught.value.reason, caught.value.detail


def urls_of(server: Server) -> list[str]:
    return [f"{server.url}/{name}" for name in GOOD]


def test_pictures_are_fetched_once_and_kept_as_they_came(web: Server, tmp_path: Path):
    urls = urls_of(web)
    fetch(urls, tmp_path)
    assert [read_picture(tmp_path, url) for url in urls] == list(GOOD.values())
    before = len(web.requests)
    fetch(urls, tmp_path)
    assert len(web.requests) == before == len(urls)


def test_what_is_no_picture_is_gone_with_its_address_and_status(web: Server, tmp_path: Path):
    def answer(request):  # type: ignore[no-untyped-def]
        if request.path.startswith("/page"):
            return 200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>sorry</html>"
        if request.path.startswith("/secret"):
            return 403, {}, b"no"
        return (200, {}, b"") if request.path.startswith("/empty") else None

    web.answer = answer
    web.files["large"] = bytes(2_000)
    bad = [f"{web.url}/{name}" for name in ("nothing.png", "page.jpg?key=private", "secret", "empty", "large")]
    odd = ["ftp://example.org/a.png", "http://[::1", "http://user:word@example.org/a.png", "not an address", "http://x:99999/a"]
    fetch([*urls_of(web), *bad, *odd], tmp_path, PictureSettings(max_bytes=1_000))
    told = {url: reason(tmp_path, url) for url in [*bad, *odd]}
    assert told[bad[0]] == (RejectReason.MISSING_IMAGE, "the server answers 404; it is not there")
    assert "answers 200 with text/html, which is no picture" in told[bad[1]][1] and "private" not in told[bad[1]][1]
    assert "answers 403" in told[bad[2]][1]
    assert told[bad[3]][1] == "the server answers 200 with nothing"
    assert told[bad[4]][0] is RejectReason.IMAGE_TOO_LARGE and "the limit is 1,000" in told[bad[4]][1]
    assert all("is no address of a picture" in told[url][1] for url in odd)
    before = len(web.requests)
    fetch([*urls_of(web), *bad, *odd], tmp_path)
    assert len(web.requests) == before, "what is gone is not asked for again"
    web.files["nothing.png"] = GOOD["1.png"]
    forget_gone(bad, tmp_path)
    fetch(bad[:1], tmp_path)
    assert read_picture(tmp_path, bad[0]) == GOOD["1.png"]


def test_a_size_that_is_not_announced_is_bounded_too(web: Server, tmp_path: Path):
    web.answer = lambda request: (200, {"Content-Length": "", "Connection": "close"}, bytes(5_000))
    fetch([f"{web.url}/x"], tmp_path, PictureSettings(max_bytes=1_000))
    assert reason(tmp_path, f"{web.url}/x")[0] is RejectReason.IMAGE_TOO_LARGE
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".gone"]


def test_failures_that_pass_are_tried_again(web: Server, tmp_path: Path):
    web.plan.status = [(503, {}), (429, {"Retry-After": "0"})]
    web.plan.reset_after = [10]
    web.plan.short_by = [7]
    fetch(urls_of(web), tmp_path, replace(QUICK, attempts=5))  # one more than there are failures, whoever meets them
    assert [read_picture(tmp_path, url) for url in urls_of(web)] == list(GOOD.values())


def test_a_busy_host_is_left_in_peace_as_long_as_it_says(web: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []
    monkeypatch.setattr("curation.fetch.client.Client.wait", lambda self, seconds: waits.append(seconds))
    web.plan.status = [(429, {"Retry-After": "7"})]
    fetch(urls_of(web)[:1], tmp_path, PictureSettings())
    assert max(waits) == 7.0


def test_when_much_does_not_come_the_next_run_asks_once_more(web: Server, tmp_path: Path):
    urls = urls_of(web)
    web.answer = lambda request: (503, {}, b"") if int(request.path[1:-4]) >= 10 else None
    with pytest.raises(FetchError, match=r"10 of 20 pictures did not come, such as http://127.*answers 503.*run again"):
        fetch(urls, tmp_path)
    web.answer = lambda request: (503, {}, b"") if int(request.path[1:-4]) == 13 else None
    fetch(urls, tmp_path)
    there = [(tmp_path / picture_name(url)).exists() for url in urls]
    assert there == [number != 13 for number in range(20)]
    assert "the server answers 503" in reason(tmp_path, urls[13])[1]
    before = len(web.requests)
    fetch(urls, tmp_path)
    assert len(web.requests) == before


def test_a_killed_run_asks_for_the_rest_only(web: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from curation.fetch import picture_urls

    taken: list[str] = []
    take = picture_urls.take_picture

    def dies(client, url, write, max_bytes):  # type: ignore[no-untyped-def]
        if len(taken) == 8:
            raise KeyboardInterrupt
        take(client, url, write, max_bytes)
        taken.append(url)

    monkeypatch.setattr(picture_urls, "take_picture", dies)
    with pytest.raises(KeyboardInterrupt):
        fetch(urls_of(web), tmp_path, PictureSettings(connections=1))
    monkeypatch.setattr(picture_urls, "take_picture", take)
    fetch(urls_of(web), tmp_path)
    asked = [request.path for request in web.requests]
    assert sorted(asked) == sorted(f"/{name}" for name in GOOD), "each was asked for once over both runs"


def test_a_host_that_does_not_answer_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CURATION_ALLOW_PRIVATE_HOSTS", "all")
    with serving() as server:
        gone = server.url
    settings = PictureSettings(connections=1, attempts=2, first_wait_s=0.0)
    tries: list[str] = []
    from curation.fetch import picture_urls

    take = picture_urls.take_picture

    def noted(client, url, write, max_bytes):  # type: ignore[no-untyped-def]
        tries.append(url)
        take(client, url, write, max_bytes)

    monkeypatch.setattr(picture_urls, "take_picture", noted)
    with pytest.raises(FetchError, match="30 of 30 pictures did not come"):
        fetch([f"{gone}/{n}.png" for n in range(30)], tmp_path, settings)
    assert len(tries) == SILENCES * 2


# --- What strangers may not do ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", ["", "1"])
def test_urls_of_records_do_not_reach_private_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: str):
    monkeypatch.setenv("CURATION_ALLOW_PRIVATE_HOSTS", allowed)
    with serving(dict(GOOD)) as server:
        fetch([f"{server.url}/1.png"], tmp_path)
        assert "is a private address" in reason(tmp_path, f"{server.url}/1.png")[1]
        assert not server.requests


def test_urls_of_records_are_never_filled_from_the_environment(web: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_sesame")
    fetch([f"{web.url}/1.png?take=${{HF_TOKEN}}"], tmp_path)
    [request] = web.requests
    assert "sesame" not in request.path + str(request.headers)


def test_a_redirect_may_not_lead_where_the_url_may_not(web: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def public(url: str, *, is_from_data: bool = False) -> None:
        asked.append(url)
        assert is_from_data
        if "/2.png" in url:
            raise FetchError(f"{url}: private")

    monkeypatch.setattr("curation.fetch.client.expect_public", public)
    web.redirects = {"away": "/2.png"}
    fetch([f"{web.url}/away"], tmp_path)
    assert "private" in reason(tmp_path, f"{web.url}/away")[1] and len(asked) == 2
