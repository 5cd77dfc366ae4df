"""What waits becomes one batch, and everyone gets their own result."""

import threading
from concurrent.futures import CancelledError

import pytest

from pointpeft.serving.batching import BatchThreads


@pytest.fixture
def held():
    """Threads that double numbers, batches that they made, and what lets the first one begin."""
    go, batches = threading.Event(), []

    def compute(items):
        go.wait(30)
        batches.append(list(items))
        return [ValueError(str(item)) if item < 0 else 2 * item for item in items]

    threads = BatchThreads([compute], most=4, joins=lambda item: item < 100)
    yield threads, batches, go
    go.set()
    threads.close()


def test_what_waits_is_one_batch_of_a_bounded_size(held):
    threads, batches, go = held
    asked = [threads.compute(item) for item in range(10)]
    go.set()
    assert [one.result(30) for one in asked] == [2 * item for item in range(10)]
    assert [item for batch in batches for item in batch] == list(range(10))
    assert max(map(len, batches)) == 4


def test_an_error_is_of_its_item_alone(held):
    threads, _, go = held
    good, bad, other = (threads.compute(item) for item in (1, -1, 2))
    go.set()
    assert (good.result(30), other.result(30)) == (2, 4)
    with pytest.raises(ValueError, match="-1"):
        bad.result(30)


def test_an_item_that_ends_its_batch_leaves_the_others():
    go = threading.Event()

    def compute(items):
        go.wait(30)
        if any(item < 0 for item in items):
            raise ValueError(str(min(items)))
        return [2 * item for item in items]

    threads = BatchThreads([compute], most=4)
    good, bad, other = (threads.compute(item) for item in (1, -1, 2))
    go.set()
    assert (good.result(30), other.result(30)) == (2, 4)
    with pytest.raises(ValueError, match="-1"):
        bad.result(30)
    threads.close()


def test_an_item_that_joins_no_others_is_alone(held):
    threads, batches, go = held
    asked = [threads.compute(item) for item in (1, 100, 2)]
    go.set()
    assert [one.result(30) for one in asked] == [2, 200, 4]
    assert [100] in batches


def test_a_call_comes_behind_what_was_asked_before(held):
    threads, batches, go = held
    threads.compute(1)
    seen = threads.call(lambda: [item for batch in batches for item in batch])
    later = threads.compute(2)
    go.set()
    assert seen.result(30) == [1]
    assert later.result(30) == 4


def test_who_has_gone_is_not_computed_for(held):
    threads, batches, go = held
    first = threads.compute(100)
    gone = threads.compute(7)
    assert gone.cancel()
    go.set()
    assert first.result(30) == 200
    threads.close()
    assert not any(7 in batch for batch in batches)
    with pytest.raises(CancelledError):
        threads.compute(1).result(30)
