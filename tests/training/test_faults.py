"""A folder of real meshes with a few damaged ones among them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import trimesh

from pointpeft.errors import DataError

MESHES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "meshes"


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])


def web_page(file: Path) -> None:
    file.write_text("<html><body>404 not found</body></html>")


def not_finite(file: Path) -> None:
    vertices = np.full((3, 3), np.nan)
    trimesh.Trimesh(vertices, [[0, 1, 2]], process=False).export(file)


def one_spot(file: Path) -> None:
    trimesh.Trimesh(np.ones((3, 3)), [[0, 1, 2]], process=False).export(file)


DAMAGES = {
    "Bottle/D00281.glb": truncate,
    "Bottle/D00139.stl": web_page,
    "Chess/D01049.off": not_finite,
    "Chess/D01019.ply": one_spot,
}


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """77 real meshes in six classes, of which four (5 %) cannot be used."""
    if not MESHES.is_dir():
        pytest.skip(f"needs the shared development data in {MESHES}")
    folder = tmp_path / "meshes"
    shutil.copytree(MESHES, folder, copy_function=shutil.copyfile)
    for folder_ in (folder, *folder.iterdir()):
        folder_.chmod(0o755)
    for name, damage in DAMAGES.items():
        damage(folder / name)
    return folder


def test_a_run_over_a_folder_with_bad_files_finishes_and_lists_them(
    damaged, run_finetune, tmp_path
):
    metrics = run_finetune(f"data.source={damaged}", "trainer.epochs=1")
    listed = {line.partition(":")[0] for line in metrics["skipped"]}
    assert listed == set(DAMAGES)
    assert all(line.partition(":")[2].strip() for line in metrics["skipped"])
    used = metrics["train_items"] + metrics["val_items"] + metrics["test_items"]
    assert used == 77 - len(DAMAGES)
    log = (tmp_path / "run" / "log.txt").read_text()
    assert all(name in log for name in DAMAGES)


def test_bad_files_can_be_refused_before_training(damaged, run_finetune, tmp_path):
    with pytest.raises(DataError) as refused:
        run_finetune(f"data.source={damaged}", "data.on_error=refuse")
    assert all(name in str(refused.value) for name in DAMAGES)
    assert not (tmp_path / "run" / "config.yaml").exists()
