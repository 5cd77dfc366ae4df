import pytest
import torch


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def tiny_tiles(monkeypatch):
    """Make every distance matrix be computed in many tiles."""
    monkeypatch.setattr("pointpeft.ops._numerics._CPU_TILE", 50)


@pytest.fixture
def always_tree(monkeypatch):
    """Send every neighbour search through the KD-tree."""
    monkeypatch.setattr("pointpeft.ops._neighbor_search._MIN_PAIRS", 0)
    monkeypatch.setattr("pointpeft.ops._neighbor_search._MIN_POINTS_PER_NEIGHBOR", 0)


@pytest.fixture
def always_boxes(monkeypatch):
    """Sample every cloud as a large one, in boxes of few points."""
    monkeypatch.setattr("pointpeft.ops.sampling._LARGE_CLOUD", 0)
    monkeypatch.setattr("pointpeft.ops.sampling._MANY_SAMPLES", 0)
    monkeypatch.setattr("pointpeft.ops._large_clouds._POINTS_PER_BOX", 2)
    monkeypatch.setattr("pointpeft.ops._large_clouds._MOST_PER_ROUND", 3)
