"""Adapters of one trunk share it: memory grows by what each has of its own."""

import pytest

from pointpeft.serving.served_adapters import AdapterSet


def total(adapters: AdapterSet) -> int:
    """Bytes of the memory that the tensors of all adapters lie in."""
    (model,) = adapters.models.values()
    storages = [tensor.untyped_storage() for tensor in (*model.parameters(), *model.buffers())]
    return sum({one.data_ptr(): one.nbytes() for one in storages}.values())


@pytest.mark.parametrize("name", ["linear", "prompts"])
def test_memory_grows_by_the_adapter_alone(runs, name):
    adapters = AdapterSet([runs / name])
    (first,) = adapters
    own, before = first.describe()["bytes"], total(adapters)
    for number in range(2, 101):
        adapters.load(f"{name}-{number}", runs / name)
        if number in (10, 100):
            assert total(adapters) - before == pytest.approx((number - 1) * own, rel=0.01)
