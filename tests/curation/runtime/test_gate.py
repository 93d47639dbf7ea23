import threading
import time

import pytest

from curation.errors import WorkerError
from curation.runtime.gate import Gate
from curation.runtime.pool import InProcessPool


def test_nothing_goes_in_once_it_is_closed():
    gate = Gate()
    with gate.passing():
        gate.check()
    gate.close()
    with pytest.raises(WorkerError, match="the run was stopped"), gate.passing():
        pass


def test_a_closed_pool_ends_between_two_tasks_and_is_waited_for():
    pool = InProcessPool()
    begun, done = threading.Event(), []

    def work(number: int) -> None:
        begun.set()
        time.sleep(0.05)
        done.append(number)

    def compute() -> None:
        with pytest.raises(WorkerError):
            pool.map(work, range(1_000), label="work")

    thread = threading.Thread(target=compute)
    thread.start()
    begun.wait()
    pool.close()
    finished = len(done)
    thread.join()
    assert 1 <= finished == len(done) < 1_000
