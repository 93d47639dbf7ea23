from collections.abc import Iterator

import pytest

from tests.support.http_server import Server, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A loopback server, which may be asked."""
    monkeypatch.setenv("CURATION_ALLOW_PRIVATE_HOSTS", "1")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as started:
        yield started
