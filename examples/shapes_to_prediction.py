"""From your labelled shapes to a prediction for a new one.

python examples/shapes_to_prediction.py my_shapes runs/example new_part.stl [trainer.epochs=30 ...]
"""

import sys

import pointpeft as pp

if __name__ == "__main__":
    shapes, output, part, *overrides = sys.argv[1:]
    values = {"data.source": shapes, "method": "point-peft"}
    config = pp.load_config(pp.FinetuneConfig, values=values, overrides=overrides)

    metrics = pp.finetune(config, output)
    print("test accuracy:", metrics["test_accuracy"])

    for found in pp.Predictor(output).predict([part]):
        print(found.file, found.label, found.probability)
