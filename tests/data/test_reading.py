import sys
import zipfile
from pathlib import Path

import laspy
import numpy as np
import pytest
import trimesh

from pointpeft.data import SHAPE_SUFFIXES, InputTransform, RawShape, read_shape
from pointpeft.data.ply import write_labelled_ply
from pointpeft.data.reading import clean_shape
from pointpeft.errors import DataError
from tests.data.step import solid_box


@pytest.fixture
def sphere() -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=1)


@pytest.mark.parametrize("suffix", ["obj", "off", "ply", "stl", "glb", "gltf"])
def test_mesh_formats_keep_surface(tmp_path: Path, sphere: trimesh.Trimesh, suffix: str) -> None:
    path = tmp_path / f"sphere.{suffix}"
    if suffix == "gltf":
        for name, content in trimesh.Scene(sphere).export(file_type="gltf").items():
            (tmp_path / name.replace("model.gltf", path.name)).write_bytes(content)
    else:
        sphere.export(path)
    shape = read_shape(path)
    assert shape.faces is not None
    assert shape.source == str(path)
    read = trimesh.Trimesh(shape.points, shape.faces, process=False)
    assert read.area == pytest.approx(sphere.area, rel=1e-4)
    assert np.allclose(read.bounds, sphere.bounds, atol=1e-5)


def test_upper_case_suffix_is_known(tmp_path: Path, sphere: trimesh.Trimesh) -> None:
    sphere.export(tmp_path / "a.off")
    (tmp_path / "a.off").rename(tmp_path / "a.OFF")
    assert read_shape(tmp_path / "a.OFF").faces is not None


def test_scene_parts_are_placed_by_their_transforms(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    unit = trimesh.creation.box()
    for x in (0.0, 10.0):
        placement = trimesh.transformations.translation_matrix([x, 0, 0])
        scene.add_geometry(unit, geom_name="unit", transform=placement)
    scene.export(tmp_path / "two.glb")
    shape = read_shape(tmp_path / "two.glb")
    assert shape.faces is not None
    assert np.allclose(np.ptp(shape.points, axis=0), [11, 1, 1])
    assert shape.faces.max() == len(shape.points) - 1


def test_points_beside_a_mesh_are_left_out_with_a_note(tmp_path: Path) -> None:
    scene = trimesh.Scene([trimesh.creation.box(), trimesh.PointCloud(np.eye(3) * 9)])
    scene.export(tmp_path / "mixed.glb")
    shape = read_shape(tmp_path / "mixed.glb")
    assert np.abs(shape.points).max() < 1
    assert shape.notes[0].startswith("1 ")


def test_ply_without_faces_is_a_cloud(tmp_path: Path, cloud: np.ndarray) -> None:
    trimesh.PointCloud(cloud).export(tmp_path / "cloud.ply")
    shape = read_shape(tmp_path / "cloud.ply")
    assert shape.faces is None
    assert np.allclose(shape.points, cloud, atol=1e-5)


def test_obj_reads_without_its_missing_material(tmp_path: Path) -> None:
    text = "mtllib gone.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl red\nf 1 2 3\n"
    (tmp_path / "a.obj").write_text(text)
    assert read_shape(tmp_path / "a.obj").points.shape == (3, 3)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4"])
def test_npy_types_and_extra_columns(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "a.npy", np.arange(12).reshape(2, 6).astype(dtype))
    assert read_shape(tmp_path / "a.npy").points.tolist() == [[0, 1, 2], [6, 7, 8]]


@pytest.mark.parametrize("key", ["points", "xyz", "pos", "anything"])
def test_npz_keys(tmp_path: Path, key: str, cloud: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", **{key: cloud, "label": np.int64(3)})
    assert np.array_equal(read_shape(tmp_path / "a.npz").points, cloud)


def test_ambiguous_npz_is_refused(tmp_path: Path, cloud: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", first=cloud, second=cloud)
    with pytest.raises(DataError, match="'first', 'second'"):
        read_shape(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_pickled_objects_are_never_loaded(tmp_path: Path, name: str) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    array = np.array([Bomb()], dtype=object)
    save = np.save if name.endswith("npy") else np.savez
    save(tmp_path / name, array)
    with pytest.raises(DataError, match="Python objects"):
        read_shape(tmp_path / name)
    np.savez(tmp_path / "b.npz", cloud=np.eye(3), beside=array)
    assert np.array_equal(read_shape(tmp_path / "b.npz").points, np.eye(3))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "shape", [(3, 40), (6, 40), (4, 5), (3, 2), (16, 2048), (20, 24, 3), (40, 2), (40,)]
)
def test_arrays_the_wrong_way_round_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", points=array)
    np.savez(tmp_path / "b.npz", anything=array, label=np.int64(1))
    for name in ("a.npy", "a.npz", "b.npz"):
        with pytest.raises(DataError, match=name):
            read_shape(tmp_path / name)


@pytest.mark.parametrize("name", ["normals", "colors", "rgb", "features", "poses"])
def test_an_archive_of_something_else_is_no_cloud(
    tmp_path: Path, cloud: np.ndarray, name: str
) -> None:
    np.savez(tmp_path / "a.npz", **{name: cloud})
    with pytest.raises(DataError, match=name):
        read_shape(tmp_path / "a.npz")


def test_vertices_and_faces_of_an_archive_are_a_mesh(
    tmp_path: Path, sphere: trimesh.Trimesh
) -> None:
    np.savez(tmp_path / "a.npz", vertices=sphere.vertices, faces=sphere.faces)
    shape = read_shape(tmp_path / "a.npz")
    assert np.array_equal(shape.faces, sphere.faces)


def test_records_are_read_by_the_names_of_their_fields(tmp_path: Path, cloud: np.ndarray) -> None:
    records = np.zeros(len(cloud), [("intensity", "f4"), ("z", "f8"), ("y", "f8"), ("x", "f8")])
    for place, axis in enumerate("xyz"):
        records[axis] = cloud[:, place]
    np.save(tmp_path / "a.npy", records)
    assert np.array_equal(read_shape(tmp_path / "a.npy").points, cloud)


# Points that are not finite ----------------------------------------------------------------------


def in_every_format(folder: Path, points: np.ndarray) -> list[Path]:
    """One file a format that holds a cloud, NaN and infinity included."""
    rows = "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in points.tolist())
    pcd = f"FIELDS x y z\nWIDTH {len(points)}\nHEIGHT 1\nDATA ascii\n{rows}"
    texts = {
        "a.xyz": rows,
        "a.csv": "x,y,z\n" + rows.replace(" ", ","),
        "a.obj": "".join(f"v {row}\n" for row in rows.splitlines()),
        "a.off": f"OFF {len(points)} 0 0\n{rows}",
        "a.pcd": pcd,
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    np.save(folder / "a.npy", points)
    np.savez(folder / "a.npz", points=points)
    write_labelled_ply(folder / "a.ply", points, np.zeros(len(points), dtype=int))
    return [folder / name for name in (*texts, "a.npy", "a.npz", "a.ply")]


def test_points_that_are_not_finite_are_left_out_with_a_note(
    tmp_path: Path, cloud: np.ndarray
) -> None:
    spoilt = cloud[:40].copy()
    spoilt[::4, 1] = np.nan
    spoilt[1::8, 0] = -np.inf
    kept = np.isfinite(spoilt).all(axis=1)
    for path in in_every_format(tmp_path, spoilt):
        shape = read_shape(path)
        assert np.allclose(shape.points, cloud[:40][kept]), path
        assert any("15 of 40" in note for note in shape.notes), path


def test_clouds_of_which_most_is_missing_are_refused(tmp_path: Path, cloud: np.ndarray) -> None:
    spoilt = cloud[:40].copy()
    spoilt[:21] = np.nan
    for path in in_every_format(tmp_path, spoilt):
        with pytest.raises(DataError, match=r"\b21\D+40\b"):
            InputTransform(num_points=32).prepare(read_shape(path))


def test_labels_stay_with_the_points_that_are_kept() -> None:
    points = np.arange(60.0).reshape(20, 3)
    points[3] = np.nan
    shape = clean_shape(RawShape(points, None, "a", seg=np.arange(20)))
    assert shape.seg is not None
    assert shape.seg.tolist() == [label for label in range(20) if label != 3]


def test_clouds_of_fewer_than_16_points_are_too_small_to_tell(
    tmp_path: Path, cloud: np.ndarray
) -> None:
    transform = InputTransform(num_points=8)
    for few in (cloud[:15], np.repeat(cloud[:15], 200, axis=0)):
        for path in in_every_format(tmp_path, few):
            with pytest.raises(DataError, match="15"):
                transform.prepare(read_shape(path))
    for path in in_every_format(tmp_path, cloud[:16]):
        assert transform.prepare(read_shape(path)).shape == (16, 3)


# Damage ------------------------------------------------------------------------------------------


TABLES = (".csv", ".txt", ".xyz", ".pts")


def valid_file(path: Path, sphere: trimesh.Trimesh, cloud: np.ndarray) -> bytes:
    """A whole file of the kind that the suffix says."""
    suffix, rows = path.suffix, "".join(f"{x:.6f},{y:.6f},{z:.6f}\n" for x, y, z in cloud)
    if suffix in (".npy", ".npz"):
        (np.save if suffix == ".npy" else np.savez)(path, cloud)
    elif suffix == ".pcd":
        header = f"FIELDS x y z\nWIDTH {len(cloud)}\nHEIGHT 1\nDATA ascii\n"
        path.write_text(header + rows.replace(",", " "))
    elif suffix in TABLES:
        path.write_text(rows if suffix == ".csv" else rows.replace(",", " "))
    elif suffix in (".las", ".laz"):
        header = laspy.LasHeader(point_format=0, version="1.2")
        header.scales = np.full(3, 1e-4)
        scan = laspy.LasData(header)
        scan.x, scan.y, scan.z = cloud.T
        scan.write(path)
    elif suffix in (".step", ".stp", ".igs", ".iges"):
        path.write_text(solid_box((1.0, 2.0, 3.0)))
    elif suffix == ".gltf":
        for name, content in trimesh.Scene(sphere).export(file_type="gltf").items():
            (path.parent / name.replace("model.gltf", path.name)).write_bytes(content)
    else:
        sphere.export(path)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", sorted(SHAPE_SUFFIXES))
def test_damaged_files_are_refused_by_name(
    tmp_path: Path, sphere: trimesh.Trimesh, cloud: np.ndarray, suffix: str
) -> None:
    path = tmp_path / f"damaged{suffix}"
    whole = valid_file(path, sphere, cloud)
    if suffix not in (".igs", ".iges"):
        assert len(read_shape(path).points) > 10
    end = len(whole) // 2
    if suffix in TABLES:  # in a first number: a line cut later may look whole
        end = whole.find(b"\n", end) + 4
    noise = np.random.default_rng(0).bytes(2000)
    for content in (b"", noise, b"no shape at all\n" * 50, whole[:end]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"damaged\{suffix}: "):
            read_shape(path)


def test_text_files_that_end_early_are_not_read_as_smaller_ones(
    tmp_path: Path, sphere: trimesh.Trimesh, cloud: np.ndarray
) -> None:
    stl = str(sphere.export(file_type="stl_ascii"))
    (tmp_path / "a.stl").write_text(stl[: len(stl) // 2])
    ply = trimesh.PointCloud(cloud).export(file_type="ply", encoding="ascii").splitlines(True)
    (tmp_path / "a.ply").write_bytes(b"".join(ply[:-100]))
    for name, words in (("a.stl", "no 'endsolid'"), ("a.ply", "300 vertex")):
        with pytest.raises(DataError, match=f"{name}: .*{words}"):
            read_shape(tmp_path / name)


def test_solids_keep_their_size_and_axes(tmp_path: Path) -> None:
    for suffix in ("step", "stp", "STEP"):
        path = tmp_path / f"box.{suffix}"
        path.write_text(solid_box((10.0, 20.0, 30.0)))
        shape = read_shape(path)
        assert shape.faces is not None
        assert np.ptp(shape.points, axis=0) == pytest.approx([0.01, 0.02, 0.03])  # metres


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_laser_scans_keep_their_place_and_classes(
    tmp_path: Path, cloud: np.ndarray, suffix: str
) -> None:
    scan = laspy.LasData(laspy.LasHeader(point_format=3, version="1.2"))
    scan.header.offsets, scan.header.scales = [4e5, 5e6, 0], [1e-4] * 3
    scan.x, scan.y, scan.z = (cloud + np.array([4e5, 5e6, 0])).T
    scan.classification = np.arange(300) % 4
    scan.write(tmp_path / f"a.{suffix}")
    shape = read_shape(tmp_path / f"a.{suffix}", segmented=True)
    assert shape.seg is not None
    assert np.allclose(shape.points, cloud + np.array([4e5, 5e6, 0]), atol=1e-3)
    assert shape.seg.tolist() == (np.arange(300) % 4).tolist()


@pytest.mark.parametrize(
    ("suffix", "module", "extra"),
    [("las", "laspy", "las"), ("laz", "laspy", "las"), ("step", "cascadio", "cad")],
)
def test_formats_of_an_extra_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / f"a.{suffix}").write_text("anything")
    with pytest.raises(DataError, match=rf"pointpeft\[{extra}\]"):
        read_shape(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("header", [b"solid endsolid facet", b"exported, endsolid"])
def test_words_in_the_header_of_a_binary_stl_do_not_make_it_text(
    tmp_path: Path, sphere: trimesh.Trimesh, header: bytes
) -> None:
    content = header.ljust(80) + sphere.export(file_type="stl")[80:]
    (tmp_path / "a.stl").write_bytes(content)
    assert len(read_shape(tmp_path / "a.stl").points) == 3 * len(sphere.faces)
    (tmp_path / "b.stl").write_bytes(sphere.export(file_type="stl") + b"more")
    with pytest.raises(DataError, match=r"b\.stl"):
        read_shape(tmp_path / "b.stl")


def test_stl_text_that_lacks_only_its_end_is_read(tmp_path: Path, sphere: trimesh.Trimesh) -> None:
    text = str(sphere.export(file_type="stl_ascii")).replace("endsolid", "")
    (tmp_path / "a.stl").write_text(text)
    shape = read_shape(tmp_path / "a.stl")
    assert len(shape.points) == 3 * len(sphere.faces)
    assert "no 'endsolid'" in shape.notes[-1]


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_array_that_claims_terabytes_is_refused(
    tmp_path: Path, cloud: np.ndarray, suffix: str
) -> None:
    path = tmp_path / f"claims.{suffix}"
    (np.save if suffix == "npy" else np.savez_compressed)(path, cloud)
    shape, claim = b"(300, 3), }" + b" " * 12, b"(300000000000, 3), }   "
    if suffix == "npz":
        with zipfile.ZipFile(path) as archive:
            content = archive.read("arr_0.npy")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("arr_0.npy", content.replace(shape, claim))
    else:
        path.write_bytes(path.read_bytes().replace(shape, claim))
    assert claim in path.read_bytes()
    with pytest.raises(DataError, match=r"claims\.np.: .*header"):
        read_shape(path)


def test_names_in_an_old_encoding_do_not_matter(tmp_path: Path) -> None:
    mesh = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
    (tmp_path / "a.obj").write_text(f"o Gefäß\n{mesh}", encoding="latin-1")
    assert read_shape(tmp_path / "a.obj").faces is not None


def test_missing_and_unknown_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.obj"):
        read_shape(tmp_path / "gone.obj")
    (tmp_path / "a.blend").touch()
    with pytest.raises(DataError, match=r"'\.blend'"):
        read_shape(tmp_path / "a.blend")


def test_real_meshes_and_scans_all_read(shared_dir: Path) -> None:
    files = [file for part in ("meshes", "scans") for file in (shared_dir / part).rglob("*.*")]
    assert len(files) >= 77
    for file in files:
        shape = read_shape(file)
        assert (shape.faces is None) == ("scans" in file.parts), file
        assert len(shape.points) > 10
