"""A method on a model in a training loop of your own.

python examples/own_loop.py my_shapes my_adapter [epochs]
"""

import sys

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import pointpeft as pp

if __name__ == "__main__":
    source, folder, epochs = sys.argv[1], sys.argv[2], int((sys.argv[3:] or ["20"])[0])
    torch.manual_seed(0)
    data = pp.load_shapes(source, pp.InputTransform(num_points=1024))
    points, labels = torch.from_numpy(data.train.points), torch.from_numpy(data.train.labels)
    loader = DataLoader(TensorDataset(points, labels), batch_size=8, shuffle=True, drop_last=True)

    model = pp.create_model("point_mae_small", num_classes=len(data.class_names), pretrained=True)
    model = pp.get_peft_model(model, pp.STAGConfig())
    model.print_trainable_parameters()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-3, weight_decay=0.05)

    for epoch in range(1, epochs + 1):
        model.train()
        for clouds, answers in loader:
            loss = F.cross_entropy(model(clouds), answers)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")

    model.save_pretrained(folder, data.class_names, data.transform)
    print("saved", folder)
