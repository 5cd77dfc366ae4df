"""Put a pre-trained backbone into the package, with its config, log and model card.

    python scripts/embed_backbone.py runs/point_mae_small [shapes.npz ...] \\
        --machine "One CPU core" --commit 0123abc

The run was trained on shards of procedural shapes. The linear SVM is measured on the embedded sets
and on every data set named, for the weights as shipped (float16) and for three random
initialisations of the same network. A run that goes on from the weights in the package, with the
same settings but its epochs and perhaps other shapes, says on its card what was before; their log
stays beside the new one.
"""

import argparse
import csv
import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import pointpeft as pp
from pointpeft.data.shards.index import ShardIndex
from pointpeft.files import write_json
from pointpeft.measure.backbone_svm import evaluate_backbone
from pointpeft.models import get_entry
from pointpeft.models.objective import ObjectiveConfig
from pointpeft.models.safetensors_files import state_hash
from pointpeft.training.config import SvmConfig

WEIGHTS = Path(pp.__file__).parent / "models" / "weights"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "shipped-backbones-cpu.json"
RANDOM_SEEDS = 3
SECONDS_TO_LOOK = 0.035
"""That a teacher looks at a shape on a core, see docs/pretraining.md."""
SETS = ("homeobjects", "mechparts", "mechparts-scan")
POOL = "runs/pool"
FIRST = "runs/first"
FIRST_POOL = "runs/first-pool"
SPEED = "clouds_per_second"
CARD = """# {name}

{summary}.
{parameters:,} parameters, float16, {size:.1f} MB; input: {points} points in the unit ball, y up.

## How it was made

```sh
{commands}
```

`{name}.yaml` stands beside this file. {machine} saw {speeds} clouds a second (median of
each log), at which it takes {hours:.1f} hours. A core looks at all shapes with the eyes of the
teacher in {look:.1f} hours. The run was made at commit {commit}.
It saw {looks} ({seen:,} clouds), and no others: no shape of
a data set, and no label. It is one run with one seed, and these are its weights after the last
epoch, which no accuracy chose. An early look at `shapes69` was one reason for the
contrast.{further}

The objective is that of {paper},
with {contrast} times an instance contrast between two views of each cloud, and {distillation} times
the prediction of what a frozen {teacher} sees in {views} views of it.
{logs} every epoch:

| epoch | {columns} |
|---|{rules}|
{curve}

## Linear SVM on frozen features

C is chosen by 5-fold cross-validation on the training split. Accuracy is that of the test split.

| data set | random initialisation, mean of {seeds} | these weights |
|---|---|---|
{rows}
{note}
## Limits

It has learnt from whole synthetic shapes whose up axis is y. It expects shapes that stand upright;
one-sided scans are harder for it, as the row of `mechparts-scan` shows. Nobody has looked at what
it does with shapes of other kinds, such as rooms, terrain or molecules.

## Licence

Apache-2.0, like the package. The teacher's weights (EfficientNet-Lite0, trained on ImageNet,
Apache-2.0) are no part of it.
"""

FURTHER = """
After the first {first} epochs the weights were rounded to float16, which the commands leave out,
and the learning rate rose and fell once more."""


def svm(name: str, source: str, checkpoint: str | None, seed: int = 0) -> float:
    """Test accuracy of a linear SVM on frozen features."""
    config = pp.load_config(SvmConfig, values={
        "model": name, "data.source": source, "checkpoint": checkpoint or "random", "seed": seed,
    })  # fmt: skip
    return evaluate_backbone(config)[0].accuracy


def measure(name: str, sources: list[str], shipped: Path) -> list[str]:
    """Lines of the table, random against trained; their numbers are kept in ``RESULTS``."""
    found: dict[str, dict[str, Any]] = {}
    for source in sources:
        random = [svm(name, source, None, seed) for seed in range(RANDOM_SEEDS)]
        found[Path(source).stem] = {"random": random, "trained": svm(name, source, str(shipped))}
    kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    weights = state_hash(pp.create_model(name, checkpoint=shipped))
    write_json(RESULTS, kept | {name: {"weights": weights, "test_accuracy": found}})
    return [
        f"| {data} | {np.mean(each['random']):.1%} | {each['trained']:.1%} |"
        for data, each in found.items()
    ]


def epochs_of(log: Path) -> list[dict[str, str]]:
    """Rows of a log; none if there is no such file."""
    if not log.is_file():
        return []
    with log.open() as file:
        return list(csv.DictReader(file))


def curve(epochs: list[dict[str, str]], columns: list[str], first: int) -> list[str]:
    """Lines of some epochs: every fourth, the first and last, and the last of the run before."""
    return [
        f"| {number} | {' | '.join(f'{float(row[column]):.4f}' for column in columns)} |"
        for number, row in enumerate(epochs, 1)
        if number in {1, first, len(epochs)} or number % 4 == 0
    ]


def history(
    name: str, first: int, last: int, pool: Path, first_pool: Path | None
) -> dict[str, Any]:
    """What the card says of the runs: their commands, and which shapes they saw how often.

    Args:
        name: Of the backbone.
        first: Epochs of the run before, 0 without one.
        last: Epochs of the run.
        pool: Its shards.
        first_pool: Shards of the run before, if they are others.
    """
    pools = {FIRST_POOL: ShardIndex.read(first_pool)} if first_pool else {}
    pools[POOL] = ShardIndex.read(pool)
    commands = [
        f"pointpeft data shard procedural --shapes {each.shapes} "
        f"--points {each.transform.num_points} --seed {each.seed} --output {output}"
        for output, each in pools.items()
    ]
    pretrain = f"pointpeft pretrain --config {name}.yaml --output"
    if first:
        other = f" data.source={FIRST_POOL}" if first_pool else ""
        commands.append(f"{pretrain} {FIRST} trainer.epochs={first} checkpoint=null{other}")
    commands.append(f"{pretrain} runs/{name}")
    times = [first, last] if first_pool else [first + last]
    looks = [
        f"{each.shapes:,} {'others' if place else 'procedural shapes'} {epochs} times"
        for place, (each, epochs) in enumerate(zip(pools.values(), times, strict=True))
    ]
    return {
        "commands": "\n".join(commands),
        "looks": " and ".join(looks),
        "seen": sum(p.shapes * n for p, n in zip(pools.values(), times, strict=True)),
        "look": sum(each.shapes for each in pools.values()) * SECONDS_TO_LOOK / 3600,
        "further": FURTHER.format(first=first) if first else "",
    }


def card(
    config: dict[str, Any],
    backbone: Any,
    shipped: Path,
    machine: str,
    commit: str,
    rows: list[str],
    note: str,
    first_pool: Path | None,
) -> str:
    """The model card, of what the config and the logs say and of what they cannot.

    Args:
        config: Settings of the run.
        backbone: The encoder that it trained.
        shipped: The weights in the package.
        machine: What it was trained on.
        commit: Of this repository, at which it was trained.
        rows: Lines of the table.
        note: What is said below it.
        first_pool: Shards of the run before, if they are others.
    """
    name = config["model"]
    first, last = (epochs_of(WEIGHTS / f"{name}{which}.csv") for which in ("-first", ""))
    epochs = first + last
    entry, terms = get_entry(name), backbone_terms(config)
    pool = Path(config["data"]["source"])
    seen = history(name, len(first), len(last), pool, first_pool)
    columns = [column for column in epochs[0] if column.startswith("loss_")]
    logs = [(first_pool or pool, first), (pool, last)] if first else [(pool, last)]
    # Epochs that were interrupted have no speed.
    speeds = [np.median([float(row[SPEED]) for row in log if row[SPEED]]) for _, log in logs]
    clouds = [ShardIndex.read(shards).shapes * len(log) for shards, log in logs]
    hours = sum(n / speed / 3600 for n, speed in zip(clouds, speeds, strict=True))
    return CARD.format(
        name=entry.name,
        summary=entry.summary,
        parameters=sum(p.numel() for p in backbone.parameters()),
        size=shipped.stat().st_size / 1e6,
        points=backbone.spec.num_points,
        **seen,
        machine=machine,
        commit=commit,
        speeds=" and ".join(f"{speed:.0f}" for speed in speeds),
        hours=hours,
        paper=entry.paper,
        **terms,
        columns=" | ".join(column.removeprefix("loss_") for column in columns),
        rules="|".join("---" for _ in columns),
        curve="\n".join(curve(epochs, columns, len(first))),
        logs=f"`{name}-first.csv` and `{name}.csv` have" if first else f"`{name}.csv` has",
        seeds=RANDOM_SEEDS,
        rows="\n".join(rows),
        note=f"\n{note}\n" if note else "",
    )


def backbone_terms(config: dict[str, Any]) -> dict[str, Any]:
    """Weights of the terms on whole clouds, and their teacher."""
    asked = ObjectiveConfig(**{
        name: value
        for name, value in config["pretraining"].items()
        if name in {field.name for field in fields(ObjectiveConfig)}
    })  # fmt: skip
    views = {"shaded": "four shaded", "depth": "three depth"}[asked.views]
    return {
        "contrast": asked.contrast, "distillation": asked.distillation,
        "teacher": asked.teacher, "views": views,
    }  # fmt: skip


def main() -> None:
    """Copy, measure, write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder of `pointpeft pretrain`")
    parser.add_argument("data", nargs="*", help="further labelled data sets to measure on")
    parser.add_argument("--machine", required=True, help='such as "One CPU core", for the card')
    parser.add_argument("--commit", required=True, help="at which it was trained, for the card")
    parser.add_argument("--first-pool", type=Path, help="shards of the run before, if others")
    parser.add_argument("--note", default="", help="said below the table, such as of your data")
    args = parser.parse_args()
    run: Path = args.run
    config: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    name = config["model"]
    WEIGHTS.mkdir(exist_ok=True)
    shipped = WEIGHTS / f"{name}.safetensors"
    if config["checkpoint"] is not None and not (WEIGHTS / f"{name}-first.csv").exists():
        (WEIGHTS / f"{name}.csv").rename(WEIGHTS / f"{name}-first.csv")
    if args.first_pool and config["checkpoint"] is None:
        parser.error("--first-pool is of the run before, and this one began from nothing")
    backbone = pp.create_model(name, checkpoint=run / "backbone.safetensors")
    pp.save_model(backbone, shipped, half=True)
    shipped.chmod(0o644)
    begun = None if config["checkpoint"] is None else FIRST
    shared = config | {"checkpoint": begun, "data": config["data"] | {"source": POOL}}
    (WEIGHTS / f"{name}.yaml").write_text(yaml.safe_dump(shared, sort_keys=False))
    shutil.copyfile(run / "metrics.csv", WEIGHTS / f"{name}.csv")
    rows = measure(name, [*SETS, *args.data], shipped)
    said = (args.machine, args.commit, rows, args.note, args.first_pool)
    text = card(config, backbone, shipped, *said)
    (WEIGHTS / f"{name}.md").write_text(text)


if __name__ == "__main__":
    main()
