"""Values of settings that ask for what published code does; light, for every command reads them."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pointpeft.training.config import RunConfig

__all__ = [
    "PROTOCOLS",
    "PUBLISHED",
    "RULES",
    "PublishedVotes",
    "Thresholds",
    "extra_epochs",
    "published_votes",
]

PUBLISHED = "published"
PROTOCOLS = ("honest", PUBLISHED)
"""How models are selected and measured: on a validation split, or as the papers' code did."""
RULES = ("default", PUBLISHED)
"""Schedules of the learning rate, and which parameters are decayed."""


def extra_epochs(config: "RunConfig") -> int:
    """Epochs beyond ``trainer.epochs``: published loops run one, but for part segmentation.

    Args:
        config: of fine-tuning or pre-training.
    """
    parts = getattr(config, "task", None) == "part_segmentation"
    return int(config.protocol == PUBLISHED and not parts)


class Thresholds(NamedTuple):
    """Test accuracies, 0 to 1, above which an epoch is voted on while it trains."""

    always: float
    if_best: float  # where the epoch is the best so far


class PublishedVotes(NamedTuple):
    """Votes of one backbone.

    Attributes:
        repetitions: votes of a trained model, of which the best is reported.
        in_training: which epochs are voted on; None: none.
    """

    repetitions: int
    in_training: Thresholds | None = None


_VOTES = {
    "point_bert": PublishedVotes(9, Thresholds(always=0.915, if_best=0.90)),
    "pcp_mae": PublishedVotes(51),
    "point_mae": PublishedVotes(299, Thresholds(always=0.921, if_best=0.91)),
}


def published_votes(model: str) -> PublishedVotes:
    """Those of a model by its name; the smaller ones vote as the published ones do."""
    return _VOTES.get(model.removesuffix("_small"), PublishedVotes(49))
