"""Small data sets that the tests of reading and preparing share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture
def shared_dir() -> Path:
    """Folder of real shapes kept beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"real shapes are not at {SHARED}")
    return SHARED


@pytest.fixture(autouse=True)
def private_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Every test starts with an empty cache of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("POINTPEFT_CACHE", str(folder))
    return folder


def box(place: int = 0) -> trimesh.Trimesh:
    return trimesh.creation.box(extents=(1.0, 2.0 + 0.1 * place, 0.5))


def ball(place: int = 0) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=1, radius=1.0 + 0.1 * place)


def rod(place: int = 0) -> trimesh.Trimesh:
    return trimesh.creation.cylinder(radius=0.1, height=2.0 + 0.1 * place, sections=12)


MAKERS: dict[str, Callable[[int], trimesh.Trimesh]] = {"ball": ball, "box": box, "rod": rod}


@pytest.fixture
def write_classes() -> Callable[..., Path]:
    """Writes `count` meshes of each named class below a folder."""

    def write(folder: Path, counts: dict[str, int], start: int = 0, suffix: str = "off") -> Path:
        for name, count in counts.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            for place in range(start, start + count):
                mesh = MAKERS[name](place)
                mesh.export(folder / name / f"{name}_{place:02d}.{suffix}")
        return folder

    return write


@pytest.fixture
def mesh_folder(tmp_path: Path, write_classes: Callable[..., Path]) -> Path:
    """Folder `<class>/<files>` with five meshes of each of three classes."""
    return write_classes(tmp_path / "meshes", {"rod": 5, "ball": 5, "box": 5})


@pytest.fixture
def cloud() -> np.ndarray:
    """A cloud `(300, 3)` of an upright ellipsoid's surface, off-centre."""
    generator = np.random.default_rng(0)
    points = generator.normal(size=(300, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points * [1.0, 2.0, 0.5] + [5.0, -3.0, 10.0]
