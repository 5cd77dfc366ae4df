"""Pre-train a backbone on your own shapes without labels, and see what its features are worth.

python examples/pretrain_your_own.py unlabelled labelled runs/own [trainer.epochs=40 ...]
"""

import sys

import pointpeft as pp
from pointpeft.training import SvmConfig, evaluate_backbone

if __name__ == "__main__":
    unlabelled, labelled, output, *overrides = sys.argv[1:]
    values = {"data.source": unlabelled, "model": "point_mae_small"}
    config = pp.load_config(pp.PretrainConfig, values=values, overrides=overrides)
    print("loss:", pp.pretrain(config, output)["loss"])

    settings = {"data.source": labelled, "model": "point_mae_small", "checkpoint": output}
    sizes = [each for each in overrides if each.startswith("backbone.")]
    result, weights = evaluate_backbone(pp.load_config(SvmConfig, values=settings, overrides=sizes))
    print(f"linear SVM on {weights}: {100 * result.accuracy:.1f} %")
