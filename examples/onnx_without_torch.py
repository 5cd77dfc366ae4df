"""Classify points with an exported file: NumPy and onnxruntime, no torch and no pointpeft.

pointpeft export runs/my_run --output model.onnx
python examples/onnx_without_torch.py model.onnx scan.xyz
"""

import json
import sys

import numpy as np
import onnxruntime


def read_input_rules(session):
    """What the file says of the points that it takes, and its class names."""
    said = session.get_modelmeta().custom_metadata_map
    return json.loads(said["input"]), json.loads(said["class_names"])


def upright(points, axis):
    """Points (N, 3) turned so that the axis of the file that points up becomes y."""
    x, y, z = points.T
    return {"x": np.stack([-y, x, z], 1), "y": points, "z": np.stack([x, z, -y], 1)}[axis]


def farthest_points(points, count):
    """An even choice of the points, (count, 3); repeated where there are fewer."""
    chosen, nearest = [0], np.full(len(points), np.inf)
    while len(chosen) < min(count, len(points)):
        nearest = np.minimum(nearest, np.square(points - points[chosen[-1]]).sum(1))
        chosen.append(int(nearest.argmax()))
    return points[np.resize(chosen, count)]


def prepare(points, rules, seed=0):
    """A cloud (M, 3) as it was prepared for training: (1, N, 3) float32."""
    most = 2 * rules["num_points"]
    if len(points) > most:
        points = points[np.random.default_rng(seed).choice(len(points), most, replace=False)]
    points = upright(points, rules["up_axis"])
    if rules["normalize"] == "unit_ball":
        points = points - points.mean(0)
        points = points / np.linalg.norm(points, axis=1).max()
    return farthest_points(points, rules["num_points"])[None].astype(np.float32)


def main(model, cloud):
    """Print the classes of a cloud, the most probable first."""
    session = onnxruntime.InferenceSession(model)
    rules, names = read_input_rules(session)
    points = prepare(np.loadtxt(cloud, usecols=(0, 1, 2)), rules)
    (probabilities,) = session.run(["probabilities"], {"points": points})
    for place in (-probabilities[0]).argsort():
        print(f"{names[place]}: {probabilities[0, place]:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
