"""Put a pre-trained backbone into the package, with its config, log and model card.

    python scripts/embed_backbone.py runs/point_mae_small [shapes.npz ...] --machine "One CPU core"

The linear SVM is measured on homeobjects and on every data set named, for the weights as shipped
(float16) and for three random initialisations of the same network.
"""

import argparse
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import pointpeft as pp
from pointpeft.measure.backbone_svm import evaluate_backbone
from pointpeft.models import get_entry
from pointpeft.training.config import SvmConfig

WEIGHTS = Path(pp.__file__).parent / "models" / "weights"
RANDOM_SEEDS = 3
SOURCE = "homeobjects"
CARD = """# {name}

{summary}.
{parameters:,} parameters, float16, {size:.1f} MB; input: {points} points in the unit ball, y up.

## How it was made

`pointpeft pretrain --config {name}.yaml`, with the settings beside this file.
`{name}.csv` has the loss of every epoch. {machine}, {hours:.1f} hours.

In {epochs} epochs it saw {seen:,} clouds, and no others:

- {fresh:,} procedural shapes, each once;
- {stored:,} shapes of {source} (those for training, those without a label), {epochs} times each.

The augmentation is {augmentation}. {note}

The objective is that of {paper}.
To it is added {contrast} times an instance contrast between two views of each cloud.

## Linear SVM on frozen features

C is chosen by 5-fold cross-validation on the training split. Accuracy is that of the test split.

| data set | random initialisation, mean of {seeds} | these weights |
|---|---|---|
{rows}

## Licence

Apache-2.0, like the package. The shapes of homeobjects are under CC BY 3.0 and CC0, see
`data/homeobjects/ATTRIBUTION.md`.
"""


def svm(source: str, checkpoint: str | None, seed: int = 0) -> float:
    """Test accuracy of a linear SVM on frozen features."""
    config = pp.load_config(SvmConfig, values={
        "data.source": source, "checkpoint": checkpoint or "random", "seed": seed,
    })  # fmt: skip
    return evaluate_backbone(config)[0].accuracy


def row(source: str, shipped: Path) -> str:
    """Line of the table: random against trained."""
    random = [svm(source, None, seed) for seed in range(RANDOM_SEEDS)]
    trained = svm(source, str(shipped))
    line = f"| {Path(source).stem} | {np.mean(random):.1%} | {trained:.1%} |"
    print(line, flush=True)
    return line


def card(
    run: Path,
    config: dict[str, Any],
    backbone: Any,
    shipped: Path,
    machine: str,
    note: str,
    rows: list[str],
) -> str:
    """The model card, of what the run folder says and of what it cannot.

    Args:
        run: Folder of `pointpeft pretrain`.
        config: Its settings.
        backbone: The encoder that it trained.
        shipped: The weights in the package.
        machine: What it was trained on.
        note: A sentence on the training.
        rows: Lines of the table.
    """
    metrics = json.loads((run / "metrics.json").read_text())
    with (run / "metrics.csv").open() as file:
        epochs = len(list(csv.DictReader(file)))
    entry, data = get_entry(config["model"]), config["data"]
    return CARD.format(
        name=entry.name,
        summary=entry.summary,
        parameters=sum(p.numel() for p in backbone.parameters()),
        size=shipped.stat().st_size / 1e6,
        points=backbone.spec.num_points,
        seen=epochs * metrics["items"],
        fresh=epochs * config["procedural"],
        stored=metrics["items"] - config["procedural"],
        source=data["source"],
        augmentation=data["augmentation"],
        epochs=epochs,
        machine=machine,
        hours=epochs * metrics["seconds_per_epoch"] / 3600,
        note=note,
        paper=entry.paper,
        contrast=config["pretraining"].get("contrast", 0),
        seeds=RANDOM_SEEDS,
        rows="\n".join(rows),
    )


def main() -> None:
    """Copy, measure, write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder of `pointpeft pretrain`")
    parser.add_argument("data", nargs="*", help="further labelled data sets to measure on")
    parser.add_argument("--machine", required=True, help='such as "One CPU core", for the card')
    parser.add_argument("--note", default="", help="a sentence on the training, for the card")
    arguments = parser.parse_args()
    run: Path = arguments.run
    config: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    name = config["model"]
    if config["data"]["source"] != SOURCE:
        parser.error(f"{run} was not trained on {SOURCE}, of which the card states a licence")

    WEIGHTS.mkdir(exist_ok=True)
    shipped = WEIGHTS / f"{name}.safetensors"
    backbone = pp.create_model(name, checkpoint=run / "backbone.safetensors")
    pp.save_model(backbone, shipped, half=True)
    shipped.chmod(0o644)
    shutil.copyfile(run / "config.yaml", WEIGHTS / f"{name}.yaml")
    shutil.copyfile(run / "metrics.csv", WEIGHTS / f"{name}.csv")
    rows = [row(source, shipped) for source in [SOURCE, *arguments.data]]
    text = card(run, config, backbone, shipped, arguments.machine, arguments.note, rows)
    (WEIGHTS / f"{name}.md").write_text(text)


if __name__ == "__main__":
    main()
