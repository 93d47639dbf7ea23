"""Enough of the Hugging Face Hub, on the loopback, for its client and for `datasets`: repositories of files at commits."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest

from tests.support.http_server import Request, Server, serving

COMMIT = "c0ffee" + "0" * 34


@dataclass
class FakeHub:
    """Files by dataset; `commits` says what a branch means, `token` what must be shown."""

    datasets: dict[str, dict[str, bytes]]
    commits: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    token: str | None = None
    broken: dict[str, bytes] = field(default_factory=dict)
    """What is sent in place of a file, whatever its listing says."""
    server: Server | None = None

    def answer(self, request: Request) -> tuple[int, dict[str, str], bytes] | None:
        path, _, _query = request.path.partition("?")
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if self.token and request.headers.get("Authorization", request.headers.get("authorization")) != f"Bearer {self.token}":
            return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b"{}"
        if parts[:2] == ["api", "datasets"] and len(parts) >= 4:
            return self._api("/".join(parts[2:4]), parts[4:], request)
        if parts[0] == "datasets" and parts[3:4] == ["resolve"]:
            return self._file("/".join(parts[1:3]), parts[4], "/".join(parts[5:]), request)
        return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"

    def _api(self, name: str, rest: list[str], request: Request) -> tuple[int, dict[str, str], bytes]:
        if name not in self.datasets:
            return 404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b"{}"
        revision = rest[1] if len(rest) > 1 else "main"
        commit = self.commits.get(revision, revision if revision in self.commits.values() else None)
        if commit is None:
            return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}, b"{}"
        files = self.datasets[name]
        kind = rest[0] if rest else "revision"
        if kind == "tree":
            value: Any = _tree(files, "/".join(rest[2:]), is_deep="recursive=true" in request.path.lower())
        elif kind == "paths-info":
            asked = json.loads(request.body)["paths"] if request.body[:1] == b"{" else parse_qs(request.body.decode())["paths"]
            value = [_entry(path, files[path]) for path in asked if path in files]
        else:
            siblings = [{"rfilename": path, "size": len(data)} for path, data in files.items()]
            value = {
                "_id": "0",
                "id": name,
                "sha": commit,
                "siblings": siblings,
                "private": False,
                "tags": ["license:cc-by-4.0"],
                "downloads": 0,
                "likes": 0,
            }
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()

    def _file(self, name: str, revision: str, path: str, request: Request) -> tuple[int, dict[str, str], bytes]:
        files = self.datasets.get(name, {})
        if path not in files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}, b""
        data = self.broken.get(path, files[path])
        headers = {
            "ETag": f'"{hashlib.sha256(files[path]).hexdigest()}"',
            "X-Repo-Commit": self.commits.get(revision, revision),
        }
        headers["Accept-Ranges"] = "bytes"
        if request.start is None:
            return 200, headers, data
        stop = request.stop(len(data))
        if request.start >= len(data):
            return 416, {"Content-Range": f"bytes */{len(data)}"}, b""
        headers["Content-Range"] = f"bytes {request.start}-{stop - 1}/{len(data)}"
        return 206, headers, data[request.start : stop]


def _tree(files: Mapping[str, bytes], below: str, *, is_deep: bool) -> list[Mapping[str, Any]]:
    """Files and folders below a folder; without `is_deep` only those right in it."""
    found: dict[str, Mapping[str, Any]] = {}
    prefix = f"{below}/" if below else ""
    for path, data in files.items():
        if not path.startswith(prefix):
            continue
        folder, slash, _ = path[len(prefix) :].partition("/")
        if slash:
            found[prefix + folder] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": prefix + folder}
        if is_deep or not slash:
            found[path] = _entry(path, data)
    return list(found.values())


def _entry(path: str, data: bytes) -> Mapping[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    lfs = {"oid": digest, "sha256": digest, "size": len(data), "pointerSize": 130} if len(data) > 1_000 else None
    found: dict[str, Any] = {"type": "file", "oid": digest[:40], "size": len(data), "path": path}
    return found | ({"lfs": lfs} if lfs else {})


@contextmanager
def fake_hub(monkeypatch: pytest.MonkeyPatch, repositories: dict[str, dict[str, bytes]]) -> Iterator[FakeHub]:
    """A hub at which the environment and the libraries look."""
    import datasets.config
    import huggingface_hub.constants

    hub = FakeHub(repositories)
    monkeypatch.setenv("CURATION_ALLOW_PRIVATE_HOSTS", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving() as server:
        server.answer = hub.answer
        hub.server = server
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", server.url)
        yield hub
