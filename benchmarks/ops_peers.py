"""Times of the point operations beside those of other libraries, on a CPU.

    python benchmarks/ops_peers.py [--repeats 25] [--threads 1]

Peers that are not installed are left out: SciPy is always there; pynanoflann, pykdtree, fpsample
and torch-quickfps come from PyPI. Ours and the peers take turns, so that other work on the machine
slows all of them, and medians are compared. Peers do less: none of the trees has a rule for equal
distances, and fpsample and torch-quickfps break ties in the order of their own tree.

Writes ``benchmarks/results/ops-peers-cpu.json``.
"""

import argparse
import importlib.util
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ops import RESULTS, cloud, processor
from scipy.spatial import cKDTree
from torch import Tensor

from pointpeft.ops import (
    chamfer_distance,
    farthest_point_sample,
    gather_points,
    knn,
    three_interpolate,
)

Call = Callable[[], Any]
Search = Callable[[NDArray, NDArray, int], NDArray]
"""Query ``(Q, 3)``, points ``(N, 3)``, k -> indices ``(Q, k)``."""


def search_scipy(query: NDArray, points: NDArray, k: int) -> NDArray:
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    return np.asarray(tree.query(query, np.arange(1, k + 1))[1])


def search_nanoflann(query: NDArray, points: NDArray, k: int) -> NDArray:
    import pynanoflann

    tree = pynanoflann.KDTree(n_neighbors=k, metric="L2", leaf_size=32)
    tree.fit(points)
    return np.asarray(tree.kneighbors(query)[1])


def search_pykdtree(query: NDArray, points: NDArray, k: int) -> NDArray:
    from pykdtree.kdtree import KDTree

    return np.asarray(KDTree(points).query(query, k)[1]).reshape(len(query), k)


def trees() -> dict[str, Search]:
    """The trees that are installed."""
    others = {
        "pynanoflann": search_nanoflann,
        "pykdtree": search_pykdtree,
    }
    return {"scipy": search_scipy} | {
        name: search for name, search in others.items() if importlib.util.find_spec(name)
    }


def search(tree: Search, query: Tensor, points: Tensor, k: int) -> Tensor:
    """Indices ``(B, Q, k)`` by one tree per cloud."""
    clouds = zip(query.numpy(), points.numpy(), strict=True)
    return torch.from_numpy(np.stack([tree(*pair, k) for pair in clouds]).astype(np.int64))


def neighbors(batch: int, queries: int, points: int, k: int) -> dict[str, Call]:
    x = cloud("cpu", batch, points)
    query = x[:, :queries].contiguous()
    calls: dict[str, Call] = {"pointpeft": lambda: knn(query, x, k)}
    for name, tree in trees().items():
        calls[name] = partial(search, tree, query, x, k)
    return calls


def chamfer(batch: int, points: int) -> dict[str, Call]:
    """With backward; the peers find the pairs, and PyTorch gathers them."""
    a = cloud("cpu", batch, points).requires_grad_()
    b = cloud("cpu", batch, points, seed=1)

    def by(tree: Search) -> Any:
        in_b = search(tree, a.detach(), b, 1).expand(-1, -1, 3)
        in_a = search(tree, b, a.detach(), 1).expand(-1, -1, 3)
        from_a = (a - b.gather(1, in_b)).square().sum(-1)
        from_b = (b - a.gather(1, in_a)).square().sum(-1)
        return torch.autograd.grad(from_a.mean() + from_b.mean(), a)

    calls: dict[str, Call] = {
        "pointpeft": lambda: torch.autograd.grad(chamfer_distance(a, b), a),
    }
    for name, tree in trees().items():
        calls[name] = partial(by, tree)
    return calls


def sampling(batch: int, points: int, samples: int) -> dict[str, Call]:
    x = cloud("cpu", batch, points)
    calls: dict[str, Call] = {"pointpeft": lambda: farthest_point_sample(x, samples)}
    if importlib.util.find_spec("fpsample"):
        from fpsample import bucket_fps_kdline_sampling

        calls["fpsample"] = lambda: [
            bucket_fps_kdline_sampling(one, samples, h=7, start_idx=0) for one in x.numpy()
        ]
    if importlib.util.find_spec("torch_quickfps"):
        from torch_quickfps import sample_idx

        calls["torch_quickfps"] = lambda: sample_idx(x, samples, start_idx=0)
    return calls


def interpolation(batch: int, queries: int, sources: int, channels: int) -> dict[str, Call]:
    """With backward; the peer finds the neighbours, and PyTorch gathers their rows."""
    query = cloud("cpu", batch, queries)
    source = query[:, :sources].contiguous()
    features = torch.randn(batch, sources, channels, requires_grad=True)
    gradient = torch.randn(batch, queries, channels)

    def by(tree: Search) -> Any:
        indices = search(tree, query, source, 3)
        offsets = query.unsqueeze(2) - gather_points(source, indices)
        weights = 1 / (offsets.square().sum(-1, keepdim=True) + 1e-8)
        weights = weights / weights.sum(2, keepdim=True)
        result = (weights * gather_points(features, indices)).sum(2)
        return torch.autograd.grad(result, features, gradient)

    calls: dict[str, Call] = {
        "pointpeft": lambda: torch.autograd.grad(
            three_interpolate(query, source, features), features, gradient
        ),
    }
    for name, tree in trees().items():
        calls[name] = partial(by, tree)
    calls["copy of the result, twice"] = lambda: (gradient.clone(), gradient.clone())
    return calls


CASES: dict[str, Callable[[], dict[str, Call]]] = {
    "knn 32 x 128 in 2048, k 32": lambda: neighbors(32, 128, 2048, 32),
    "knn 32 x 64 in 1024, k 32": lambda: neighbors(32, 64, 1024, 32),
    "chamfer 8 x 1024, with backward": lambda: chamfer(8, 1024),
    "chamfer 1216 x 32, with backward": lambda: chamfer(1216, 32),
    "fps 1 x 100000 -> 1024": lambda: sampling(1, 100_000, 1024),
    "fps 32 x 2048 -> 128": lambda: sampling(32, 2048, 128),
    "interpolate 8 x 2048 from 128, 384 channels, with backward": lambda: interpolation(
        8, 2048, 128, 384
    ),
}


def race(calls: dict[str, Call], repeats: int) -> dict[str, float]:
    """Median milliseconds of each after a warm-up, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= 2:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: round(statistics.median(values), 2) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    results = {}
    for name, prepare in CASES.items():
        results[name] = race(prepare(), options.repeats)
        print(name)
        for who, milliseconds in results[name].items():
            print(f"    {who:32}{milliseconds:9.2f} ms")
    report = {
        "processor": processor("cpu"),
        "threads": options.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "repeats": options.repeats,
        "median_ms": results,
    }
    path = RESULTS / "ops-peers-cpu.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
