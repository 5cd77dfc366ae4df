"""Time, multiply-adds and stored bytes of a training step of every method, on published Point-MAE.

All methods run in one process and take turns, so that whatever else the machine does falls on all
of them alike; seconds are medians. Multiply-adds are those of matrix products, forward and
backward, of one cloud. Stored are the tensors that the backward pass is waiting for, of one cloud,
without parameters. Run it on an idle machine.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import pointpeft as pp
from pointpeft.files import write_json
from pointpeft.measure.records import versions
from pointpeft.peft.hugging_face import DoRAConfig, IA3Config, LoRAConfig, VeRAConfig

BATCH, POINTS, CLASSES, BANK = 8, 2048, 15, 11392
METHODS: dict[str, Callable[[], pp.PeftConfig]] = {
    "full": pp.FullConfig,
    "linear": pp.LinearConfig,
    "point-peft": pp.PointPeftConfig,
    "point-peft, query given": pp.PointPeftConfig,
    "idpt": pp.IDPTConfig,
    "stag": pp.STAGConfig,
    "stag-sl": lambda: pp.STAGConfig(run_length=3, first_block=3),
    "dapt": pp.DAPTConfig,
    "pointgst": pp.PointGSTConfig,
    "ppt": pp.PPTConfig,
    "bitfit": pp.BitFitConfig,
    "norm": pp.NormConfig,
    "vpt-deep": pp.VPTDeepConfig,
    "adapter": pp.AdapterConfig,
    "lora": LoRAConfig,
    "lora, head=lda": lambda: LoRAConfig(head="lda"),
    "adapter, serial": lambda: pp.AdapterConfig(form="serial"),
    "vpt-shallow": pp.VPTShallowConfig,
    "dora": DoRAConfig,
    "ia3": IA3Config,
    "vera": VeRAConfig,
    "linear, features known": pp.LinearConfig,
    "stag, blocks known": pp.STAGConfig,
}


class Step:
    """Training steps of one method on the same clouds."""

    def __init__(self, method: str) -> None:
        torch.manual_seed(0)
        model = pp.create_model("point_mae", preset="scanobjectnn", num_classes=CLASSES)
        bank = pp.MemoryBank(torch.randn(384, BANK)) if method.startswith("point-peft") else None
        self.model = pp.get_peft_model(model, METHODS[method](), bank).train()
        self.points = F.normalize(torch.randn(BATCH, POINTS, 3), dim=-1)
        self.labels = torch.arange(BATCH) % CLASSES
        self.given: dict[str, Any] = {}
        if method.endswith("given"):
            self.given = {"query": torch.randn(BATCH, 384)}
        if method.endswith("known"):  # as in later epochs without augmentation
            with torch.no_grad():
                self.given = self.model.tuner.constants(self.model.model, self.points)

    def loss(self) -> Tensor:
        """The forward pass."""
        return F.cross_entropy(self.model(**{"points": self.points, **self.given}), self.labels)

    def seconds(self) -> tuple[float, float]:
        """Of the forward and the backward pass."""
        start = time.perf_counter()
        loss = self.loss()
        middle = time.perf_counter()
        loss.backward()
        end = time.perf_counter()
        self.model.zero_grad(set_to_none=True)
        return middle - start, end - middle

    def counts(self) -> dict[str, float]:
        """Multiply-adds (1e9) and stored bytes (MiB) of one cloud."""
        # Products inside fused attention would not be counted.
        with sdpa_kernel(SDPBackend.MATH):
            with FlopCounterMode(display=False) as forward:
                loss = self.loss()
            with FlopCounterMode(display=False) as backward:
                loss.backward()
        self.model.zero_grad(set_to_none=True)
        parameters = {p.untyped_storage().data_ptr() for p in self.model.parameters()}
        stored: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                stored[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = self.loss()  # held until all is counted, so that no storage is used twice
        return {
            "forward_G": forward.get_total_flops() / 2e9 / BATCH,
            "backward_G": backward.get_total_flops() / 2e9 / BATCH,
            "stored_MiB": sum(stored.values()) / 2**20 / BATCH,
        }


def main() -> None:
    """Run every method, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    steps = {method: Step(method) for method in METHODS}
    times: dict[str, list[tuple[float, float]]] = {method: [] for method in METHODS}
    for number in range(args.steps + 1):
        for method, step in steps.items():
            taken = step.seconds()
            if number:  # the first one warms up
                times[method].append(taken)
    results: dict[str, dict[str, Any]] = {}
    for method, step in steps.items():
        forward, backward = (statistics.median(part) for part in zip(*times[method], strict=True))
        seconds = statistics.median(map(sum, times[method]))
        results[method] = {"seconds": seconds, "forward": forward, "backward": backward}
        results[method] |= step.counts()
    for method, result in results.items():
        result["of_full"] = result["seconds"] / results["full"]["seconds"]
        print(
            f"{method:24} {result['seconds']:.2f} s, {result['of_full']:.2f} of full; "
            f"{result['forward_G']:.2f} / {result['backward_G']:.2f} G multiply-adds, "
            f"{result['stored_MiB']:.1f} MiB a cloud"
        )
    setting = {"batch": BATCH, "points": POINTS, "bank": BANK, "steps": args.steps}
    write_json(
        Path(__file__).parent / "results" / "training_step-cpu.json",
        {
            "setting": setting | {"threads": args.threads},
            "results": results,
            "versions": versions(),
        },
    )


if __name__ == "__main__":
    main()
