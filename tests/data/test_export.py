import numpy as np
import pytest

from pointpeft.data import InputTransform, load_shapes
from pointpeft.data.export import export_folder
from pointpeft.errors import DataError


def test_exported_folder_reads_back_as_the_same_data_set(tmp_path):
    generator = np.random.default_rng(0)
    source = tmp_path / "set.npz"
    np.savez(
        source,
        points=generator.standard_normal((8, 64, 3)).astype(np.float32),
        label=np.repeat([0, 1], 4),
        names=np.array(["cup", "door"]),
        split=np.array(["train", "train", "val", "test"] * 2),
    )
    data = load_shapes(source, InputTransform(32))
    assert export_folder(data, tmp_path / "out") == 8
    again = load_shapes(tmp_path / "out", data.transform)
    assert again.class_names == data.class_names
    for part in ("train", "val", "test"):
        assert sorted(getattr(again, part).labels) == sorted(getattr(data, part).labels)


def test_export_into_a_used_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="not an empty folder"):
        export_folder(None, tmp_path)
