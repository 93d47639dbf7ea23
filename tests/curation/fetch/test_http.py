import hashlib
import logging
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.errors import CatalogError, FetchError
from curation.fetch import ranges
from curation.fetch.client import Client
from curation.fetch.http import HttpFile, HttpSettings, fetch_http, name_of
from curation.fetch.ranges import Progress
from curation.runtime.progress import LineReporter
from tests.support.http_server import Plan, Server, serving

DATA = bytes(range(251)) * 4_000  # a little over 1 MB
SHA256 = hashlib.sha256(DATA).hexdigest()
QUICK = HttpSettings(connections=3, range_bytes=200_000, attempts=4, first_wait_s=0.001, longest_wait_s=0.01, timeout_s=5)


def fetch(server: Server, folder: Path, *, settings: HttpSettings = QUICK, **promised: Any) -> dict[str, str]:
    file = HttpFile(f"{server.url}/a.bin", "deep/a.bin", **promised)
    return fetch_http([file], folder, LineReporter(None), settings)


@pytest.fixture
def data(server: Server) -> Server:
    server.files["a.bin"] = DATA
    return server


def test_large_files_come_in_parallel_ranges_and_are_whole(data: Server, tmp_path: Path):
    assert fetch(data, tmp_path, size=len(DATA), sha256=SHA256) == {}
    assert (tmp_path / "deep/a.bin").read_bytes() == DATA
    assert sorted(request.start for request in data.requests) == [0, 200_000, 400_000, 600_000, 800_000, 1_000_000]
    assert all("cambrian-curation" in request.headers["User-Agent"] for request in data.requests)
    assert not list((tmp_path / ".fetch").glob("*.part"))


def test_what_is_fetched_is_not_asked_for_again(data: Server, tmp_path: Path):
    fetch(data, tmp_path)
    data.requests.clear()
    assert fetch(data, tmp_path) == {} and not data.requests
    assert fetch(data, tmp_path, sha256=SHA256) == {} and not data.requests
    assert "expected 7" in fetch(data, tmp_path, size=7)["deep/a.bin"]


def test_a_server_without_ranges_is_read_from_the_start(data: Server, tmp_path: Path):
    data.plan.knows_ranges = False
    data.plan.reset_after = [700_000, 300_000]
    assert fetch(data, tmp_path, sha256=SHA256) == {}
    assert len(data.requests) == 3


def test_broken_connections_are_taken_up_where_they_broke(data: Server, tmp_path: Path):
    data.plan.reset_after = [120_000]
    assert fetch(data, tmp_path, sha256=SHA256, settings=HttpSettings(connections=1, first_wait_s=0.001)) == {}
    assert [request.start for request in data.requests] == [0, 120_000]
    assert data.requests[1].headers["If-Range"] == '"one"'


def test_short_bodies_are_noticed_and_completed(data: Server, tmp_path: Path):
    data.plan.short_by = [50_000, 1]
    assert fetch(data, tmp_path, sha256=SHA256) == {}


@given(st.lists(st.integers(0, 250_000), max_size=8), st.lists(st.integers(0, 1_000), max_size=4), st.booleans())
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_breaks_the_file_is_right_or_not_there(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, resets: list[int], short: list[int], ranged: bool
):
    monkeypatch.setenv("CURATION_ALLOW_PRIVATE_HOSTS", "1")
    folder = tmp_path_factory.mktemp("broken")
    plan = Plan(reset_after=list(resets), short_by=list(short), knows_ranges=ranged)
    with serving({"a.bin": DATA}, plan) as server:
        failures = fetch(server, folder)
        path = folder / "deep/a.bin"
        assert path.exists() == (not failures)
        assert not path.exists() or path.read_bytes() == DATA
        if failures:
            plan.reset_after, plan.short_by = [], []
            assert fetch(server, folder) == {} and path.read_bytes() == DATA


def test_a_busy_server_is_waited_for(data: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []
    monkeypatch.setattr(Client, "wait", lambda self, seconds: waits.append(seconds))
    data.plan.status = [(503, {"Retry-After": "7"}), (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}), (500, {})]
    assert fetch(data, tmp_path, sha256=SHA256, settings=HttpSettings(first_wait_s=1, longest_wait_s=100)) == {}
    assert waits == [7.0, 2.0, 4.0]


def test_a_server_that_stays_busy_is_given_up_on(data: Server, tmp_path: Path):
    data.plan.status = [(503, {})] * 10
    assert fetch(data, tmp_path)["deep/a.bin"].endswith("the server answers 503 (4 tries)")
    assert len(data.requests) == 4


@pytest.mark.parametrize(("status", "words"), [(404, "it is not there"), (403, "HF_TOKEN"), (410, "it is gone"), (400, "400")])
def test_refusals_are_final_and_explained(data: Server, tmp_path: Path, status: int, words: str):
    data.plan.status = [(status, {})]
    assert words in fetch(data, tmp_path)["deep/a.bin"]
    assert len(data.requests) == 1


def test_a_wrong_hash_is_never_published(data: Server, tmp_path: Path):
    problem = fetch(data, tmp_path, sha256="0" * 64)["deep/a.bin"]
    assert f"its sha256 is {SHA256}, expected {'0' * 64}" in problem
    assert not (tmp_path / "deep").exists()


def test_a_wrong_size_is_noticed_before_the_body(data: Server, tmp_path: Path):
    assert "has 1,004,000 bytes, expected 5" in fetch(data, tmp_path, size=5)["deep/a.bin"]
    assert "the limit for a file is 10" in fetch(data, tmp_path, settings=HttpSettings(max_bytes=10))["deep/a.bin"]


def test_a_body_that_never_ends_is_cut_off(server: Server, tmp_path: Path):
    limited = HttpSettings(max_bytes=100_000, attempts=1)
    server.answer = lambda request: (200, {"Connection": "close", "Content-Length": ""}, bytes(500_000))
    assert "limit" in fetch(server, tmp_path, settings=limited)["deep/a.bin"]


def test_a_file_that_changes_meanwhile_is_begun_anew(data: Server, tmp_path: Path):
    data.plan.reset_after = [150_000]
    assert fetch(data, tmp_path, settings=HttpSettings(connections=1, attempts=1, first_wait_s=0.001))
    assert list((tmp_path / ".fetch").glob("*.part"))
    data.plan.reset_after, data.plan.etag = [], '"two"'
    data.files["a.bin"] = DATA[::-1]
    assert fetch(data, tmp_path, sha256=hashlib.sha256(DATA[::-1]).hexdigest()) == {}
    assert (tmp_path / "deep/a.bin").read_bytes() == DATA[::-1]


def test_without_a_validator_only_a_promised_hash_lets_old_bytes_live(data: Server, tmp_path: Path):
    data.plan.etag = None
    once = HttpSettings(connections=1, attempts=1)
    for promised, first in (({}, 0), ({"sha256": SHA256}, 150_000)):
        data.plan.reset_after = [150_000]
        assert fetch(data, tmp_path / str(first), settings=once, **promised)
        data.requests.clear()
        assert fetch(data, tmp_path / str(first), settings=once, **promised) == {}
        assert data.requests[0].start == first


def test_an_empty_file(server: Server, tmp_path: Path):
    server.files["a.bin"] = b""
    assert fetch(server, tmp_path) == {} and (tmp_path / "deep/a.bin").read_bytes() == b""


def test_one_file_that_fails_does_not_keep_others_away(data: Server, tmp_path: Path):
    files = [HttpFile(f"{data.url}/{name}", name) for name in ("a.bin", "none.bin")]
    assert list(fetch_http(files, tmp_path, LineReporter(None), QUICK)) == ["none.bin"]
    assert (tmp_path / "a.bin").read_bytes() == DATA


def test_connections_are_bounded(data: Server, tmp_path: Path):
    most, now, lock = 0, 0, threading.Lock()

    def answer(request: Any) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.02)
        with lock:
            now -= 1

    data.answer = answer
    files = [HttpFile(f"{data.url}/a.bin", f"{number}.bin") for number in range(8)]
    assert fetch_http(files, tmp_path, LineReporter(None), QUICK) == {}
    assert 2 <= most <= QUICK.connections


def test_whoever_stops_it_does_not_wait_for_the_rest(data: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from concurrent.futures import Future

    slow = threading.Event()

    def answer(request: Any) -> None:
        slow.wait(0.2)

    def interrupted(self: Any, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    data.answer = answer
    files = [HttpFile(f"{data.url}/a.bin", f"{number}.bin") for number in range(12)]
    with monkeypatch.context() as patch:
        patch.setattr(Future, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch_http(files, tmp_path, LineReporter(None), QUICK)
    assert len(data.requests) <= 2 * QUICK.connections
    slow.set()
    data.answer = None
    assert fetch_http(files, tmp_path, LineReporter(None), QUICK) == {}


# --- Where it leads -----------------------------------------------------------------------------------------------------


def test_redirects_are_followed_but_not_for_ever(data: Server, tmp_path: Path):
    data.files["real.bin"] = data.files.pop("a.bin")
    data.redirects = {"a.bin": "/b.bin", "b.bin": f"{data.url}/real.bin"}
    assert fetch(data, tmp_path) == {}
    data.redirects = {"a.bin": "/b.bin", "b.bin": "/a.bin"}
    assert "more than 5 redirects" in fetch(data, tmp_path / "loop")["deep/a.bin"]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.org/a", "gopher://x/"])
def test_other_protocols_are_refused(data: Server, tmp_path: Path, target: str):
    data.redirects = {"a.bin": target}
    assert "only http:// and https://" in fetch(data, tmp_path)["deep/a.bin"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "localhost", "0.0.0.0", "[fe80::1]"]
)
def test_private_hosts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str):
    monkeypatch.delenv("CURATION_ALLOW_PRIVATE_HOSTS", raising=False)
    [problem] = fetch_http([HttpFile(f"http://{host}/a", "a")], tmp_path, LineReporter(None), QUICK).values()
    assert "is a private address" in problem


def test_a_name_that_changes_its_address_is_noticed(data: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CURATION_ALLOW_PRIVATE_HOSTS")
    monkeypatch.setattr("curation.fetch.client.expect_public", lambda url, **_: None)  # as a name that looked public would pass
    assert "127.0.0.1 is a private address" in fetch(data, tmp_path)["deep/a.bin"]


@pytest.mark.parametrize("name", ["../a", "/a", "", ".fetch/a", "a/../../b", "a\\b"])
def test_names_stay_in_their_folder(tmp_path: Path, name: str):
    with pytest.raises(FetchError, match="leaves its folder"):
        fetch_http([HttpFile("http://example.org/a", name)], tmp_path, LineReporter(None))


# --- Credentials --------------------------------------------------------------------------------------------------------


def test_credentials_come_from_the_environment_and_are_told_to_nobody(
    data: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("SECRET", "s3cr3t-query")
    monkeypatch.setenv("TOKEN", "s3cr3t-token")
    caplog.set_level(logging.DEBUG)
    signed = f"{data.url}/signed?signature=s3cr3t-signature"
    data.redirects = {"a.bin": signed, "loop": "/loop?again=s3cr3t-query"}
    data.files["signed"] = data.files["a.bin"]
    data.plan.status = [(503, {})]
    files = [
        HttpFile(f"{data.url}/{path}?key=${{SECRET}}", path, sha256=promised, token="TOKEN")
        for path, promised in (("a.bin", SHA256), ("none", None), ("loop", None))
    ]
    failures = fetch_http(files, tmp_path, LineReporter(sys.stderr), QUICK)
    assert sorted(failures) == ["loop", "none"]
    assert any("s3cr3t-query" in request.path for request in data.requests)
    assert any("s3cr3t-token" in request.headers.get("Authorization", "") for request in data.requests)
    captured = capsys.readouterr()
    written = "".join(path.read_text() for path in (tmp_path / ".fetch").iterdir() if path.suffix != ".part")
    for place in (str(failures), caplog.text, captured.out, captured.err, written):
        assert "s3cr3t" not in place
    assert "HTTP Request" in caplog.text  # the filter was tried


def test_a_token_is_not_sent_to_another_host(data: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOKEN", "abc")
    with serving({"b.bin": DATA}) as other:
        data.redirects = {"a.bin": f"{other.url}/b.bin"}
        assert fetch(data, tmp_path, token="TOKEN") == {}
        assert "Authorization" in data.requests[0].headers
        assert other.requests and not any("Authorization" in request.headers for request in other.requests)


def test_a_password_in_a_url_is_refused(tmp_path: Path):
    files = [HttpFile("https://user:s3cr3t@example.org/a", "a")]
    with pytest.raises(CatalogError, match="put it into the environment") as caught:
        fetch_http(files, tmp_path, LineReporter(None))
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(CatalogError, match="NOT_SET is not set"):
        fetch_http([HttpFile("https://example.org/${NOT_SET}", "a")], tmp_path, LineReporter(None))


def test_names_default_to_the_last_segment():
    assert name_of("https://example.org/x/y.tar.gz?download=1") == "y.tar.gz"


# --- Ranges -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=12), st.integers(1, 25))
def test_what_is_done_and_what_is_missing_make_the_whole(pieces: list[tuple[int, int]], longest: int):
    progress = Progress()
    progress.begin(80, None)
    covered: set[int] = set()
    for start, length in pieces:
        progress.add(start, start + length)
        covered |= set(range(start, start + length))
    gaps = list(progress.gaps(longest))
    assert all(0 < stop - start <= longest for start, stop in gaps)
    missing = [place for start, stop in gaps for place in range(start, stop)]
    assert missing == sorted(set(range(80)) - covered)
    assert progress.num_done == len(covered)
    assert list(Progress.parse(progress.document()).gaps(longest)) == gaps


def test_progress_is_written_down_now_and_then(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ranges, "SAVE_BYTES", 10)
    progress = Progress()
    assert [progress.add(0, stop) for stop in (4, 8, 12, 16, 30)] == [False, False, True, False, True]
