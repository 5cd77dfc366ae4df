from pointpeft.models import Geometry
from tests.models.tiny import clouds


def test_a_value_is_computed_once_per_key_and_geometry():
    calls = []
    points = clouds()

    def compute():
        calls.append(1)
        return len(calls)

    first, second = Geometry(points, points[:, :8]), Geometry(points, points[:, :8])
    assert [first.once("a", compute), first.once("a", compute)] == [1, 1]
    assert first.once(("a", 2), compute) == 2
    assert second.once("a", compute) == 3
