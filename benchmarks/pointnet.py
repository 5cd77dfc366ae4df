"""A baseline without pre-training: a plain PointNet, trained from scratch on a data set's classes.

Qi et al., CVPR 2017, arXiv 1612.00593, without the learned alignments: a shared MLP of 64, 128 and
1,024 channels, the maximum over points, and a head. Augmentation, splits and shots are those of
`pointpeft finetune` and `pointpeft compare`, the epoch is chosen on the validation split, and the
row that is written stands in one table with rows of `pointpeft compare`.

    python benchmarks/pointnet.py --data homeobjects --shots 10 --seeds 3
"""

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.data import ShapeData, ShapeSplit
from pointpeft.data.shots import take_shots
from pointpeft.data.transforms import recipe
from pointpeft.files import file_name, write_json
from pointpeft.formats import mean_and_spread
from pointpeft.measure.comparison_rows import Row, make_row
from pointpeft.measure.records import peak_memory_bytes, versions
from pointpeft.models.heads import classification_head
from pointpeft.training.cells import digest_of_test
from pointpeft.training.config import DataConfig
from pointpeft.training.grid import data_label
from pointpeft.training.inputs import load_data

NUM_POINTS = 1024
BATCH = 32
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-4
WIDTHS = (64, 128, 1024)
Clouds = Callable[[Tensor], Tensor]


class PointNet(nn.Module):
    """Clouds ``(B, N, 3)`` to logits ``(B, classes)``."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv1d(before, width, 1), nn.BatchNorm1d(width), nn.ReLU()]
        self.points = nn.Sequential(*layers)
        self.head = classification_head(WIDTHS[-1], num_classes)

    def forward(self, clouds: Tensor) -> Tensor:
        with torch.autocast(clouds.device.type, torch.bfloat16):
            features, _ = self.points(clouds.mT).max(dim=2)  # `amax` takes longer backward
            return self.head(features).float()


def train(data: ShapeData, epochs: int, seed: int) -> tuple[PointNet, float]:
    """The network after the epoch that validates best, and its accuracy there."""
    torch.manual_seed(seed)
    model, augment = PointNet(len(data.class_names)), recipe(None, NUM_POINTS)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    points, labels = torch.from_numpy(data.train.points), torch.from_numpy(data.train.labels)
    best, kept = (-1.0, 0.0), model.state_dict()
    for _ in range(epochs):
        model.train()
        for rows in torch.randperm(len(points)).split(BATCH):
            if len(rows) > 1:  # a BatchNorm cannot train on one cloud
                optimizer.zero_grad()
                F.cross_entropy(model(augment(points[rows])), labels[rows]).backward()
                optimizer.step()
        schedule.step()
        reached = validate(model, data.val)
        if reached > best:
            best, kept = reached, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return model, best[0]


@torch.no_grad()
def predict(model: PointNet, split: ShapeSplit) -> Tensor:
    """Logits of the first points of each cloud, ``(S, classes)``."""
    clouds = torch.from_numpy(split.points)[:, :NUM_POINTS]
    return torch.cat([model.eval()(batch) for batch in clouds.split(4 * BATCH)])


def validate(model: PointNet, split: ShapeSplit) -> tuple[float, float]:
    """Accuracy, and of equal ones minus the loss."""
    logits, labels = predict(model, split), torch.from_numpy(split.labels)
    right = (logits.argmax(dim=1) == labels).float().mean()
    return right.item(), -F.cross_entropy(logits, labels).item()


def measure(data: ShapeData, epochs: int, seed: int) -> dict[str, Any]:
    """What a run of `pointpeft compare` measures, of one seed."""
    start = time.perf_counter()
    model, val_accuracy = train(data, epochs, seed)
    seconds = time.perf_counter() - start
    right = predict(model, data.test).argmax(dim=1).numpy() == data.test.labels
    return {
        "data_title": data.title,
        "task": "classification",
        "weights": "none",
        "seed": seed,
        "test_accuracy": float(right.mean()),
        "val_accuracy": val_accuracy,
        "trainable_parameters": sum(p.numel() for p in model.parameters()),
        "stored_bytes": sum(t.nbytes for t in model.state_dict().values()),
        "epochs": epochs,
        "seconds_per_epoch": seconds / epochs,
        "peak_memory_bytes": peak_memory_bytes(),
        "train_items": len(data.train),
        "test_items": len(data.test),
        "versions": versions(),
        "test_shapes": digest_of_test(data),
        "test_scores": right.astype(float).tolist(),
    }


def run(source: str, shots: int | None, epochs: int, seeds: int) -> Row:
    """The row of a data set."""
    data, cells = load_data(DataConfig(source=source), NUM_POINTS), []
    if not len(data.val) or not len(data.test):
        raise SystemExit(f"{source} has no validation or no test split")
    for seed in range(seeds):
        train = data.train
        if shots is not None:
            train = take_shots(train, shots, seed, data.class_names)
        cells.append(measure(replace(data, train=train), epochs, seed))
        print(f"{source}, seed {seed}: {cells[-1]['test_accuracy']:.1%}", flush=True)
    labels = {"data": data_label(source, None), "model": "pointnet-random", "method": "full"}
    trained = {"lr": LEARNING_RATE, "lr_search": {}, "precision": "bf16-mixed"}
    return make_row({**labels, "shots": shots, **trained}, cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="as for `pointpeft finetune`")
    parser.add_argument("--shots", type=int, help="training shapes of each class; default: all")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("runs/pointnet"), help="folder of rows")
    args = parser.parse_args()
    row = run(args.data, args.shots, args.epochs, args.seeds)
    shots = "all" if args.shots is None else f"{args.shots}shot"
    file = args.output / f"{file_name(row['data'])}-pointnet-random-full-{shots}.json"
    write_json(file, row)
    print(f"{mean_and_spread(row['test_score'], row['test_score_std'])}: {file}")


if __name__ == "__main__":
    main()
