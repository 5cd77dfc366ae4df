import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tests compute tiny tensors, where a second thread only waits; workers run side by side."""
    torch.set_num_threads(1)
