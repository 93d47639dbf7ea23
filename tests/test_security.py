"""Threats that no one module's tests cover, and the threat list itself: each defence it names has its test."""

import ast
import io
import pickle
import re
import socket
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from curation.catalog.template import Unusable
from curation.errors import RejectReason
from curation.fetch.http import HttpFile, HttpSettings, fetch_http
from curation.imaging import MAX_FILE_BYTES, examine
from curation.runtime.progress import LineReporter
from curation.sources.pictures import fetch
from tests.support.upstream import part, picture, read_all
from training.config import _StrictLoader
from training.foreign import parse_foreign

REPOSITORY = Path(__file__).parents[1]
IN_ZIP = part(images={"path": "image", "zip": "a.zip"}).images
IN_TAR = part(reader={"format": "webdataset"}, images={"members": ["png"], "optional": True})


class Exploit:
    """Unpickling one makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.path), "w")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(
    ("kind", "head"),
    [(b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0"), (b"iCCP", b"k\0\0")],
    ids=lambda value: value[:4].decode(),
)
def test_a_compressed_chunk_of_a_png_cannot_claim_memory(kind: bytes, head: bytes):
    png = picture(1)
    bomb = png[:33] + chunk(kind, head + zlib.compress(bytes(64 << 20), 9)) + png[33:]
    tracemalloc.start()
    try:
        examine(bomb, max_pixels=1_000)
    except Unusable as problem:
        assert problem.reason is RejectReason.UNREADABLE_IMAGE
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_many_text_chunks_of_a_png_cannot_claim_memory():
    png = picture(1)
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000), 9))
    with pytest.raises(Unusable):
        examine(png[:33] + text * 100 + png[33:], max_pixels=1_000)


def zip_with_sizes(folder: Path, content: bytes, claimed: int) -> None:
    """A zip whose directory and header say that its one member has `claimed` bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", content)
    data = buffer.getvalue().replace(struct.pack("<I", len(content)), struct.pack("<I", claimed))
    (folder / "a.zip").write_bytes(data)


def test_a_zip_entry_gives_no_more_than_it_declares(tmp_path: Path):
    zip_with_sizes(tmp_path, bytes(64 << 20), claimed=1_000)
    tracemalloc.start()
    try:
        assert len(fetch(tmp_path, "a.png", IN_ZIP)) <= 1_000
    except Unusable as problem:
        assert problem.reason is RejectReason.UNREADABLE_IMAGE
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_zip_entry_that_declares_too_much_is_not_opened(tmp_path: Path):
    zip_with_sizes(tmp_path, b"x", claimed=MAX_FILE_BYTES + 1)
    with pytest.raises(Unusable) as caught:
        fetch(tmp_path, "a.png", IN_ZIP)
    assert caught.value.reason is RejectReason.IMAGE_TOO_LARGE


def test_a_pickle_in_a_tar_is_never_loaded(tmp_path: Path):
    made = tmp_path / "made"
    members = {f"0.{kind}": pickle.dumps(Exploit(made)) for kind in ("pyd", "pkl", "pickle", "pth", "json", "cls")}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    batch = read_all(tmp_path, "a.tar", IN_TAR)
    assert [reject.reason for reject in batch.rejects] == [RejectReason.BAD_JSON]
    data = buffer.getvalue()
    start = data.index(b"0.cls")  # without the JSON, which is none
    parse_foreign(data[start:], start)
    assert not made.exists()


def test_the_code_calls_nothing_that_executes_data():
    assert issubclass(_StrictLoader, yaml.SafeLoader)
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    for path in (file for package in ("curation", "flows", "training") for file in (REPOSITORY / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.split(".")[0] for alias in node.names} | {str(getattr(node, "module", ""))}
                assert not names & forbidden, path
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "os.system"), f"{path}:{node.lineno}"
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert called != "yaml.load" or keywords["Loader"] == "_StrictLoader", f"{path}:{node.lineno}"
                assert keywords.get("trust_remote_code", "False") == "False", f"{path}:{node.lineno}"
                assert keywords.get("shell", "False") == "False", f"{path}:{node.lineno}"
                assert called != "torch.load" or keywords.get("weights_only") == "True", f"{path}:{node.lineno}"


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest/meta-data", "http://[::1]/", "http://inside.example/"])
def test_a_redirect_into_a_private_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str):
    monkeypatch.delenv("CURATION_ALLOW_PRIVATE_HOSTS", raising=False)
    asked: list[str] = []

    def resolve(host: str, port: int, **_: object) -> list[Any]:
        address = {"public.example": "1.1.1.1", "inside.example": "10.0.0.7"}.get(host, host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def answer(_: object, request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(302, headers={"Location": target})

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    failures = fetch_http([HttpFile("http://public.example/a", "a")], tmp_path, LineReporter(None), HttpSettings(attempts=1))
    assert "is a private address" in failures["a"]
    assert asked == ["public.example"]


def test_every_test_of_the_threat_list_exists():
    text = (REPOSITORY / "docs" / "security.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 25
    for file, name in named:
        assert f"def {name}(" in (REPOSITORY / file).read_text(), f"{file}::{name}"
