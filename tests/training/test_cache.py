import multiprocessing
import os
import signal
import time

import pytest

from training.cache import FileCache
from training.errors import StreamError


def fill_with(content, log=None):
    def fill(target):
        os.pwrite(target, content, 0)
        if log is not None:
            log.append(len(content))

    return fill


def read(descriptor):
    try:
        return os.pread(descriptor, 1 << 20, 0)
    finally:
        os.close(descriptor)


@pytest.fixture
def cache(tmp_path):
    return FileCache(folder=tmp_path / "cache", limit_bytes=100)


def present(cache):
    return sorted(path.name for path in cache.folder.iterdir() if path.name != ".lock")


def test_a_file_is_filled_once(cache):
    log = []
    for _ in range(3):
        assert read(cache.open("a", 5, fill_with(b"hello", log))) == b"hello"
    assert log == [5]


def test_the_least_recently_opened_makes_room(cache):
    for number, key in enumerate("abc"):
        os.close(cache.open(key, 30, fill_with(b"x" * 30)))
        os.utime(cache.folder / key, ns=(number, number))
    os.close(cache.open("a", 30, fill_with(b"")))
    held = cache.open("b", 30, fill_with(b""))
    os.utime(cache.folder / "b", ns=(1, 1))
    os.close(cache.open("d", 60, fill_with(b"y" * 60)))
    assert present(cache) == ["a", "d"]
    assert read(held) == b"x" * 30, "an open file stays readable"


def test_a_file_over_the_limit_is_refused(cache):
    with pytest.raises(StreamError, match="101 bytes does not fit"):
        cache.open("a", 101, fill_with(b""))


def test_a_failed_fill_leaves_nothing(cache):
    def fail(target):
        os.pwrite(target, b"half", 0)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        cache.open("a", 10, fail)
    assert present(cache) == []


def _fill_slowly(folder, log, seconds):
    def fill(target):
        with log.open("a") as file:
            file.write("filled\n")
        os.pwrite(target, b"z" * 50, 0)
        time.sleep(seconds)

    descriptor = FileCache(folder=folder, limit_bytes=100).open("a", 50, fill)
    assert read(descriptor) == b"z" * 50


def test_processes_that_want_the_same_file_wait_for_one(cache, tmp_path):
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_fill_slowly, args=(cache.folder, tmp_path / "log", 0.2)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "log").read_text() == "filled\n"
    assert present(cache) == ["a"]


def test_what_a_killed_process_leaves_is_cleared_by_the_next(cache, tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_fill_slowly, args=(cache.folder, tmp_path / "log", 60))
    process.start()
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert present(cache) == ["a.part"]
    os.close(cache.open("b", 80, fill_with(b"b" * 80)))
    assert present(cache) == ["b"]
    assert read(cache.open("a", 50, fill_with(b"a" * 50))) == b"a" * 50
