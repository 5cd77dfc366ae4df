"""The memory bank of Point-PEFT: features of the training items, and retrieval from them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError
from pointpeft.locations import anonymous
from pointpeft.models import state_hash
from pointpeft.models.trunk import Trunk
from pointpeft.ops._numerics import full_precision

__all__ = ["MemoryBank", "Retrieved"]

_PROTOTYPE = "prototype {}"
Batch = Mapping[str, Any] | Sequence[Any] | Tensor
"""What a loader gives, see :meth:`MemoryBank.build`."""


class Retrieved(NamedTuple):
    """Nearest bank items of a batch: ``similarity (B, k)``, descending, and ``indices (B, k)``."""

    similarity: Tensor
    indices: Tensor


class MemoryBank(nn.Module):
    """Unit-norm features of M items as columns, with their ids and labels (Point-PEFT, Sec. 3.2).

    Args:
        features: ``(C, M)``; kept in its own precision, banks built here are float16.
        labels: ``(M,)`` integer labels, -1 where unknown; all unknown when absent.
        ids: M item ids; their positions when absent.

    Attributes:
        encoder_hash: identity of the encoder that built it, when known; attaching the bank to a
            model with another encoder is refused.
    """

    features: Tensor
    labels: Tensor
    encoder_hash: str | None = None

    def __init__(
        self, features: Tensor, labels: Tensor | None = None, ids: Iterable[str] | None = None
    ) -> None:
        super().__init__()
        if features.ndim != 2 or features.shape[1] == 0:
            raise ValueError(
                f"features must be (channels, items) with items, got {tuple(features.shape)}"
            )
        M = features.shape[1]
        labels = torch.full((M,), -1) if labels is None else labels
        self.ids = tuple(ids) if ids is not None else tuple(str(i) for i in range(M))
        if len(labels) != M or len(self.ids) != M:
            raise ValueError(
                f"features has {M} items, but there are {len(labels)} labels and {len(self.ids)} "
                "ids; pass one of each per item"
            )
        self.register_buffer("features", features)
        self.register_buffer("labels", labels.long())

    def __len__(self) -> int:
        return self.features.shape[1]

    @property
    def has_prototypes(self) -> bool:
        """Whether means of items stand for the items, see :meth:`prototypes`; also once saved."""
        first = _PROTOTYPE.format(0)
        return self.ids[0] in (first, anonymous(first))

    @classmethod
    @torch.no_grad()
    def build(
        cls,
        backbone: Trunk,
        loader: Iterable[Batch],
        features: Callable[[Trunk, Tensor], Tensor] | None = None,
    ) -> Self:
        """Encode every item with the frozen backbone, in eval mode and in the loader's order.

        Args:
            backbone: an encoder with ``retrieval_features``, before any adapter is attached.
            loader: batches ``{"points": (B, N, 3), "label": (B,), "id": [...]}`` (the last two
                optional), or tuples ``(points, label)``, or tensors of points; neither shuffled
                nor augmented.
            features: of the backbone and clouds ``(B, N, 3)``, ``(B, C)``; None: its
                ``retrieval_features``.

        Returns:
            A bank on the CPU, in float16.
        """
        device = next(backbone.parameters()).device
        columns, labels, ids = [], [], []
        with eval_mode(backbone):
            for batch in map(_as_mapping, loader):
                points = batch["points"].to(device)
                found = (features or type(backbone).retrieval_features)(backbone, points)
                columns.append(F.normalize(found, dim=1).cpu())
                labels.append(torch.as_tensor(batch.get("label", torch.full((len(points),), -1))))
                ids.extend(_as_texts(batch.get("id", ())))
        if not columns:
            raise ValueError("loader is empty: a bank needs at least one item")
        bank = cls(torch.cat(columns).T.contiguous().half(), torch.cat(labels).cpu(), ids or None)
        bank.encoder_hash = state_hash(backbone)
        return bank

    def prototypes(self, count: int, seed: int = 0) -> "MemoryBank":
        """A smaller bank, of the means of ``count`` clusters (k-means), each of unit length.

        Args:
            count: clusters; a bank of no more items is returned as it is.
            seed: of the clustering.

        Returns:
            A bank in float16, with the most frequent label of each cluster.
        """
        if count >= len(self):
            return self
        from sklearn.cluster import KMeans  # here: the library is slow to import

        features = self.features.T.float().cpu().numpy()
        found = KMeans(count, n_init=1, random_state=seed).fit(features)
        centers = torch.from_numpy(found.cluster_centers_).float()
        columns = F.normalize(centers, dim=1).T.contiguous().half()
        members = [self.labels.cpu()[torch.from_numpy(found.labels_ == c)] for c in range(count)]
        labels = torch.stack([each.mode().values for each in members])
        bank = MemoryBank(columns, labels, map(_PROTOTYPE.format, range(count)))
        bank.encoder_hash = self.encoder_hash
        return bank

    def check(self, channels: int, k: int, excluding: bool = False) -> None:
        """Refuse to serve queries of other channels, or more items than there are.

        Raises:
            ConfigError: the message says what would fit.
        """
        if channels != self.features.shape[0]:
            raise ConfigError(
                f"queries have {channels} channels, the memory bank {self.features.shape[0]}; "
                "build the bank with the same backbone"
            )
        available = len(self) - excluding
        if k > available:
            raise ConfigError(
                f"the memory bank has {available} usable shapes, but {k} are to be retrieved: "
                "train on more shapes and keep as many (bank_size), or let num_prompts "
                f"(peft.num_prompts) be {available + 2} or less"
            )

    def retrieve(self, query: Tensor, k: int, exclude: Tensor | None = None) -> Retrieved:
        """The k most similar items: one matrix product and a top-k.

        Args:
            query: ``(B, C)`` features, normalised here.
            k: items per query.
            exclude: ``(B,)`` position of one item to leave out per query; -1 for none.
        """
        self.check(query.shape[-1], k, exclude is not None)
        with full_precision(query):
            similarity = F.normalize(query.float(), dim=-1) @ self.features.float()  # (B, M)
        if exclude is not None:
            left_out = F.one_hot(exclude.clamp(min=0), len(self)).bool()
            left_out &= (exclude >= 0).unsqueeze(1)
            similarity = similarity.masked_fill(left_out, -torch.inf)
        return Retrieved(*similarity.topk(k, dim=1))

    def prompt(self, query: Tensor, num_prompts: int, exclude: Tensor | None = None) -> Tensor:
        """Parameter-free attention over the bank (Point-PEFT, Eq. 2-4).

        Args:
            query: ``(B, C)`` features of the clouds.
            num_prompts: rows P of the result, at least 3.
            exclude: as in :meth:`retrieve`.

        Returns:
            ``(B, P, C)``: the query, the similarity-weighted mean of its P - 2 nearest items,
            and those items.
        """
        similarity, indices = self.retrieve(query, num_prompts - 2, exclude)
        nearest = self.features.T[indices].float()  # (B, P - 2, C)
        with full_precision(query):
            mean = similarity.softmax(dim=1).unsqueeze(1) @ nearest
        return torch.cat([query.float().unsqueeze(1), mean, nearest], dim=1)


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode within the block; every sub-module gets its own mode back, whatever happens."""
    modes = {each: each.training for each in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for each, mode in modes.items():
            each.training = mode


def _as_texts(ids: Tensor | Iterable[object]) -> list[str]:
    return [str(item) for item in (ids.tolist() if isinstance(ids, Tensor) else ids)]


def _as_mapping(batch: Batch) -> Mapping[str, Any]:
    if isinstance(batch, Mapping):
        return batch
    if isinstance(batch, Tensor):
        return {"points": batch}
    return dict(zip(("points", "label", "id"), batch, strict=False))
