import logging
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def log_level_as_it_was() -> Iterator[None]:
    """The command line lets its process say more than the library does."""
    yield
    logging.getLogger("pointpeft").setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def one_thread_and_fixed_seed():
    """Networks this small lose more to waiting for a second thread than it gives."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
