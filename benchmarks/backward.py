"""Backward passes that are written otherwise than PyTorch's shortest form, each beside that form.

    python benchmarks/backward.py [--repeats 7]

Forward and backward pass together on one CPU thread, at the sizes of a pre-training step; the two
forms take turns. Writes ``benchmarks/results/backward-cpu.json``.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from pointpeft.models.layers import attention
from pointpeft.ops import max_pool

RESULTS = Path(__file__).parent / "results"
Form = Callable[[Tensor], Tensor]


def heads(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(B, T, 3, heads, D)`` as queries, keys and values."""
    q, k, v = x.permute(2, 0, 3, 1, 4)
    return q, k, v


POOL: tuple[Form, Form] = (lambda x: max_pool(x, dim=1), lambda x: x.amax(dim=1))
ATTEND: tuple[Form, Form] = (
    lambda x: attention(*heads(x)),
    lambda x: F.scaled_dot_product_attention(*heads(x)),
)
CASES = {
    "maximum of 32 rows, 5120 patches of 192 channels, float32": (
        POOL, (5120, 32, 192), torch.float32,
    ),
    "maximum of 32 rows, 5120 patches of 192 channels, bfloat16": (
        POOL, (5120, 32, 192), torch.bfloat16,
    ),
    "attention, 256 clouds of 20 tokens, 6 heads, bfloat16": (
        ATTEND, (256, 20, 3, 6, 32), torch.bfloat16,
    ),
    "attention, 256 clouds of 48 tokens, 6 heads, bfloat16": (
        ATTEND, (256, 48, 3, 6, 32), torch.bfloat16,
    ),
    "attention, 32 clouds of 129 tokens, 6 heads, bfloat16": (
        ATTEND, (32, 129, 3, 6, 64), torch.bfloat16,
    ),
    "attention, 384 groups of 16 rows, 6 heads of 3 channels, float32": (
        ATTEND, (384, 16, 3, 6, 3), torch.float32,
    ),
}  # fmt: skip


def seconds(form: Form, x: Tensor) -> float:
    """Of a forward and backward pass."""
    start = time.perf_counter()
    y = form(x.detach().requires_grad_())
    y.backward(torch.ones_like(y))
    return time.perf_counter() - start


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    found = {}
    for name, (forms, shape, dtype) in CASES.items():
        x = torch.randn(shape, dtype=dtype)
        times = [[seconds(form, x) for form in forms] for _ in range(repeats + 1)][1:]
        ours, plain = (1e3 * statistics.median(each) for each in zip(*times, strict=True))
        found[name] = {"ms": round(ours, 1), "plain_ms": round(plain, 1)}
        print(f"{name:60}{ours:9.1f} ms, plain {plain:9.1f} ms, {plain / ours:.1f} times")
    about = {"processor": platform.processor() or platform.machine(), "threads": 1,
             "torch": torch.__version__, "repeats": repeats}  # fmt: skip
    (RESULTS / "backward-cpu.json").write_text(json.dumps(about | {"cases": found}, indent=1))


if __name__ == "__main__":
    main()
