"""A row for every file of a corpus, and what is made of them: an index, a linear SVM."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pointpeft as pp
from pointpeft.data.corpus import ShardFolder
from pointpeft.errors import CheckpointError, ConfigError, DataError
from pointpeft.measure import approximate
from pointpeft.measure.corpus import Features, make_corpus
from pointpeft.measure.feature_svm import evaluate_features, features_of
from pointpeft.training import SvmConfig, evaluate_backbone
from tests.measure.fatal_files import FatalFile
from tests.training.conftest import light_runs, weights  # noqa: F401 - shared fixtures
from tests.training.support import CLASSES, write_meshes

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def meshes(tmp_path_factory):
    """Eight files of each class, and one that is none."""
    folder = write_meshes(tmp_path_factory.mktemp("meshes"), dict.fromkeys(CLASSES, 8))
    (folder / "box/bad.off").write_text("no mesh")
    return folder


@pytest.fixture(scope="module")
def corpus(meshes, weights, tmp_path_factory):  # noqa: F811
    path = tmp_path_factory.mktemp("corpus") / "features"
    made = make_corpus(Features(checkpoint=weights), [meshes], path, shard_size=5, device="cpu")
    assert (made.files, made.before, made.failed, made.folder.shards) == (33, 0, 1, 7)
    return path


@pytest.fixture(scope="module")
def index(meshes, weights):  # noqa: F811
    return pp.embed(meshes, checkpoint=weights, device="cpu")


def embed(meshes, weights, path, **how):  # noqa: F811
    options = {"device": "cpu", "shard_size": 5, "workers": 0} | how
    return make_corpus(Features(checkpoint=weights), [meshes], path, **options)


def test_a_row_for_every_file(corpus, meshes, index):
    rows = parquet.read_table(corpus).to_pylist()
    assert [row["id"] for row in rows][:3] == ["box/bad.off", "box/box_00.off", "box/box_01.off"]
    assert [row["id"] for row in rows[1:]] == list(index.ids)
    assert [row["class"] for row in rows[1:]] == [index.class_of(n) for n in range(len(index))]
    bad = rows[0]
    assert "bad.off" in bad["error"]
    assert bad["feature"] is bad["length"] is bad["digest"] is None
    assert all(row["error"] is None and row["length"] > 0 for row in rows[1:])
    assert len({row["digest"] for row in rows[1:]}) == 32
    found = np.array([row["feature"] for row in rows[1:]], dtype=np.float32)
    np.testing.assert_allclose(found, index.features, atol=1e-3)


def test_processes_that_read_change_nothing(corpus, meshes, weights, tmp_path):  # noqa: F811
    embed(meshes, weights, tmp_path / "again", workers=1)
    assert parquet.read_table(tmp_path / "again").equals(parquet.read_table(corpus))


def test_finished_shards_are_kept(corpus, meshes, weights, tmp_path):  # noqa: F811
    path, calls = tmp_path / "features", []

    def stop(done, total):
        if done > 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(meshes, weights, path, progress=stop)
    assert sorted(file.name for file in path.glob("part-*")) == [
        "part-00000.parquet", "part-00001.parquet",
    ]  # fmt: skip
    (path / "part-00002.parquet.0123.tmp").write_text("of a process that was killed")
    with pytest.raises(DataError, match="2 of 7"):
        pp.Index.load(path)
    times = [file.stat().st_mtime_ns for file in sorted(path.glob("part-*.parquet"))]
    made = embed(meshes, weights, path, resume=True, progress=lambda *done: calls.append(done))
    assert (made.before, made.failed, calls[0], calls[-1]) == (10, 1, (11, 33), (33, 33))
    parts = sorted(path.glob("part-*"))
    assert [file.stat().st_mtime_ns for file in parts[:2]] == times
    assert len(parts) == 7
    assert parquet.read_table(path).equals(parquet.read_table(corpus))


def cut(part):
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])


def flip(part):
    """The last byte of the features is another one."""
    group = parquet.ParquetFile(part).metadata.row_group(0)
    columns = map(group.column, range(group.num_columns))
    (feature,) = [one for one in columns if one.path_in_schema.startswith("feature")]
    content = bytearray(part.read_bytes())
    content[feature.data_page_offset + feature.total_compressed_size - 1] ^= 1
    part.write_bytes(content)


def of_another_shard(part):
    part.write_bytes(part.with_name("part-00006.parquet").read_bytes())


def without_features(part):
    parquet.write_table(parquet.read_table(part).drop_columns(["feature"]), part)


def of_other_length(part):
    """The features have half of the channels."""
    table = parquet.read_table(part)
    place = table.schema.get_field_index("feature")
    half = [None if row is None else row[:12] for row in table["feature"].to_pylist()]
    field = table.schema.field(place)
    parquet.write_table(table.set_column(place, field, pyarrow.array(half, field.type)), part)


@pytest.mark.parametrize(
    "damage",
    [
        cut, flip, of_another_shard, without_features, of_other_length,
        lambda part: part.write_bytes(b""),
    ],
)  # fmt: skip
def test_a_damaged_shard_is_made_again(corpus, meshes, weights, tmp_path, damage, caplog):  # noqa: F811
    path = tmp_path / "features"
    shutil.copytree(corpus, path, ignore=shutil.ignore_patterns("_mapped"))
    damage(path / "part-00002.parquet")
    with pytest.raises(DataError, match="part-00002"):
        pp.Index.load(path)
    made = embed(meshes, weights, path, resume=True)
    assert (made.before, made.failed) == (28, 1)
    assert "part-00002" in caplog.text
    assert parquet.read_table(path).equals(parquet.read_table(corpus))


def test_a_changed_byte_is_found_when_it_is_read(corpus, tmp_path):
    path = tmp_path / "features"
    shutil.copytree(corpus, path, ignore=shutil.ignore_patterns("_mapped"))
    flip(path / "part-00003.parquet")
    with pytest.raises(DataError, match="part-00003"):
        pp.Index.load(path)


def test_a_file_that_has_changed_is_read_again(meshes, weights, tmp_path, caplog):  # noqa: F811
    files, path = tmp_path / "files", tmp_path / "features"
    shutil.copytree(meshes / "box", files)
    embed(files, weights, path)
    shutil.copy(meshes / "torus/torus_00.off", files / "box_06.off")
    made = embed(files, weights, path, resume=True)
    assert made.before == 5
    assert "box_06.off" in caplog.text
    embed(files, weights, tmp_path / "anew")
    assert parquet.read_table(path).equals(parquet.read_table(tmp_path / "anew"))
    assert embed(files, weights, path, resume=True).before == 9


def test_what_is_written_is_not_read(meshes, weights, tmp_path):  # noqa: F811
    files = tmp_path / "files"
    shutil.copytree(meshes / "box", files)
    path, pattern = files / "features", str(files / "**")
    for sources, output in ((files, path), (pattern, files / "again")):
        embed(sources, weights, output)
        pp.Index.load(output)
        assert (output / "_mapped/features.npy").is_file()
        if output == path:
            assert embed(sources, weights, output, resume=True).before == 9
            shutil.rmtree(output)
    for sources in (path, tmp_path / "files/../files/features"):
        with pytest.raises(ConfigError, match="`output`"):
            embed(sources, weights, path)


@pytest.mark.parametrize(
    ("work", "how", "named"),
    [
        ({}, {"resume": False}, "`output`"),
        ({"up_axis": "z"}, {}, "up_axis was 'y' and is 'z'"),
        ({}, {"shard_size": 4}, "`shard_size`"),
        ({}, {"sources": ["box"]}, "`output`"),
        ({}, {"engine": "spark"}, "`engine`"),
        ({}, {"workers": -1}, "`workers`"),
        ({}, {"output": "new", "shard_size": 0}, "`shard_size`"),
        ({"model": "point_bert_dvae"}, {"output": "new"}, "`model`"),
    ],
)
def test_other_work_is_refused(corpus, meshes, weights, work, how, named):  # noqa: F811
    sources = [meshes / name for name in how.pop("sources", [""])]
    output = corpus.with_name(how.pop("output", corpus.name))
    how = {"resume": True, "device": "cpu", **how}
    before = sorted(corpus.iterdir())
    with pytest.raises(ConfigError, match=named):
        make_corpus(replace(Features(checkpoint=weights), **work), sources, output, **how)
    assert sorted(corpus.iterdir()) == before
    assert not corpus.with_name("new").exists()


def test_ray_is_asked_for_before_a_model_is_loaded(meshes, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"`engine`.*pointpeft\[ray\]"):
        make_corpus(Features(checkpoint="gone"), [meshes], tmp_path / "new", engine="ray")


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("ends", ["_files.parquet", "_corpus.json"])
def test_a_folder_whose_listing_was_killed_is_begun_anew(
    meshes, tmp_path, monkeypatch, ends, resume
):
    path, rename, unlink = tmp_path / "features", Path.replace, Path.unlink

    def kill(self, target):
        if target.name == ends:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", kill)
        patch.setattr(Path, "unlink", lambda self, **how: self.suffix == ".tmp" or unlink(self))
        patch.setattr(Path, "rmdir", lambda self: None)
        with pytest.raises(KeyboardInterrupt):
            ShardFolder.begin(path, {}, [meshes])
    assert list(path.iterdir())
    folder = ShardFolder.begin(path, {}, [meshes], resume=resume)
    assert folder.files.count == 33
    assert sorted(file.name for file in path.iterdir()) == ["_corpus.json", "_files.parquet"]


def test_a_folder_of_something_else_is_not_written_into(meshes, weights, tmp_path):  # noqa: F811
    (tmp_path / "notes.txt").touch()
    for resume in (False, True):
        with pytest.raises(ConfigError, match="`output`"):
            embed(meshes, weights, tmp_path, resume=resume)
    with pytest.raises(CheckpointError):
        make_corpus(Features(checkpoint=tmp_path / "gone"), [meshes], tmp_path / "new")
    with pytest.raises(DataError, match="shards"):
        ShardFolder.open(tmp_path)


def test_after_a_kill_another_process_reads(corpus, meshes, weights, tmp_path):  # noqa: F811
    path, name = tmp_path / "features", "part-00000.parquet"
    shutil.copytree(corpus, path)
    (path / name).unlink()
    ShardFolder.open(path).attempt(0).__enter__()  # by a process that was killed
    work = FatalFile(Features(checkpoint=weights))
    made = make_corpus(work, [meshes], path, resume=True, device="cpu")
    assert (made.before, made.failed) == (28, 2)
    rows, before = (parquet.read_table(each / name).to_pylist() for each in (path, corpus))
    assert "ended the process" in rows[3]["error"]
    assert rows[:3] + rows[4:] == before[:3] + before[4:]
    assert not list(path.glob("*.tmp"))


def test_a_shard_that_ends_every_process_is_given_up(corpus):
    folder = ShardFolder.open(corpus)
    for _ in range(2):
        folder.attempt(1).__enter__()
    with folder.attempt(1):
        pass
    for _ in range(3):
        folder.attempt(1).__enter__()
    with pytest.raises(DataError, match="part-00001"):
        folder.attempt(1).__enter__()
    folder.tidy()
    assert not list(corpus.glob("*.tmp"))


# An index --------------------------------------------------------------------------------------


def test_an_index_is_mapped_and_finds_the_same(corpus, index):
    found = pp.Index.load(corpus)
    assert isinstance(found.features, np.memmap)
    assert isinstance(found.labels, np.memmap)
    assert list(found.ids) == list(index.ids)
    assert list(found.ids[2:5]) == list(index.ids[2:5])
    assert [found.class_of(n) for n in range(32)] == [index.class_of(n) for n in range(32)]
    np.testing.assert_allclose(found.features, index.features, atol=1e-3)
    assert (found.search(index, top=1).places[:, 0] == np.arange(32)).all()
    picture = found.source.find([found.ids[3]], found.model.transform)[found.ids[3]]
    assert picture.shape == (1024, 3)


def test_arrays_are_written_once_and_anew_for_other_shards(corpus, meshes, weights, tmp_path):  # noqa: F811
    path = tmp_path / "features"
    embed(meshes, weights, path)
    mapped = path / "_mapped/features.npy"
    pp.Index.load(path)
    first = mapped.stat().st_mtime_ns
    pp.Index.load(path)
    assert mapped.stat().st_mtime_ns == first
    (path / "part-00003.parquet").unlink()
    embed(meshes, weights, path, resume=True)
    pp.Index.load(path)
    assert mapped.stat().st_mtime_ns > first


def test_cells_are_kept_beside_the_array_and_mapped(corpus, index, monkeypatch):
    faiss = pytest.importorskip("faiss")
    monkeypatch.setattr(approximate, "COMPARED_ONE_BY_ONE", 8)
    for _ in range(2):  # made, then read
        found = pp.Index.load(corpus).search(index, top=1)
        assert (found.places[:, 0] == np.arange(32)).mean() > 0.9
    kept = corpus / "_mapped/features.npy.faiss"
    cells = faiss.read_index(str(kept), faiss.IO_FLAG_MMAP)
    assert cells.ntotal == 32


def test_other_rows_and_damaged_shards_are_no_index(corpus, meshes, weights, tmp_path):  # noqa: F811
    path = tmp_path / "features"
    embed(meshes, weights, path)
    (path / "part-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="part-00001"):
        pp.Index.load(path)
    about = json.loads((path / "_corpus.json").read_text())
    about["made_by"]["kind"] = "classes"
    (path / "_corpus.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="features"):
        pp.Index.load(path)


# A linear SVM ----------------------------------------------------------------------------------


def test_an_svm_of_features_is_that_of_the_shapes(corpus, meshes, weights, tmp_path):  # noqa: F811
    config = SvmConfig(checkpoint=str(weights), C=1.0)
    config.data.source, config.data.val_fraction = str(meshes), 0.4
    expected, _ = evaluate_backbone(config, output=tmp_path / "shapes")
    found, model = evaluate_features(corpus, config, tmp_path / "features")
    np.testing.assert_array_equal(found.predictions, expected.predictions)
    np.testing.assert_allclose(found.decision, expected.decision, atol=0.05)
    metrics = [
        json.loads((tmp_path / each / "metrics.json").read_text())
        for each in ("shapes", "features")
    ]
    for key in ("test_accuracy", "train_items", "test_items", "class_items", "confusion", "notes"):
        assert metrics[0][key] == metrics[1][key]
    assert "bad.off" in metrics[1]["skipped"][0]
    assert model in metrics[1]["weights"]


def test_features_that_are_there_have_their_model():
    config = SvmConfig()
    assert features_of(config, data_given=False) is None
    assert features_of(replace(config, checkpoint="w"), data_given=True) == Features(
        "point_mae_small", "w", up_axis="y"
    )
    for given in ({"checkpoint": "w"}, {"model": "point_bert"}, {"preset": "modelnet40"}):
        with pytest.raises(ConfigError, match=next(iter(given))):
            features_of(replace(config, **given), data_given=False)
    with pytest.raises(ConfigError, match="protocol"):
        features_of(replace(config, protocol="published"), data_given=True)


def test_an_svm_needs_classes(meshes, weights, tmp_path):  # noqa: F811
    make_corpus(Features(checkpoint=weights), sorted((meshes / "box").iterdir()), tmp_path / "box")
    with pytest.raises(DataError, match="class"):
        evaluate_features(tmp_path / "box", SvmConfig(C=1.0))
