import pytest
import torch

from tests.models.tiny import clouds


@pytest.fixture(autouse=True)
def _deterministic_and_single_threaded():
    """Networks this small lose more to waiting for a second thread than it gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def points():
    return clouds()
