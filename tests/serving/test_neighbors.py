"""Names of training shapes are found beside the requests."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

import pointpeft as pp
from pointpeft.data.worker_processes import WorkerEndedError
from pointpeft.errors import DataError
from pointpeft.serving import neighbor_names
from pointpeft.serving.served_adapters import AdapterSet
from tests.serving.conftest import wait_for_names


def test_names_come_while_the_service_works(runs, archive):
    adapters = AdapterSet([runs / "linear", runs / "prompts"], neighbors_from=str(archive))
    memories = [one.familiarity for one in adapters]
    assert [memory.named for memory in memories] == [{}, {}]  # a process takes seconds to start
    wait_for_names(adapters)
    for memory in memories:
        assert set(memory.named) == memory.known
    later = adapters.load("again", runs / "linear")
    wait_for_names(adapters)
    assert set(later.familiarity.named) == later.familiarity.known
    adapters.close()


@pytest.mark.parametrize("name", ["other.npz", "damaged.npz"])
def test_data_without_the_shapes_is_logged(runs, tmp_path, caplog, name):
    (tmp_path / "damaged.npz").write_text("no archive")
    points = np.random.default_rng(3).normal(size=(8, 100, 3))
    np.savez(tmp_path / "other.npz", points=points, label=np.arange(8) % 4, names=list("abcd"))
    adapters = AdapterSet([runs / "linear"], neighbors_from=str(tmp_path / name))
    last = time.monotonic() + 300
    while name not in caplog.text:
        assert time.monotonic() < last
        time.sleep(0.05)
    (served,) = adapters
    assert served.familiarity.named == {}


def test_data_that_is_not_there_is_refused(runs, tmp_path):
    with pytest.raises(DataError, match="gone"):
        AdapterSet([runs / "linear"], neighbors_from=str(tmp_path / "gone"))


def test_closing_does_not_wait(runs, archive, caplog, new_processes):
    adapters = AdapterSet([runs / "linear"], neighbors_from=str(archive))
    while not new_processes():
        time.sleep(0.01)
    adapters.close()
    assert not new_processes()
    assert caplog.text == ""


def test_closing_ends_a_process_that_is_just_starting(archive, monkeypatch):
    begun, ended = threading.Event(), threading.Event()

    class Process:
        def __init__(self, target):
            begun.set()
            time.sleep(0.2)

        def ask(self, question):
            ended.wait(60)
            raise WorkerEndedError

        def end(self):
            ended.set()

    monkeypatch.setattr(neighbor_names, "WorkerProcess", Process)
    names = neighbor_names.NeighborNames(str(archive))
    names.add(SimpleNamespace(known=frozenset(), named={}), pp.InputTransform())
    names.begin()
    begun.wait(60)
    names.close()
    assert ended.is_set()


@pytest.fixture
def asked(monkeypatch):
    """What the process is asked; the first time it answers, nothing can read it."""
    questions = []

    class Process:
        def __init__(self, target):
            pass

        def ask(self, question):
            questions.append(question)
            if len(questions) == 1:
                raise RuntimeError("no such answer")
            return {}

        def end(self):
            pass

    monkeypatch.setattr(neighbor_names, "WorkerProcess", Process)
    return questions


def test_data_is_read_as_in_training_and_after_any_fault(archive, asked, caplog):
    names = neighbor_names.NeighborNames(str(archive))
    memory = SimpleNamespace(known=frozenset(), named={})
    for seed in (0, 7):
        names.add(memory, pp.InputTransform(), "pb_t50_rs", seed)
        names.begin()
    last = time.monotonic() + 60
    while len(asked) < 2:
        assert time.monotonic() < last
        time.sleep(0.01)
    assert [how[1:] for _, how, _ in asked] == [("pb_t50_rs", 0), ("pb_t50_rs", 7)]
    assert "no such answer" in caplog.text
