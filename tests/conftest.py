import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread_and_fixed_seed():
    """Networks this small lose more to waiting for a second thread than it gives."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
