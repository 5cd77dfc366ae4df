from pathlib import Path

import pytest

from tests.data.benchmarks import layouts


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that holds every published data set."""
    layouts.write_modelnet(tmp_path)
    layouts.write_modelnet_h5(tmp_path)
    layouts.write_scanobjectnn(tmp_path)
    layouts.write_shapenet(tmp_path)
    layouts.write_shapenetpart(tmp_path)
    layouts.write_episode(tmp_path)
    return tmp_path


@pytest.fixture
def real(shared_dir: Path) -> Path:
    """The published layouts filled with a few real shapes."""
    return shared_dir / "layouts"
