"""What each objective of pre-training is worth: equal budgets, a linear SVM on frozen features.

Every row is a short pre-training of a small model on the same procedural shapes, equally many for
every row, or no training at all. Runs that are finished are not repeated, so that the script can
be stopped and started again. A row takes minutes, with a teacher of I2P-MAE longer.

    python benchmarks/pretraining.py --output runs/objectives --seeds 3 [--data shapes.npz ...]
"""

import argparse
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pointpeft import create_model, save_model
from pointpeft.data.shards import ShardIndex, write_shards
from pointpeft.files import write_json
from pointpeft.measure.backbone_svm import evaluate_backbone
from pointpeft.measure.records import versions
from pointpeft.training import PretrainConfig, SvmConfig, load_config, pretrain

I2P = "i2p_mae_small"
TEACHER = ("pretraining.teacher=efficientnet-lite0", "pretraining.teacher_image_size=128")
SHADED = ("pretraining.views=shaded", "pretraining.num_views=4")
ROWS: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "Point-MAE, random initialisation": ("point_mae_small", None),
    "Point-MAE": ("point_mae_small", ()),
    "Point-MAE, contrast": ("point_mae_small", ("pretraining.contrast=0.03",)),
    "Point-MAE, distillation": ("point_mae_small", ("pretraining.distillation=0.1",)),
    "Point-MAE, contrast and distillation": (
        "point_mae_small",
        ("pretraining.contrast=0.03", "pretraining.distillation=0.1"),
    ),
    "Point-M2AE, random initialisation": ("point_m2ae_small", None),
    "Point-M2AE": ("point_m2ae_small", ()),
    "I2P-MAE, depth sums": (I2P, TEACHER),
    "I2P-MAE, shaded views": (I2P, (*TEACHER, *SHADED)),
    "I2P-MAE, without guided masking": (I2P, (*TEACHER, "pretraining.guided_mask=false")),
    "I2P-MAE, without 2D semantics": (I2P, (*TEACHER, "pretraining.semantics=0")),
    "I2P-MAE, contrast": (I2P, (*TEACHER, "pretraining.contrast=0.03")),
}
SETS = ("homeobjects", "mechparts", "mechparts-scan")
BUDGET = (
    "optimizer.lr=1e-3", "optimizer.grad_clip=5.0", "trainer.batch_size=128",
    "trainer.precision=bf16-mixed",
)  # fmt: skip


def train(row: str, seed: int, pool: Path, epochs: int, folder: Path) -> Path | None:
    """The run folder of a row and a seed, finished; None without training."""
    model, settings = ROWS[row]
    if settings is None:
        return None
    given = [f"model={model}", f"data.source={pool}", f"trainer.epochs={epochs}", f"seed={seed}"]
    config = load_config(PretrainConfig, [], [*given, *BUDGET, *settings])
    pretrain(config, folder, resume=folder.is_dir())
    return folder


def read_alike(row: str, run: Path | None) -> tuple[str, Path | None]:
    """Model and weights whose features are pooled by mean and maximum, as those of all rows.

    I2P-MAE has the network of Point-M2AE, but its own features are the maximum alone: rows of the
    two would differ in more than what they learn.
    """
    model = ROWS[row][0]
    if model != I2P or run is None:
        return model, run
    file = run / "as_point_m2ae.safetensors"
    if not file.is_file():
        same = create_model("point_m2ae_small")
        same.load_state_dict(create_model(model, checkpoint=run).state_dict())
        save_model(same, file)
    return "point_m2ae_small", file


def accuracy(row: str, run: Path | None, seed: int, data: str, output: Path) -> float:
    """Of a linear SVM on the test split of ``data``."""
    if not (output / "metrics.json").is_file():
        model, weights = read_alike(row, run)
        given = [f"model={model}", f"data.source={data}", f"seed={seed}"]
        given.append(f"checkpoint={weights or 'random'}")
        evaluate_backbone(load_config(SvmConfig, [], given), output=output)
    return json.loads((output / "metrics.json").read_text())["test_accuracy"]


def table(results: dict[str, dict[str, list[float]]], sets: Iterable[str]) -> str:
    """In Markdown: means and standard deviations over seeds."""
    names = [Path(data).stem for data in sets]
    lines = [f"| objective | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for row, found in results.items():
        cells = [
            f"{100 * statistics.mean(values):.1f}"
            + (f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else "")
            for values in found.values()
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is not trained yet, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--pool", type=Path, help="shards to train on; by default made in --output")
    parser.add_argument("--shapes", type=int, default=10_000, help="procedural shapes of the pool")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", action="append", default=[], help="further labelled sets")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    args = parser.parse_args()
    pool = args.pool or args.output / f"pool-{args.shapes}"
    if not args.pool:
        begun = (pool / "shards.json").is_file()
        write_shards("procedural", pool, num_points=1200, procedural=args.shapes, resume=begun)
    clouds = ShardIndex.read(pool).shapes * args.epochs
    sets = (*SETS, *args.data)
    results: dict[str, dict[str, list[float]]] = {}
    for row in args.rows:
        place = args.output / f"{clouds}-clouds" / row.lower().replace(", ", "-").replace(" ", "_")
        results[row] = {Path(data).stem: [] for data in sets}
        for seed in range(args.seeds):
            run = train(row, seed, pool, args.epochs, place / f"seed{seed}")
            for data in sets:
                output = place / f"seed{seed}-{Path(data).stem}"
                results[row][Path(data).stem].append(accuracy(row, run, seed, data, output))
        print(table({row: results[row]}, sets).splitlines()[-1], flush=True)
    found: dict[str, Any] = {"clouds": clouds, "rows": results}
    write_json(args.output / "results.json", found | {"versions": versions()})
    print(f"\n{table(results, sets)}")


if __name__ == "__main__":
    main()
