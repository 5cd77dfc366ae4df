"""Reading parity cases and comparing with them; accepts both field layouts of the folder."""

import ast
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


#: Fields that explain a case to a reader, or repeat what stands elsewhere in it.
REMARKS = {
    "case", "model", "reference", "estimator", "notes", "note", "mode", "outputs", "scalars_about",
    "arrays", "views", "gumbel", "float64_check", "float64_max_abs_diff_and_scale", "repeatable",
    "grad_rel_noise_worst", "hf_max_abs_diff", "interp_float64_diff", "effect_of_quirk",
    "knn_smallest_gap_between_sorted_squared_distances", "pixels_that_differ_in_float64_per_view",
    "radius_margin_min_abs_dist_minus_radius", "padded_tokens_per_scale", "loss_with_radius_zero",
    "fps_skip_matters", "fps_skip_matters_small_prompt",
}  # fmt: skip


class Fields(dict):
    """A mapping that knows which of its keys were looked up, and those of mappings in it."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__({k: Fields(v) if isinstance(v, dict) else v for k, v in content.items()})
        self.seen: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.seen.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.seen.add(key)
        return super().get(key, default)

    def pop_all(self) -> dict[str, Any]:
        """All of it, as something that is used as a whole."""
        self.seen.update(self)
        return {k: v.pop_all() if isinstance(v, Fields) else v for k, v in self.items()}

    def without_effect(self, *keys: str) -> None:
        """Note keys that published code does not read for the network of the case."""
        for key in keys:
            if isinstance(value := self.get(key), Fields):
                value.pop_all()

    def unread(self, path: str = "") -> list[str]:
        """Keys that no one looked up."""
        keys = [f"{path}{key}" for key in self if key not in self.seen]
        inner = ((key, value) for key, value in self.items() if key in self.seen)
        for key, value in inner:
            keys += value.unread(f"{path}{key}.") if isinstance(value, Fields) else []
        return keys


@dataclass(frozen=True)
class Case:
    """One parity case: its JSON, its arrays, and the recipe that fills weights and clouds."""

    path: Path

    @cached_property
    def data(self) -> Fields:
        return Fields(json.loads(self.path.read_text()))

    def check_read(self) -> None:
        """Fail unless all that the case states was looked at."""
        unread = [name for name in self.data.unread() if name.split(".")[0] not in REMARKS]
        assert not unread, f"fields of {self.name} that nothing was compared with: {unread}"
        stored = self.data.get("arrays")
        if stored is not None:
            assert set(stored.pop_all()) == set(self.arrays)

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

    def check_accuracy(self, logits: torch.Tensor, label: torch.Tensor) -> None:
        """Compare the share of right answers in percent, where it is stated."""
        if "acc" in self.data["scalars"]:
            right = 100 * (logits.argmax(1) == label).float().mean()
            assert abs(right.item() - self.data["scalars"]["acc"]) < 1e-4

    def check_count(self, model: nn.Module, idle: tuple[str, ...] = ()) -> None:
        """Compare numbers of parameters, where they are stated.

        ``idle`` begins names that published code trains without a gradient, and ours freezes.
        """
        counts = self.data.get("parameters") or self.data.get("params") or Fields({})
        found = {
            "total": sum(p.numel() for p in model.parameters()),
            "trainable": sum(
                p.numel()
                for n, p in model.named_parameters()
                if p.requires_grad or n.startswith(idle)
            ),
            "without_head": sum(
                p.numel() for n, p in model.named_parameters() if not n.startswith("head.")
            ),
        }
        for key, count in counts.pop_all().items():
            assert found[key] == count, key

    def weights(self) -> dict[str, torch.Tensor]:
        self.data["inputs"].get("weights")  # says what the next line does
        state = self.recipe.state_dict(self.data["manifest"].pop_all(), self.data["seed"])
        return {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}

    def cloud(self) -> torch.Tensor:
        c = self.data["inputs"]["cloud"]
        return torch.from_numpy(self.recipe.cloud(c["batch"], c["points"], c["seed"]))

    def made(self, key: str, followed: bool = False) -> np.ndarray:
        """An input described as ``recipe.cloud(...)`` or ``recipe.tensor(...)`` in the JSON.

        What is done to it afterwards, ``* float32(0.45)``, is done; a remark that is not known
        fails the case, unless the caller follows the rest of the text (``followed``).
        """
        text, seed = self.data["inputs"][key], self.data["seed"]
        find = re.search if followed else re.match
        call = find(r"recipe\.(cloud|tensor)\(((?:[^()]|\([^()]*\))*)\)", text)
        assert call, f"{self.name}: cannot make the input {key!r} from {text!r}"
        arguments = ast.literal_eval("(" + re.sub(r"\bseed\b", str(seed), call[2]) + ",)")
        values = getattr(self.recipe, call[1])(*arguments)
        rest = "" if followed else text[call.end() :]
        while step := re.match(r"\s*([-+*/])\s*(?:float32\()?([\d.]+)\)?(?:\s*\(float32\))?", rest):
            values = OPERATIONS[step[1]](values, np.float32(step[2]))
            rest = rest[step.end() :]
        assert rest.strip(" ,.;") in SAID, f"{self.name}: input {key!r} is also {rest!r}"
        return values

    def stored(self, *keys: str) -> None:
        """Inputs that stand in the arrays, or are explained in words that the code follows."""
        for key in keys:
            assert isinstance(self.data["inputs"].get(key, ""), str)


OPERATIONS = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}
#: What is said of inputs behind how they are made, and done by who uses them.
SAID = {
    "", "as it is", "given to the model as (B, 3, N)", "divided by its column L2 norms",
    "every column divided by its float64 L2 norm (norm cast to float32); not part of the state "
    "dict", "each column divided by its L2 norm; queue_ptr = 0",
}  # fmt: skip


def load_weights(model: nn.Module, case: Case, layout: Any) -> None:
    """Fill a model in eval mode from the case's manifest, strictly, and check the way back."""
    weights = case.weights()
    model.load_state_dict(layout.ours(weights), strict=True)
    back = layout.theirs(model.state_dict())
    shapes = {name: list(tensor.shape) for name, tensor in back.items()}
    assert shapes == case.data["manifest"].pop_all()
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
    model: nn.Module,
    case: Case,
    layout: Any,
    loose: dict[str, float] | None = None,
    norms_of: Fields | None = None,
    floor: float = 1e-6,
) -> None:
    """Compare gradient norms of every parameter, by published name, and which have none.

    Differences below the largest norm times ``floor`` are rounding.
    """
    gradients = {
        name: parameter.grad if parameter.grad is not None else parameter.new_zeros(0)
        for name, parameter in model.named_parameters()
    }
    norms = {name: float(g.norm()) for name, g in layout.theirs(gradients).items() if g.numel()}
    stated = (norms_of or case.data["grad_norms"]).pop_all()
    expected = {k: v for k, v in stated.items() if v is not None}
    without = case.data.get("parameters_without_gradient", [])
    assert not expected.keys() & set(without)
    assert all(norms.get(name, 0.0) == 0 for name in without)
    assert set(expected) <= set(norms)
    largest = max(expected.values())
    for name, norm in norms.items():
        tolerance = (loose or {}).get(name, GRADIENT_TOLERANCE)
        reference = expected.get(name, 0.0)
        assert abs(norm - reference) <= tolerance * reference + floor * largest, (
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
