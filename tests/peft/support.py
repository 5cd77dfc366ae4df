"""Tiny adapted models."""

from collections.abc import Callable
from typing import Any

import torch

import pointpeft as pp
from pointpeft.peft.hugging_face import (
    DoRAConfig,
    HuggingFaceConfig,
    IA3Config,
    LoRAConfig,
    VeRAConfig,
)
from tests.models.tiny import clouds, settle, tiny

BACKBONES = ("point_mae", "pcp_mae", "point_bert", "point_m2ae", "i2p_mae")
#: One configuration of every method, and variants whose parameters differ.
CONFIGS: dict[str, Callable[[], Any]] = {
    "full": pp.FullConfig,
    "linear": pp.LinearConfig,
    "linear, published": lambda: pp.LinearConfig("linear", True, True),
    "bitfit": pp.BitFitConfig,
    "norm": pp.NormConfig,
    "vpt-shallow": lambda: pp.VPTShallowConfig(num_prompts=3),
    "vpt-deep": lambda: pp.VPTDeepConfig(num_prompts=3),
    "adapter": lambda: pp.AdapterConfig(width=4),
    "adapter, serial": lambda: pp.AdapterConfig(form="serial", width=4),
    "lora": lambda: LoRAConfig({"r": 2}),
    "dora": lambda: DoRAConfig({"r": 2}),
    "ia3": IA3Config,
    "vera": lambda: VeRAConfig({"r": 4}),
    "hugging-face": lambda: HuggingFaceConfig({"peft_type": "OFT", "oft_block_size": 4}),
    "dapt": lambda: pp.DAPTConfig(adapter_dim=4),
    "dapt, published": lambda: pp.DAPTConfig(adapter_dim=4, reference_compat=True),
    "pointgst": lambda: pp.PointGSTConfig(rank=4, local=4),
    "pointgst, published": lambda: pp.PointGSTConfig(rank=4, local=4, reference_compat=True),
    "ppt": lambda: pp.PPTConfig(num_prompts=4, width=6),
    "ppt, published": lambda: pp.PPTConfig(num_prompts=4, width=6, reference_compat=True),
    "idpt": lambda: pp.IDPTConfig(num_neighbors=4),
    "idpt, published": lambda: pp.IDPTConfig(num_neighbors=4, reference_compat=True),
    "stag": lambda: pp.STAGConfig(width=6, num_neighbors=3),
    "stag, in runs": lambda: pp.STAGConfig(width=6, num_neighbors=3, run_length=1, first_block=1),
    "point-peft": lambda: pp.PointPeftConfig(**SMALL),
    "point-peft, published": lambda: pp.PointPeftConfig(**SMALL, reference_compat=True),
}
SMALL: dict[str, Any] = {
    "num_prompts": 5,
    "prompt_blocks": 2,
    "adapter_dim": 4,
    "bank_adapter_dim": 3,
    "attention_dim": 6,
    "attention_heads": 3,
}


def encoder(seed: int = 1) -> Any:
    """The same pre-trained encoder at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return settle(tiny("features"), seed)


def classifier(seed: int = 1, **settings: Any) -> Any:
    """A classification model around :func:`encoder`."""
    model = tiny("classification", **settings)
    model.backbone.load_state_dict(encoder(seed).state_dict())
    return model


def bank(seed: int = 1) -> pp.MemoryBank:
    """Twelve items encoded by :func:`encoder`."""
    return pp.MemoryBank.build(encoder(seed), clouds(12, seed=5).split(4))


def adapted(config: Any, with_bank: bool = False, seed: int = 1) -> Any:
    """A model under a method, with added layers that are not at their initial values."""
    model = pp.get_peft_model(classifier(seed), config, bank(seed) if with_bank else None)
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    settle(model, seed + 1)
    state = model.state_dict()
    for name, tensor in (frozen | buffers).items():
        if name in state:  # buffers need not be stored
            state[name].copy_(tensor)
    return model


def point_peft(with_bank: bool = True, **settings: Any) -> Any:
    """Point-PEFT on the tiny classifier."""
    return adapted(pp.PointPeftConfig(**{**SMALL, **settings}), with_bank)
