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
    models = {folder: pp.load_adapter(trunk, folder) for folder in folders}

    held = {
        parameter.untyped_storage().data_ptr(): parameter.untyped_storage().nbytes()
        for model in models.values()
        for parameter in model.parameters()
    }
    one = sum(parameter.nbytes for parameter in trunk.parameters())
    print(f"trunk: {one / 1e6:.1f} MB; all models: {sum(held.values()) / 1e6:.1f} MB")

    for folder, model in models.items():
        transform = pp.InputTransform.from_dict(model.input["transform"])
        cloud = transform.prepare(read_shape(part))[: transform.num_points]
        with torch.no_grad():
            logits = model(torch.from_numpy(cloud)[None])
        print(folder, model.config.method, model.class_names[int(logits.argmax())])
