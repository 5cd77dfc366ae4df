"""What a measurement of an adapter is asked for."""

from dataclasses import dataclass
from pathlib import Path

from pointpeft.compat.names import PROTOCOLS
from pointpeft.errors import ConfigError, check_choices, check_sizes

__all__ = ["SPLITS", "EvaluateConfig"]

SPLITS = ("train", "val", "test", "all")
"""Parts of a data set that can be measured."""


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured, and how.

    Attributes:
        adapter: adapter or run folder.
        data: labelled data, as for training; its classes must be known to the adapter.
        split: one of :data:`SPLITS`. By default the test part; of other data than the adapter was
            trained on, without a stated test part, every item.
        variant: name of a benchmark data set, where ``data`` holds several.
        protocol: "honest", or another one that reads data and votes as the papers' code does.
        votes: measure a classifier by voting too, see
            :meth:`pointpeft.training.protocol.Protocol.votes`.
        seed: of the views that vote, and of points that the protocol draws.
        checkpoint: weights of the encoder, if not where the adapter says.
        up_axis: axis of the files that points up, if not as in training.
        device: "auto", "cpu" or "cuda".
        batch_size: clouds at a time; None: as many as the run of the adapter was measured with.

    Raises:
        ConfigError: a value is none of those, or the protocol measures no such split.
    """

    adapter: str
    data: str
    split: str | None = None
    variant: str | None = None
    protocol: str = "honest"
    votes: int = 0
    seed: int = 0
    checkpoint: str | Path | None = None
    up_axis: str | None = None
    device: str = "auto"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_choices(self, ["protocol"], PROTOCOLS)
        check_sizes(self, ["votes", "seed"], least=0)
        if self.batch_size is not None:
            check_sizes(self, ["batch_size"])
        if self.split is not None:
            check_choices(self, ["split"], SPLITS)
        if self.protocol != "honest" and self.split in ("train", "all"):
            raise ConfigError(
                f"split={self.split} is not measured by the {self.protocol} protocol, where "
                "training clouds keep all their points and the test split serves to validate; "
                "measure the split test, or take protocol honest"
            )
