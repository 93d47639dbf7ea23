"""Releases behind URLs: a loopback S3 server, and an HTTP server that fails on purpose."""

import itertools
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from tests.support.releases import TinySample, png_bytes, write_release
from training.errors import StreamError
from training.storage import Storage
from training.stream import MixtureStream, ShardStream

pytest.importorskip("s3fs", reason="the extra `s3` is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # connections of s3fs that the collector closes
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


def ids(samples):
    return [sample["id"] for sample in samples]


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    samples = [TinySample(sample_id=f"r{n:03d}", images=(png_bytes(),) * (n % 3)) for n in range(60)]
    return write_release(tmp_path_factory.mktemp("remote") / "r", samples, samples_per_shard=10)


@pytest.fixture
def storage(tmp_path):
    return Storage(cache=tmp_path / "cache", attempts=4, backoff_seconds=0.01, timeout_seconds=5)


@pytest.fixture(scope="module")
def bucket(local):
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        client = boto3.client("s3")
        client.create_bucket(Bucket="streams")
        for path in local.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "streams", f"r/{path.relative_to(local)}")
        yield client
    server.stop()


@pytest.mark.parametrize("shuffle", [True, "full", False])
def test_a_release_on_s3_streams_as_on_disk(bucket, local, storage, shuffle):
    storage = storage if shuffle != "full" else Storage(cache=storage.cache, whole_shards=False)
    far = list(ShardStream("s3://streams/r", shuffle=shuffle, decode=None, storage=storage))
    assert far == list(ShardStream(local, shuffle=shuffle, decode=None))


def test_workers_share_the_cache_and_resume(bucket, local, storage):
    stream = ShardStream("s3://streams/r", decode=None, batch_size=4, storage=storage)
    loader = DataLoader(stream, batch_size=4, num_workers=2, collate_fn=ids)
    head = list(itertools.chain(*itertools.islice(loader, 3)))
    rest = ShardStream("s3://streams/r", decode=None, storage=storage)
    rest.load_state_dict(stream.state_after(12))
    assert head + ids(rest) == ids(ShardStream(local))
    shards = [path for path in storage.cache.iterdir() if path.stat().st_size > 0]
    assert len(shards) == 7, "six shards and the index, each once"


def test_a_small_cache_is_never_exceeded(bucket, local, tmp_path):
    sizes = [path.stat().st_size for path in (local / "shards").iterdir()]
    storage = Storage(cache=tmp_path / "small", cache_bytes=3 * max(sizes))
    stream = ShardStream("s3://streams/r", window=10, decode=None, storage=storage)
    seen = []
    for sample in stream:
        seen.append(sample["id"])
        assert sum(path.stat().st_size for path in (tmp_path / "small").iterdir()) <= 3 * max(sizes)
    assert sorted(seen) == [f"r{n:03d}" for n in range(60)]


def test_mixtures_read_from_s3_too(bucket, storage):
    stream = MixtureStream({"s3://streams/r": 1}, num_samples=90, decode=None, storage=storage)
    assert len(ids(stream)) == 90


def test_missing_credentials_are_named(bucket, storage, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StreamError, match="AWS_ACCESS_KEY_ID"):
        ShardStream("s3://streams/r", storage=storage)


def test_a_missing_release_says_what_was_expected(bucket, storage):
    with pytest.raises(StreamError, match="no release at 's3://streams/nowhere'"):
        ShardStream("s3://streams/nowhere", storage=storage)


def test_a_shard_missing_on_s3_is_named(bucket, local, storage):
    for path in local.rglob("*"):
        if path.is_file() and path.name != "tiny-000002.tar":
            bucket.upload_file(str(path), "streams", f"holed/{path.relative_to(local)}")
    with pytest.raises(StreamError, match=r"'tiny-000002.tar'.* is missing"):
        ShardStream("s3://streams/holed", storage=storage)


class Failing(BaseHTTPRequestHandler):
    """Serves a folder with ranges, and does what `server.plan` says for each further request of a path."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = Path(self.server.folder) / self.path.lstrip("/")
        deeds = self.server.plan.get(path.name, [])
        deed = deeds.pop(0) if deeds and self.command == "GET" else "serve"
        self.server.requests.append((self.command, path.name, deed))
        if not path.is_file():
            return self._answer(404, b"")
        if isinstance(deed, int):
            return self._answer(deed, b"no")
        if deed == "hang up":
            self.close_connection = True
            return self.connection.close()
        content = path.read_bytes()
        given = self.headers.get("Range")
        if not given or deed == "ignore range":
            return self._answer(200, content)
        first, last = given.removeprefix("bytes=").split("-")
        part = content[int(first) : int(last) + 1]
        return self._answer(206, part[: len(part) // 2] if deed == "short" else part)

    def _answer(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(local, tmp_path):
    http = ThreadingHTTPServer(("127.0.0.1", 0), Failing)
    http.daemon_threads = True
    http.folder = shutil.copytree(local, tmp_path / "served")
    http.plan, http.requests = {}, []
    threading.Thread(target=http.serve_forever, daemon=True).start()
    http.url = f"http://127.0.0.1:{http.server_port}"
    yield http
    http.shutdown()
    http.server_close()


@pytest.mark.parametrize("deeds", [[500, 503], ["short", "short"], ["hang up"], [429, "short"], ["ignore range"]])
def test_passing_failures_are_tried_again(server, local, storage, deeds):
    server.plan = {"tiny-000003.tar": list(deeds)}
    assert ids(ShardStream(server.url, storage=storage)) == ids(ShardStream(local))
    assert [deed for _, name, deed in server.requests if name == "tiny-000003.tar"][: len(deeds)] == deeds


def test_lasting_failures_name_the_shard_and_the_tries(server, storage):
    server.plan = {"tiny-000003.tar": [500] * 50}
    with pytest.raises(StreamError, match=r"tiny-000003.tar', tried 4 times: .*500"):
        ids(ShardStream(server.url, storage=storage))


def test_refusals_are_not_tried_again(server, storage):
    server.plan = {"tiny-000003.tar": [403] * 50}
    with pytest.raises(StreamError, match=r"tiny-000003\.tar"):
        ids(ShardStream(server.url, shuffle=False, storage=storage))
    assert [deed for _, name, deed in server.requests if name == "tiny-000003.tar"].count(403) <= 2  # once ahead, once read


def test_a_missing_shard_over_http_is_named(server, storage):
    (server.folder / "shards" / "tiny-000003.tar").unlink()
    with pytest.raises(StreamError, match=r"shards/tiny-000003.tar' is missing"):
        ids(ShardStream(server.url, storage=storage))


def test_a_corrupted_shard_is_named_with_both_hashes(server, storage):
    path = server.folder / "shards" / "tiny-000004.tar"
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    with pytest.raises(StreamError, match=r"'tiny-000004.tar'.* has the SHA-256 [0-9a-f]{64}, its manifest says [0-9a-f]{64}"):
        ids(ShardStream(server.url, storage=storage))


def test_ranged_reads_are_tried_again_too(server, local, storage):
    server.plan = {"tiny-000003.tar": [500, "short", "hang up"]}
    ranged = Storage(cache=storage.cache, whole_shards=False, backoff_seconds=0.01)
    assert ids(ShardStream(server.url, shuffle="full", storage=ranged)) == ids(ShardStream(local, shuffle="full"))
