"""Point-PEFT against linear probing and full fine-tuning, and without each of its parts.

    python benchmarks/ablation.py homeobjects --epochs 20 --output runs/ablation

Every row has the same epochs, its learning rate is chosen on the validation split with the first
seed, and its checkpoints too; the test split is measured once per seed. Results go to
`benchmarks/results/ablation-<data>-<epochs>.json`. Finished runs are not repeated.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
RATES = ("5e-4", "2e-3", "8e-3")
OFF = "peft.{}=false".format
ROWS: dict[str, tuple[str, ...]] = {
    "linear probing": ("method=linear",),
    "full fine-tuning": ("method=full",),
    "Point-PEFT": ("method=point-peft",),
    "own item left out": ("method=point-peft", "peft.exclude_self=true"),
    "without bank": ("method=point-peft", OFF("use_bank")),
    "without prompt": ("method=point-peft", OFF("use_prompt")),
    "without adapter": ("method=point-peft", OFF("use_adapter")),
    "biases only": ("method=point-peft", *map(OFF, ("use_bank", "use_prompt", "use_adapter"))),
}


def run(row: str, rate: str, seed: int, settings: argparse.Namespace) -> dict[str, Any]:
    """Metrics of a `pointpeft finetune` in a process of one thread; it goes on if interrupted."""
    name = f"{row.lower().replace(' ', '-')}-{rate}-{seed}"
    folder = settings.output / f"{Path(settings.data).stem}-{settings.epochs}" / name
    command = [
        sys.executable, "-m", "pointpeft", "finetune", *ROWS[row], f"data.source={settings.data}",
        f"optimizer.lr={rate}", f"trainer.epochs={settings.epochs}", f"seed={seed}",
        f"--output={folder}", *(["--resume"] if (folder / "config.yaml").is_file() else []),
    ]  # fmt: skip
    if not (folder / "metrics.json").is_file():
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
        if done.returncode:
            raise SystemExit(done.stderr.strip().splitlines()[-1])
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    print(f"{row:18} lr {rate} seed {seed}: val {metrics['val_accuracy']:.1%}", flush=True)
    return metrics


def summary(runs: list[dict[str, Any]], rate: str, validation: dict[str, float]) -> dict[str, Any]:
    """Mean and spread of the seeds."""
    test, val = ([run[f"{part}_accuracy"] for run in runs] for part in ("test", "val"))
    return {
        "learning_rate": float(rate),
        "validation_by_rate": validation,  # of the first seed
        "trainable_parameters": runs[0]["trainable_parameters"],
        "test_accuracy": test,
        "test_mean": float(np.mean(test)),
        "test_std": float(np.std(test, ddof=1)) if len(test) > 1 else None,
        "val_accuracy": val,
        "val_mean": float(np.mean(val)),
        "seconds_per_epoch": float(np.median([run["seconds_per_epoch"] for run in runs])),
        "versions": runs[0]["versions"],
    }


def main() -> None:
    """Choose rates, run seeds, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--rates", nargs="*", default=list(RATES))
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    arguments = parser.parse_args()
    with ThreadPoolExecutor(arguments.jobs) as pool:

        def run_all(cells: list[tuple[str, str, int]]) -> dict[tuple[str, str, int], Any]:
            metrics = pool.map(lambda cell: run(cell[0], cell[1], cell[2], arguments), cells)
            return dict(zip(cells, metrics, strict=True))

        runs = run_all([(row, rate, 0) for row in arguments.rows for rate in arguments.rates])
        chosen = {
            row: max(arguments.rates, key=lambda rate: runs[row, rate, 0]["val_accuracy"])
            for row in arguments.rows
        }
        runs |= run_all(
            [(row, chosen[row], s) for row in arguments.rows for s in range(arguments.seeds)]
        )
    table = {
        row: summary(
            [runs[row, chosen[row], seed] for seed in range(arguments.seeds)],
            chosen[row],
            {rate: runs[row, rate, 0]["val_accuracy"] for rate in arguments.rates},
        )
        for row in arguments.rows
    }
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"ablation-{Path(arguments.data).stem}-{arguments.epochs}.json"
    if file.is_file():  # rows that were measured before stay
        old = json.loads(file.read_text(encoding="utf-8"))
        if old["seeds"] != arguments.seeds:
            raise SystemExit(f"{file} has rows of {old['seeds']} seeds; move it away")
        table = {**old["rows"], **table}
    result = {
        "data": Path(arguments.data).stem,
        "epochs": arguments.epochs,
        "seeds": arguments.seeds,
        "rows": table,
    }
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for row, values in table.items():
        print(
            f"| {row} | {values['trainable_parameters']:,} | {values['test_mean']:.1%} "
            f"+- {values['test_std'] or 0:.1%} | {values['val_mean']:.1%} |"
        )


if __name__ == "__main__":
    main()
