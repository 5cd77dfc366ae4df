"""Point-PEFT's default computation, one cloud, one group and one token at a time."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def farthest(points: list[list[float]], count: int) -> list[int]:
    chosen = [0]
    while len(chosen) < count:
        distance = [min(squared(p, points[c]) for c in chosen) for p in points]
        chosen.append(distance.index(max(distance)))
    return chosen


def nearest(points: list[list[float]], center: list[float], count: int) -> list[int]:
    return sorted(range(len(points)), key=lambda i: squared(points[i], center))[:count]


def squared(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def share(token: list[float], centers: list[list[float]]) -> list[float]:
    weights = [1 / (squared(token, center) + 1e-8) for center in centers]
    return [w / sum(weights) for w in weights]


def attend(layer: Any, rows: Tensor) -> Tensor:
    """Local attention of the rows ``(s, C)`` of one group."""
    q, k, v = layer.qkv(rows).chunk(3, dim=1)
    width = q.shape[1]
    head = width // layer.num_heads
    out = []
    for start in range(0, width, head):
        part = slice(start, start + head)
        out.append((q[:, part] @ k[:, part].T / width**0.5).softmax(dim=1) @ v[:, part])
    return layer.proj(torch.cat(out, dim=1))


def attention(layer: Any, x: Tensor, seen: Tensor) -> Tensor:
    """Attention of all tokens ``(T, C)``; ``seen (T, T)`` says which ones a token may look at."""
    q, k, v = layer.qkv(x).chunk(3, dim=1)
    head = x.shape[1] // layer.num_heads
    out = []
    for start in range(0, x.shape[1], head):
        part = slice(start, start + head)
        scores = (q[:, part] @ k[:, part].T / head**0.5).masked_fill(~seen, -torch.inf)
        out.append(scores.softmax(dim=1) @ v[:, part])
    return layer.proj(torch.cat(out, dim=1))


def block(
    adapted: Any,
    inner: Any,
    tuner: Any,
    x: Tensor,
    centers: Tensor,
    bank_prompt: Tensor | None,
    scale: int = 0,
    prefix: int = 1,
    radius: float = torch.inf,
) -> Tensor:
    """One block in eval mode on one cloud: ``x (prefix + G, C)``, ``centers (G, 3)``."""
    config, coordinates = adapted.config, centers
    shared = tuner.scales[scale]
    P, G = 0, len(centers)
    if adapted.prompted:
        P = config.num_prompts
        prompts = adapted.prompt_embeddings
        if bank_prompt is not None:
            prompts = prompts + adapted.bank_adapter(bank_prompt)
        x = torch.cat([x[:prefix], prompts, x[prefix:]])
        coordinates = torch.cat([tuner.prompt_centers, centers])
    seen = torch.ones(len(x), len(x), dtype=torch.bool)
    seen[-G:, -G:] = torch.cdist(centers, centers) < radius
    x = x + attention(inner.attn, inner.norm1(x), seen)
    h = inner.mlp(inner.norm2(x))
    weight = adapted.gate if adapted.gated else config.adapter_scale
    x = x + h + weight * adapted.adapter(h)

    u, y = x[prefix:], coordinates.tolist()
    chosen = farthest(y, shared.num_groups)
    pooled = []
    for center in chosen:
        n = u[nearest(y, y[center], shared.group_size)]
        n = n + attend(shared.local_attention, shared.local_norm(n))
        most = n.max(dim=0).values
        most = most + n.mean(dim=0) if adapted.config.group_pooling == "mean+max" else most
        v = F.gelu(adapted.out_transform[0](most[None])[0])
        pooled.append(v + config.center_coefficient * u[center])
    tokens = []
    for token, place in zip(u[P:], centers.tolist(), strict=True):
        weights = share(place, [y[center] for center in chosen])
        spread = sum(w * v for w, v in zip(weights, pooled, strict=True))
        tokens.append(token + config.propagation_coefficient * spread)
    x = adapted.output_adapter(torch.cat([x[: prefix + P], torch.stack(tokens)]))
    return torch.cat([x[:prefix], x[prefix + P :]])
