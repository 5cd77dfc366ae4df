"""Reading parity cases and comparing with them; accepts both field layouts of the folder."""

import importlib.util
import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

DEFAULT = Path(__file__).resolve().parents[2].parent / "shared" / "parity"
ARRAY_TOLERANCE = 1e-4  # relative L2, and elementwise against the largest value
LOSS_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3


def folder() -> Path:
    return Path(os.environ.get("POINTPEFT_PARITY", DEFAULT))


@dataclass(frozen=True)
class Case:
    """One parity case: its JSON, its arrays, and the recipe that fills weights and clouds."""

    path: Path

    @cached_property
    def data(self) -> dict[str, Any]:
        return json.loads(self.path.read_text())

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.path.with_suffix(".npz")) as file:
            return {name: file[name] for name in file.files}

    @cached_property
    def recipe(self) -> Any:
        spec = importlib.util.spec_from_file_location("recipe", self.path.parent / "recipe.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @property
    def name(self) -> str:
        return self.data["case"]

    @property
    def loss(self) -> float:
        return self.data["scalars"]["loss"] if "scalars" in self.data else self.data["loss"]

    def weights(self) -> dict[str, torch.Tensor]:
        state = self.recipe.state_dict(self.data["manifest"], self.data["seed"])
        return {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}

    def cloud(self) -> torch.Tensor:
        c = self.data["inputs"]["cloud"]
        return torch.from_numpy(self.recipe.cloud(c["batch"], c["points"], c["seed"]))

    def made(self, key: str) -> np.ndarray:
        """An input described as ``recipe.cloud(...)`` or ``recipe.tensor(...)`` in the JSON."""
        text, seed = self.data["inputs"][key], self.data["seed"]
        if match := re.search(r"recipe\.cloud\((\d+), (\d+), (\d+)\)", text):
            return self.recipe.cloud(*map(int, match.groups()))
        match = re.search(r"recipe\.tensor\(['\"](\w+)['\"], \(([\d, ]+)\), (\d+|seed)\)", text)
        shape = tuple(int(size) for size in match[2].split(","))
        return self.recipe.tensor(match[1], shape, seed if match[3] == "seed" else int(match[3]))


def load_weights(model: nn.Module, case: Case, layout: Any) -> None:
    """Fill a model in eval mode from the case's manifest, strictly, and check the way back."""
    weights = case.weights()
    model.load_state_dict(layout.from_published(weights), strict=True)
    back = layout.to_published(model.state_dict())
    assert {name: list(tensor.shape) for name, tensor in back.items()} == case.data["manifest"]
    model.eval()


def assert_loss(actual: torch.Tensor, expected: float) -> None:
    assert abs(actual.item() / expected - 1) <= LOSS_TOLERANCE, (actual.item(), expected)


def part_loss(log_probs: torch.Tensor, case: Case) -> torch.Tensor:
    """Negative log likelihood of the parts of the case's points, as published."""
    labels = torch.from_numpy(case.arrays["label"]).long()
    return F.nll_loss(log_probs.flatten(0, 1), labels.flatten())


def assert_array(actual: torch.Tensor, expected: np.ndarray, name: str) -> None:
    """Compare after the striding that the stored shape implies; integers must be equal."""
    actual = actual.detach()
    strides = [-(-n // m) for n, m in zip(actual.shape, expected.shape, strict=True)]
    actual = actual[tuple(slice(None, None, s) for s in strides)].numpy()
    assert actual.shape == expected.shape, name
    if expected.dtype.kind in "iub":
        np.testing.assert_array_equal(actual, expected, err_msg=name)
        return
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        actual, expected, rtol=ARRAY_TOLERANCE, atol=ARRAY_TOLERANCE * scale, err_msg=name
    )
    relative = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
    assert relative <= ARRAY_TOLERANCE, (name, relative)


def assert_gradients(
    model: nn.Module, case: Case, layout: Any, loose: dict[str, float] | None = None
) -> None:
    """Compare gradient norms of every parameter, by published name, and which have none."""
    gradients = {
        name: parameter.grad if parameter.grad is not None else parameter.new_zeros(0)
        for name, parameter in model.named_parameters()
    }
    norms = {
        name: float(g.norm()) for name, g in layout.to_published(gradients).items() if g.numel()
    }
    expected = {k: v for k, v in case.data["grad_norms"].items() if v is not None}
    assert set(expected) <= set(norms)
    largest = max(expected.values())
    for name, norm in norms.items():
        tolerance = (loose or {}).get(name, GRADIENT_TOLERANCE)
        reference = expected.get(name, 0.0)
        assert abs(norm - reference) <= tolerance * reference + 1e-6 * largest, (
            name, norm, reference,
        )  # fmt: skip


class Taps:
    """Outputs of sub-modules, by name, during the first forward pass since :meth:`clear`."""

    def __init__(self, model: nn.Module, **modules: str) -> None:
        self.seen: dict[str, torch.Tensor] = {}
        for key, path in modules.items():
            model.get_submodule(path).register_forward_hook(self._keep(key))

    def _keep(self, key: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self.seen.setdefault(key, output[0] if isinstance(output, tuple) else output)

        return hook

    def __getitem__(self, key: str) -> torch.Tensor:
        return self.seen[key]

    def clear(self) -> None:
        self.seen.clear()
