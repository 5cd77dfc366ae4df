"""Three adapters on one trunk, which is in memory once.

python examples/three_adapters.py runs/linear runs/idpt runs/stag part.stl
"""

import sys

import torch

import pointpeft as pp
from pointpeft.data import read_shape

if __name__ == "__main__":
    *folders, part = sys.argv[1:]
    trunk = pp.create_model("point_mae_small", pretrained=True)
    model = pp.load_adapter(trunk, folders[0], "adapter-0")
    for number, folder in enumerate(folders[1:], start=1):
        pp.load_adapter(model, folder, f"adapter-{number}")

    one = sum(parameter.nbytes for parameter in trunk.parameters())
    all_together = sum(parameter.nbytes for parameter in model.parameters())
    print(f"trunk: {one / 1e6:.1f} MB; with all adapters: {all_together / 1e6:.1f} MB")

    for number, folder in enumerate(folders):
        model.set_adapter(f"adapter-{number}")
        transform = pp.InputTransform.from_dict(model.input["transform"])
        cloud = transform.prepare(read_shape(part))[: transform.num_points]
        with torch.no_grad():
            logits = model(torch.from_numpy(cloud)[None])
        print(folder, model.config.method, model.class_names[int(logits.argmax())])
