"""What a pre-trained backbone is worth: linear SVMs, and few shots against no pre-training.

All runs that are finished stay, so that the script can be stopped and started again. The weights
are a file or the folder of a run that pre-trains; the name of the row is that of the file.

    python benchmarks/shipped_backbone.py --checkpoint runs/pretrain --output runs/shipped \
        --data mechparts --svm shapes.npz
"""

import argparse
import json
from pathlib import Path

from pointnet import run as run_pointnet

import pointpeft as pp
from pointpeft.files import file_name, write_json
from pointpeft.formats import percent
from pointpeft.measure.backbone_svm import evaluate_backbone
from pointpeft.measure.comparison_rows import Row, as_markdown, judge
from pointpeft.training import FinetuneConfig, SvmConfig, load_config
from pointpeft.training.comparison import compare
from pointpeft.training.grid import Comparison, data_label

RESULTS = Path(__file__).parent / "results/shipped-backbone"
SETS = ("homeobjects", "mechparts", "mechparts-scan")
METHODS = ("svm", "lda", "linear", "point-peft", "full")
Arguments = argparse.Namespace


def svm_accuracy(source: str, args: Arguments) -> float:
    """Test accuracy of a linear SVM on frozen features, of all training shapes."""
    weights = pp.create_model(args.model, checkpoint=args.checkpoint)
    output = args.output / f"svm-{pp.models.state_hash(weights)[:8]}" / data_label(source, None)
    if not (output / "metrics.json").is_file():
        given = [f"model={args.model}", f"checkpoint={args.checkpoint}", f"data.source={source}"]
        evaluate_backbone(load_config(SvmConfig, [], given), output=output)
    return json.loads((output / "metrics.json").read_text())["test_accuracy"]


def few_shots(methods: tuple[str, ...], checkpoint: str, args: Arguments) -> list[Row]:
    """Rows of methods that start from the weights; of "random" ones, from scratch."""
    given = [f"trainer.epochs={args.epochs}", "trainer.precision=bf16-mixed"]
    grid = Comparison(
        load_config(FinetuneConfig, [], given),
        methods=methods, models=(args.model,), checkpoints=(checkpoint,), data=(args.data,),
        shots=(args.shots,), seeds=args.seeds, lr_factors=(1.0, 3.0),
    )  # fmt: skip
    output = args.output / ("scratch" if checkpoint == "random" else "pretrained")
    found = compare(grid, output, resume=output.is_dir(), progress=_say)
    if found["failures"]:
        raise SystemExit(f"{output}: {found['failures'][0]['message']}")
    return found["rows"]


def pointnet(args: Arguments) -> Row:
    """The row of a PointNet from scratch."""
    asked = f"{args.shots}shot-{args.pointnet_epochs}epochs-{args.seeds}seeds"
    file = args.output / f"pointnet-{data_label(args.data, None)}-{asked}.json"
    if not file.is_file():
        row = run_pointnet(args.data, args.shots, args.pointnet_epochs, args.seeds)
        write_json(file, row)
    return json.loads(file.read_text())


def _say(ended: str, done: int, total: int) -> None:
    print(f"{done}/{total} {ended}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="weights, or the folder of a run")
    parser.add_argument("--model", default="point_mae_small")
    parser.add_argument("--output", type=Path, default=Path("runs/shipped"), help="of all runs")
    parser.add_argument("--svm", action="append", default=[], help="a further set for linear SVMs")
    parser.add_argument("--data", default="mechparts", help="the set with few shots")
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--pointnet-epochs", type=int, default=100)
    args = parser.parse_args()
    svm = {data_label(s, None): svm_accuracy(s, args) for s in (*SETS, *args.svm)}
    rows = few_shots(METHODS, args.checkpoint, args)
    rows += [*few_shots(("full",), "random", args), pointnet(args)]
    name = f"{file_name(Path(args.checkpoint).stem)}-{data_label(args.data, None)}-{args.shots}shot"
    write_json(RESULTS / f"{name}.json", {"linear_svm": svm, "rows": judge(rows)})
    lines = [f"| {data} | {percent(accuracy)} |" for data, accuracy in svm.items()]
    print("\n".join(["| linear SVM on | test accuracy |", "|---|---|", *lines]))
    print(f"\n{as_markdown(judge(rows))}")


if __name__ == "__main__":
    main()
