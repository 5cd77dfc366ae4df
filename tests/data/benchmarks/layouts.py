"""Tiny data sets in the published layouts, with points that tell shapes apart."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

MODELNET = "ModelNet/modelnet40_normal_resampled"
MODELNET_H5 = "modelnet40_ply_hdf5_2048"
SHAPENET = "ShapeNet55-34"
SHAPENETPART = "shapenetcore_partanno_segmentation_benchmark_v0_normal"
CLASSES = ("bathtub", "airplane", "night_stand")  # in an order of its own
CATEGORIES = (("Airplane", "02691156"), ("Chair", "03001627"))


def clouds(count: int, num_points: int, columns: int = 6, seed: int = 0) -> np.ndarray:
    """Normally distributed rows `(count, num_points, columns)` float32."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, num_points, columns)).astype(np.float32)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_modelnet(root: Path, train: int = 3, test: int = 2, num_points: int = 20) -> Path:
    """Lists and text clouds; `train` and `test` shapes of each class."""
    folder = root / MODELNET
    write_lines(folder / "modelnet40_shape_names.txt", CLASSES)
    start = 0
    for part, count in (("train", train), ("test", test)):
        ids = [f"{name}_{start + place:04d}" for place in range(count) for name in CLASSES]
        write_lines(folder / f"modelnet40_{part}.txt", ids)
        for place, id in enumerate(ids):
            path = folder / id.rpartition("_")[0] / f"{id}.txt"
            path.parent.mkdir(exist_ok=True)
            np.savetxt(path, clouds(1, num_points, seed=100 * start + place)[0], "%.6f", ",")
        start += count
    return folder


def write_cache(folder: Path, part: str, labels: Sequence[int], num_points: int = 30) -> np.ndarray:
    """A pickled cache beside the lists; returns its clouds with normals."""
    made = clouds(len(labels), num_points, seed=len(labels))
    content = [list(made), [np.array([label], dtype=np.int32) for label in labels]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"modelnet40_{part}_8192pts_fps.dat").write_bytes(pickle.dumps(content))
    return made


def write_h5(path: Path, labels: np.ndarray, num_points: int = 25, seed: int = 0) -> np.ndarray:
    """Points and labels; returns the points."""
    made = clouds(len(labels), num_points, 3, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = made, labels
    return made


def write_modelnet_h5(root: Path) -> Path:
    folder = root / MODELNET_H5
    for number in (0, 1):
        labels = np.array([[5 + number], [7], [39]], dtype=np.uint8)
        write_h5(folder / f"ply_data_train{number}.h5", labels, seed=number)
    write_h5(folder / "ply_data_test0.h5", np.array([[5], [7]], dtype=np.uint8), seed=2)
    return folder


def write_scanobjectnn(root: Path) -> Path:
    """All three variants, with 4, 5 and 6 training shapes and 2, 3 and 4 test shapes."""
    folder = root / "ScanObjectNN"
    files = (
        "main_split/{}_objectdataset.h5",
        "main_split_nobg/{}_objectdataset.h5",
        "main_split/{}_objectdataset_augmentedrot_scale75.h5",
    )
    for seed, file in enumerate(files):
        for part, count in (("training", 4 + seed), ("test", 2 + seed)):
            labels = np.arange(count, dtype=np.int32) % 2
            write_h5(folder / file.format(part), labels, seed=seed + 10 * (part == "test"))
    return folder


def write_shapenet(root: Path) -> Path:
    folder = root / SHAPENET
    lists = {
        "train": ["03001627-b.npy", "02691156-a.npy", "03001627-a.npy"],
        "test": ["02691156-b.npy"],
    }
    (folder / "shapenet_pc").mkdir(parents=True)
    for part, lines in lists.items():
        write_lines(folder / f"ShapeNet-55/{part}.txt", lines)
        for place, line in enumerate(lines):
            np.save(folder / "shapenet_pc" / line, clouds(1, 40, 3, 10 * len(lines) + place)[0])
    return folder


def write_shapenetpart(root: Path) -> Path:
    """Two categories; clouds differ in size, and lists do not follow the published order."""
    folder = root / SHAPENETPART
    write_lines(folder / "synsetoffset2category.txt", ["\t".join(row) for row in CATEGORIES])
    lists = {"train": ["chair2", "plane3", "plane1", "chair1"], "val": ["plane2"],
             "test": ["chair3", "plane4"]}  # fmt: skip
    for part, names in lists.items():
        entries = []
        for name in names:
            category, first = ("02691156", 0) if name.startswith("plane") else ("03001627", 12)
            entries.append(f"shape_data/{category}/{name}")
            size = 20 + int(name[-1])
            parts = first + np.arange(size) % 4
            rows = np.column_stack([clouds(1, size, seed=first + size)[0], parts])
            path = folder / category / f"{name}.txt"
            path.parent.mkdir(exist_ok=True)
            np.savetxt(path, rows, "%.6f")
        path = folder / f"train_test_split/shuffled_{part}_file_list.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(entries))
    return folder


def write_episode(root: Path, way: int = 3, shot: int = 4, fold: int = 0, queries: int = 5) -> Path:
    """An episode of the classes 30, 29, ... of ModelNet40."""
    rows = {
        part: [
            (cloud, label, 30 - label)
            for label in range(way)
            for cloud in clouds(count, 15, seed=label)
        ]
        for part, count in (("train", shot), ("test", queries))
    }
    path = root / f"ModelNetFewshot/{way}way_{shot}shot/{fold}.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(rows))
    return path
