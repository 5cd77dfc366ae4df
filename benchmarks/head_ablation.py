"""What each part of a head that begins as ``lda`` is worth: one is left out at a time.

LoRA is trained with it, in as many epochs and with the same seeds each time.

    python benchmarks/head_ablation.py --output benchmarks/results/head_ablation-cpu.json
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest.mock import patch

import pointpeft as pp
from pointpeft.files import write_json
from pointpeft.measure.records import versions
from pointpeft.training import fitting, run
from pointpeft.training.finetuning import finetune

USUAL_RATE = {"optimizer.head_lr_factor": 100.0}
"""That of what is trained beside the head: it has a hundredth of it by itself."""


PARTS: dict[str, tuple[dict[str, float], Callable[[], AbstractContextManager[object]]]] = {
    "nothing": ({}, nullcontext),
    "temperature": ({}, lambda: patch.object(fitting, "fit_temperature", lambda *_: 1.0)),
    "three of four samplings": ({}, lambda: patch.object(fitting, "_DRAWS", 1)),
    "the small rate": (USUAL_RATE, nullcontext),
    "the rule": (USUAL_RATE, lambda: patch.object(run, "begin_head", lambda *_: 0.0)),
}
"""Settings, and what is changed in the code, where a part is left out."""


def measure(part: str, data: str, epochs: int, seed: int) -> float:
    """Test accuracy of LoRA."""
    settings, changed = PARTS[part]
    given = {
        "data.source": data, "method": "lora", "peft.head": "lda", "trainer.epochs": epochs,
        "trainer.precision": "bf16-mixed", "seed": seed,
    }  # fmt: skip
    config = pp.load_config(pp.FinetuneConfig, values=given | settings)
    with tempfile.TemporaryDirectory() as folder, changed():
        return float(finetune(config, Path(folder) / "run", report=False)["test_accuracy"])


def main() -> None:
    """Measure, and write what was found after every training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--data", default="mechparts-scan")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    found: dict[str, list[float]] = {part: [] for part in PARTS}
    for seed in range(arguments.seeds):
        for part in PARTS:
            found[part].append(measure(part, arguments.data, arguments.epochs, seed))
            print(part, seed, found[part][-1], flush=True)
            if arguments.output:
                content = {
                    "method": "lora,head=lda", "data": arguments.data, "epochs": arguments.epochs,
                    "test accuracy of seeds without": found, "versions": versions(),
                }  # fmt: skip
                write_json(arguments.output, content)
    for part, scores in found.items():
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        print(f"without {part}: {100 * statistics.mean(scores):.1f} +- {100 * spread:.1f} %")


if __name__ == "__main__":
    main()
