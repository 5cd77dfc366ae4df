"""The published tables: every row has a config, and a tiny grid runs, resumes and skips."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pointpeft.compat.checkpoints.backbone_layouts import POINT_MAE_PRETRAINED
from pointpeft.compat.reproduction import CHECKPOINTS, EXPERIMENTS, Experiment, reproduce
from pointpeft.errors import ConfigError
from pointpeft.measure.records import write_measurement
from pointpeft.training.config import FinetuneConfig, SvmConfig
from pointpeft.training.config_files import load_config
from tests.models.test_published import publish
from tests.models.tiny import SIZES, settle, tiny
from tests.training.test_protocol import BG, root  # noqa: F401 - a shared fixture

CFGS = Path(__file__).resolve().parents[2] / "cfgs"
BACKBONE = "\n".join(
    f"  {key}: {list(v) if isinstance(v, tuple) else v}" for key, v in SIZES.items()
)
DATA = "data: {variant: scanobjectnn_obj_bg, normalize: none, num_points: 64}\n"
TUNE = "method: linear\ntrainer: {epochs: 1, batch_size: 4, accelerator: cpu}\n"
GRID = (
    Experiment("Tiny", "MAE, tuned", "fine-tuning/a.yaml", "Point-MAE", 90.0),
    Experiment(
        "Tiny", "MAE, voting", "fine-tuning/a.yaml", "Point-MAE", 91.0, "test_vote_accuracy"
    ),
    Experiment("Tiny", "MAE, SVM", "linear-svm/a.yaml", "Point-MAE", 92.0),
    Experiment("Tiny", "BERT", "fine-tuning/a.yaml", "Point-BERT", 93.0),
    Experiment("Tiny", "missing data", "fine-tuning/b.yaml", "Point-MAE", 94.0),
)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: f"{e.table} {e.row}")
def test_every_row_has_a_config_that_loads(experiment):
    kind = SvmConfig if experiment.is_svm else FinetuneConfig
    config = load_config(kind, [CFGS / experiment.config], experiment.overrides)
    assert config.data.variant
    assert experiment.weights.lower().replace("-", "_") == config.model


@pytest.fixture
def workshop(root, tmp_path):  # noqa: F811
    """Configs, weights and data for a grid of a few seconds."""
    configs = tmp_path / "cfgs"
    common = f"model: point_mae\nbackbone:\n{BACKBONE}\n"
    for name, text in {
        "fine-tuning/a.yaml": common + DATA + TUNE + "votes: 1\n",
        "fine-tuning/b.yaml": common + DATA.replace("scanobjectnn_obj_bg", "modelnet40") + TUNE,
        "linear-svm/a.yaml": common + DATA + "C: 1.0\n",
    }.items():
        path = configs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    weights = tmp_path / "ckpts"
    weights.mkdir()
    state = POINT_MAE_PRETRAINED.theirs(settle(tiny("pretraining")).state_dict())
    publish(weights / "pretrain.pth", state)
    return {"data": root, "checkpoints": weights, "configs": configs}


def test_a_grid_runs_skips_and_resumes(workshop, tmp_path, monkeypatch):
    output = tmp_path / "tables"
    outcomes = reproduce(**workshop, output=output, experiments=GRID)
    measured = {o.experiment.row: o.measured for o in outcomes}
    for row in ("MAE, tuned", "MAE, voting", "MAE, SVM"):
        assert 0 <= measured[row] <= 100
    missing = {o.experiment.row: o.missing for o in outcomes if o.measured is None}
    names = "point-bert.pth or point-bert/Point-BERT.pth or Point-BERT.pth"
    assert f"no weights: {names}" in missing["BERT"]
    assert "ModelNet40 is expected as" in missing["missing data"]
    table = (output / "reproduction.md").read_text()
    assert f"| 90.00 % | {measured['MAE, tuned']:.2f} % |" in table
    assert "test split" in table

    def never(*_, **__):
        raise AssertionError("a finished run was begun again")

    monkeypatch.setattr("pointpeft.measure.backbone_svm.evaluate_backbone", never)
    monkeypatch.setattr("pointpeft.training.run.fit", never)
    again = reproduce(**workshop, output=output, experiments=GRID)
    assert [o.measured for o in again] == [o.measured for o in outcomes]
    reproduce(**workshop, output=output, experiments=GRID, only="svm")
    assert (output / "reproduction.md").read_text() == table


def test_a_part_of_the_tables_is_run(workshop, tmp_path):
    outcomes = reproduce(**workshop, output=tmp_path / "t", experiments=GRID, only="svm")
    assert [o.experiment.row for o in outcomes] == ["MAE, SVM"]
    with pytest.raises(ConfigError, match="transformer"):
        reproduce(**workshop, output=tmp_path / "t", experiments=GRID, only="transformer")


def test_what_was_measured_stays_while_weights_are_away(workshop, tmp_path):
    tuned, svm = GRID[0], GRID[2]
    given = {**workshop, "output": tmp_path / "t", "experiments": [tuned, svm]}
    reproduce(**given)
    table = (tmp_path / "t/reproduction.md").read_text()
    file = workshop["checkpoints"] / "pretrain.pth"
    file.rename(tmp_path / "away.pth")
    assert {outcome.measured for outcome in reproduce(**given)} == {None}
    now = (tmp_path / "t/reproduction.md").read_text()
    for before, after in zip(table.splitlines(), now.splitlines(), strict=True):
        number = before.removesuffix(" |")
        assert after == before or after.startswith(f"{number} (now: no weights")
    assert now.count("(now: no weights") == 2


def test_other_weights_are_not_reported_by_what_was_measured_before(workshop, tmp_path):
    tuned, svm = GRID[0], GRID[2]
    given = {**workshop, "output": tmp_path / "t", "experiments": [tuned, svm]}
    reproduce(**given)
    before = json.loads((tmp_path / "t/linear-svm/a/metrics.json").read_text())
    torch.manual_seed(7)
    state = POINT_MAE_PRETRAINED.theirs(settle(tiny("pretraining"), seed=7).state_dict())
    publish(workshop["checkpoints"] / "pretrain.pth", state)
    refused, again = reproduce(**given)
    assert "weights of the encoder" in refused.missing
    table = (tmp_path / "t/reproduction.md").read_text()
    assert f"| {tuned.row} | 90.00 % | {refused.missing} |" in table
    after = json.loads((tmp_path / "t/linear-svm/a/metrics.json").read_text())
    assert after["encoder"] != before["encoder"]
    assert again.measured is not None


def test_a_row_is_measured_again_once_its_settings_differ(workshop, tmp_path, monkeypatch):
    row, C = GRID[2], []

    def measured(config, *_, output):
        C.append(config.C)
        write_measurement(output, config, {"test_accuracy": config.C / 4})

    monkeypatch.setattr("pointpeft.measure.backbone_svm.evaluate_backbone", measured)
    file = workshop["configs"] / row.config
    for _ in range(2):
        (outcome,) = reproduce(**workshop, output=tmp_path / "t", experiments=[row])
        assert outcome.measured == 25
    file.write_text(file.read_text().replace("C: 1.0", "C: 2.0"))
    (outcome,) = reproduce(**workshop, output=tmp_path / "t", experiments=[row])
    assert outcome.measured == 50
    assert C == [1.0, 2.0]


def test_files_of_the_same_name_lie_in_folders(workshop, tmp_path, monkeypatch):
    """Point-M2AE and I2P-MAE both call theirs pre-train.pth."""
    used = []

    def measured(config, *_, output):
        used.append(Path(config.checkpoint).relative_to(workshop["checkpoints"]).as_posix())
        write_measurement(output, config, {"test_accuracy": 0.5})

    monkeypatch.setattr("pointpeft.measure.backbone_svm.evaluate_backbone", measured)
    grid = [replace(GRID[2], row=name, weights=name) for name in ("Point-M2AE", "I2P-MAE")]
    for name in ("i2p-mae", "point-m2ae"):
        (workshop["checkpoints"] / name).mkdir()
        (workshop["checkpoints"] / name / "pre-train.pth").touch()
    reproduce(**workshop, output=tmp_path / "t", experiments=grid)
    assert used == ["point-m2ae/pre-train.pth", "i2p-mae/pre-train.pth"]


def test_the_documentation_names_what_is_looked_for():
    text = (CFGS.parent / "docs/reproduction.md").read_text()
    for weights, names in CHECKPOINTS.items():
        assert f"| {weights} | {', '.join(f'`{name}`' for name in names)} |" in text


def test_without_configs_their_place_is_asked_for(workshop, tmp_path):
    workshop["configs"] = tmp_path / "nowhere"
    with pytest.raises(ConfigError, match="`configs`"):
        reproduce(**workshop, output=tmp_path / "t", experiments=GRID)
