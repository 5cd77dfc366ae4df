"""What lies beside a published file of Point-PEFT: its memory bank, and the encoder of queries."""

import dataclasses
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pointpeft.compat.checkpoints.checkpoint_reader import read_checkpoint
from pointpeft.errors import CheckpointError
from pointpeft.models import ModelSpec, build_backbone, build_classifier, get_entry
from pointpeft.models.checkpoint import Checkpoint, fill
from pointpeft.models.safetensors_files import saved_sizes
from pointpeft.models.trunk import Trunk
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.model import PeftModel, get_peft_model
from pointpeft.torch_files import read_torch_file

__all__ = ["BANK", "QUERY_ENCODER", "Beside", "read_bank"]

log = logging.getLogger("pointpeft")

BANK = "cache_shape.pt"
"""The memory bank beside a file of Point-PEFT, under the name of the published download."""
QUERY_ENCODER = "pretrain.safetensors"
"""The encoder beside it that makes the queries; published code takes its ``pretrain.pth``."""

_BANKS = (BANK, "train_f_pos_shape_scan.pt", "train_f_pos_shape.pt")
"""Names of the bank: that of the published download, and those that published code reads."""
_ENCODERS = (QUERY_ENCODER, "pretrain.pth", "pre-train.pth")
"""Names of the encoder: ours, and those of Point-MAE and of Point-M2AE as published."""
_NO_BANK = "none"
"""In place of a bank: the model is to do without, which is another function than with one."""
_GROUPING = ("num_groups", "group_size", "group_sizes", "local_radius", "skip_near_origin")
"""Settings in which the encoder of queries may differ from the tuned one."""
_SIZES = ("dim", "dims", "depths")
"""Settings in which it has the sizes of the released one."""


@dataclass(frozen=True)
class Beside:
    """The files of retrieval that belong to a checkpoint of Point-PEFT.

    Attributes:
        content: of the checkpoint.
        bank: one tensor (channels, items); None: there is none.
        bankless: whether that is how it is to be.
        encoders: of several the one that has the frozen matrices of the checkpoint makes queries.
    """

    content: Checkpoint
    bank: Path | None
    bankless: bool
    encoders: tuple[Path, ...]

    @classmethod
    def of(
        cls,
        content: Checkpoint,
        bank: str | Path | None = None,
        encoder: str | Path | None = None,
    ) -> "Beside":
        """What is given, or else lies beside the file.

        Args:
            content: of the file.
            bank: a file, or "none": it is to do without.
            encoder: a file.

        Raises:
            CheckpointError: several banks lie there.
        """
        folder, bankless = content.source.parent, str(bank) == _NO_BANK
        banks = _there(folder, _BANKS) if bank is None else [] if bankless else [Path(bank)]
        if len(banks) > 1:
            raise CheckpointError(
                f"{content.source}: {_listed(banks)} lie beside it; leave its own there alone, "
                "or name it as `bank`"
            )
        encoders = _there(folder, _ENCODERS) if encoder is None else [Path(encoder)]
        return cls(content, banks[0] if banks else None, bankless, tuple(encoders))

    @property
    def missing(self) -> str:
        """What retrieval needs and is not there, with the names that it may have."""
        if self.bankless:
            return ""
        wanted = {} if self.bank else {"memory bank, one tensor (channels, items)": _BANKS}
        if not self.encoders:
            wanted["encoder that it was tuned from"] = _ENCODERS
        return ", and no ".join(f"{what} ({' or '.join(names)})" for what, names in wanted.items())

    def complete(self, tuned: PeftModel) -> tuple[Trunk, PeftModel]:
        """The plain encoder, and ``tuned`` made anew from it with its bank, if it is to have one.

        So the adapter knows what it was tuned from: its matrices are those of the file, and its
        biases those before they were tuned.

        Args:
            tuned: what the checkpoint gave, without a bank.

        Raises:
            CheckpointError: bank or encoder are missing, or no encoder is that of the file.
        """
        if self.missing:
            raise CheckpointError(
                f"{self.content.source} is {self.content.title}: beside it there is no "
                f"{self.missing}; put it there, or name it as `bank` or `encoder`. With `bank` "
                f"{_NO_BANK} the model retrieves nothing"
            )
        path, base = self._encoder_of(tuned)
        config: Any = tuned.config
        query = _query_encoder(tuned.base_spec, path) if self.bank and path else None
        if query is not None:
            own, asked = base.spec.config, query.spec.config
            differing = {k: asked.get(k) for k in _GROUPING if asked.get(k) != own.get(k)}
            config = dataclasses.replace(config, query_grouping=differing or None)
        adapted = get_peft_model(
            build_classifier(base, tuned.adapter.classifier.num_classes), config
        )
        adapted.adapter.load_state_dict(tuned.adapter.own_state(), strict=False)
        if self.bank and path and query is not None:
            adapted.set_bank(read_bank(self.bank), query)
            log.info(
                "%s: memory bank %s, tuned from the encoder %s, which makes the queries",
                self.content.source, self.bank.name, path.name,
            )  # fmt: skip
        return base, adapted

    def _encoder_of(self, tuned: PeftModel) -> tuple[Path | None, Trunk]:
        """The first of the encoders that ``tuned`` was made from; of none, as it is in ``tuned``.

        What is not tuned of an encoder are its matrices.
        """
        base, prefix, refused = _fresh(tuned.base_spec), "model.backbone.", []
        state = tuned.adapter.state_dict()
        own = {name: state[prefix + name] for name in base.state_dict()}
        for path in self.encoders:
            try:
                fill(base, read_checkpoint(path))
            except CheckpointError as error:
                refused.append(str(error))
                continue
            found = base.state_dict()
            differing = [n for n in own if own[n].ndim > 1 and not torch.equal(own[n], found[n])]
            if not differing:
                return path, base
            refused.append(f"{path} differs in {len(differing)} frozen matrices, as {differing[0]}")
        if refused:
            raise CheckpointError(
                f"{self.content.source} was tuned from none of {_listed(self.encoders)}: "
                f"{'; '.join(refused)}"
            )
        base.load_state_dict(own)
        return None, base


def _fresh(spec: ModelSpec, **grouping: Any) -> Trunk:
    return build_backbone(spec.name, {**spec.config, **grouping, "num_points": spec.num_points})


def _query_encoder(spec: ModelSpec, path: Path) -> Trunk:
    """The encoder of a file in the grouping that queries have.

    A file of ours states it. Published code makes queries by the network of pre-training, in its
    sizes, whatever the tuned network has.
    """
    content = read_checkpoint(path)
    stated = content.metadata.get("config") or saved_sizes(path)
    released = vars(type(get_entry(spec.name).config)()) if content.layout else {}
    if not stated and all(spec.config[k] == v for k, v in released.items() if k in _SIZES):
        stated = released | {"skip_near_origin": True}
    query = _fresh(spec, **{name: stated[name] for name in _GROUPING if name in stated})
    fill(query, content)
    return query


def _there(folder: Path, names: tuple[str, ...]) -> list[Path]:
    return [folder / name for name in names if (folder / name).is_file()]


def _listed(paths: Iterable[Path]) -> str:
    return " and ".join(path.name for path in paths)


def read_bank(path: str | Path) -> MemoryBank:
    """Read a published bank: a file with one plain tensor ``(C, M)``.

    Raises:
        CheckpointError: no such file, or it holds anything but one matrix.
    """
    features = read_torch_file(Path(path))
    if not isinstance(features, Tensor) or features.ndim != 2 or not features.numel():
        raise CheckpointError(f"{path} must hold one tensor (channels, items), and items")
    return MemoryBank(features.detach())
