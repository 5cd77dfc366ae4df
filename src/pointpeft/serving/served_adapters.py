"""Adapters on the trunks that they share, each with all that is needed to use it."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pointpeft.data import InputStatistics, InputTransform, PartTable
from pointpeft.errors import CheckpointError, ConfigError, DataError, nearest_hint
from pointpeft.locations import ADAPTER, ADAPTER_CONFIG, resolve_adapter
from pointpeft.measure.familiarity import Familiarity
from pointpeft.measure.loaded_adapter import described_input, load_base
from pointpeft.measure.part_scores import part_mask
from pointpeft.measure.predictor import training_memory
from pointpeft.peft import PeftModel, load_adapter
from pointpeft.peft.adapter import Adapter
from pointpeft.peft.adapter_config import read_adapter_config
from pointpeft.serving.neighbor_names import NeighborNames

__all__ = ["AdapterSet", "ServedAdapter", "UnknownAdapterError", "served_name"]

_TASKS = ("classification", "part_segmentation")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class UnknownAdapterError(ConfigError):
    """No adapter of that name is there."""


@dataclass(frozen=True)
class ServedAdapter:
    """An adapter, and how its input is prepared and its output is told.

    Attributes:
        name: by which it is asked for.
        key: by which the model knows it; one that is loaded again has another one.
        model: the trunk with all adapters on it.
        adapter: this one.
        transform: how shapes are prepared.
        statistics: of training shapes, when known.
        familiarity: compares shapes with those of training, when they are remembered.
        parts: names and categories of the parts, for part segmentation.
        mask: which parts each category has, ``(categories, parts)``.
    """

    name: str
    key: str
    model: PeftModel
    adapter: Adapter
    transform: InputTransform
    statistics: InputStatistics | None
    familiarity: Familiarity | None
    parts: PartTable | None
    mask: Tensor | None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes, or categories, in the order of their numbers."""
        return self.adapter.class_names or ()

    @property
    def alone(self) -> bool:
        """Whether its clouds come one by one: by the papers' code a batch changes them."""
        return self.adapter.tuner.depends_on_batch

    def category_number(self, name: str | None) -> int | None:
        """The number of a category, of the only one if there is only one; None without parts.

        Raises:
            ConfigError: it is unknown, not said although there are several, or not wanted.
        """
        known = ", ".join(self.class_names)
        if self.parts is None:
            if name is not None:
                raise ConfigError(f"adapter {self.name!r} finds no parts: leave `category` out")
            return None
        if name is None and len(self.class_names) == 1:
            return 0
        if name not in self.class_names:
            hint = nearest_hint(name, self.class_names) if name else ""
            raise ConfigError(f"`category` {name!r}: {hint}expected one of {known}")
        return self.class_names.index(name)

    def describe(self) -> dict[str, Any]:
        """What a client needs to know of it, as plain values."""
        own = self.adapter.own_state().values()
        return {
            "name": self.name,
            "task": self.adapter.task,
            "method": self.adapter.config.method,
            "classes": list(self.class_names),
            "parts": None if self.parts is None else list(self.parts.names),
            "num_points": self.transform.num_points,
            "up_axis": self.transform.up_axis,
            "bytes": sum(tensor.nbytes for tensor in own),
            "remembers_training": self.familiarity is not None,
        }


class AdapterSet:
    """The adapters of a service.

    Those of one trunk share it: memory grows by what each has of its own.

    Args:
        folders: adapter or run folders; each adapter is called by its folder's name, see
            :func:`served_name`.
        checkpoint: weights of the encoder, where they are not found; then all are of this one.
        device: where to compute.
        neighbors_from: training data, by which the shapes that adapters remember get their names
            and can be shown. It is read beside the requests.

    Attributes:
        models: each trunk with its adapters, by the hash of the trunk.
        device: where to compute.
        retired: adapters that were replaced or removed, but that their trunk still has for requests
            that began before.

    Raises:
        ConfigError: no folder, or two of one name.
        CheckpointError: a folder holds no adapter, or the weights of its encoder are not found.
        DataError: the training data is not there.
    """

    def __init__(
        self,
        folders: Sequence[str | Path],
        checkpoint: str | Path | None = None,
        device: str = "cpu",
        neighbors_from: str | None = None,
    ) -> None:
        if not folders:
            raise ConfigError("name the folder of at least one adapter")
        self.device = device
        self._names = None if neighbors_from is None else NeighborNames(neighbors_from)
        self._checkpoint = checkpoint
        self.models: dict[str, PeftModel] = {}
        self._keys = map("served-{}".format, itertools.count())
        self._known: dict[str, ServedAdapter] = {}
        self.retired: list[ServedAdapter] = []
        for folder in folders:
            name = served_name(folder)
            if name in self._known:
                raise ConfigError(
                    f"{folder}: another adapter is called {name!r} too; rename its folder"
                )
            self._load(name, folder)
        self._begin_naming()

    def __iter__(self) -> Iterator[ServedAdapter]:
        return iter(list(self._known.values()))

    def __len__(self) -> int:
        return len(self._known)

    def find(self, name: str | None) -> ServedAdapter:
        """The adapter called ``name``; the only one if there is only one.

        Raises:
            ConfigError: it is not said although there are several.
            UnknownAdapterError: there is none of that name.
        """
        known = list(self._known)
        if name is None:
            if not known:
                raise UnknownAdapterError("the service has no adapter left")
            if len(known) != 1:
                raise ConfigError(f"pass `adapter`, one of {', '.join(known)}")
            name = known[0]
        if name not in self._known:
            hint = nearest_hint(name, known)
            raise UnknownAdapterError(
                f"no adapter {name!r}: {hint}adapters: {', '.join(known) or 'none'}"
            )
        return self._known[name]

    def load(self, name: str, folder: str | Path) -> ServedAdapter:
        """Put an adapter on its trunk, in place of one of that name, which retires.

        Raises:
            CheckpointError: there is no adapter, or the weights of its encoder are not found.
            ConfigError: it does not state its classes or its input.
        """
        served = self._load(name, folder)
        self._begin_naming()
        return served

    def close(self) -> None:
        """End what was begun beside the requests."""
        if self._names is not None:
            self._names.close()

    def _begin_naming(self) -> None:
        if self._names is not None:
            self._names.begin()

    def _load(self, name: str, folder: str | Path) -> ServedAdapter:
        key, folder = next(self._keys), resolve_adapter(folder)
        model = self._trunk_of(folder)
        load_adapter(model, folder, key)
        try:
            served = self._served(name, key, model, folder)
        except Exception:
            model.delete_adapter(key)
            raise
        self.models[model.base_hash] = model
        # What retires may be deleted at once by another thread, so it must not be found any more.
        before = self._known.get(name)
        self._known[name] = served
        if before is not None:
            self.retired.append(before)
        return served

    def _trunk_of(self, folder: Path) -> PeftModel:
        """The trunk that an adapter is on; it is loaded where no other adapter is on it."""
        needed = read_adapter_config(folder)["base_model"]["hash"]
        if needed in self.models:
            return self.models[needed]
        return PeftModel(load_base(folder, self._checkpoint).to(self.device)).eval()

    def remove(self, name: str) -> None:
        """Have an adapter retire.

        Raises:
            UnknownAdapterError: there is none of that name.
        """
        served = self.find(name)
        del self._known[name]
        self.retired.append(served)

    def forget(self, served: ServedAdapter) -> None:
        """Take a retired adapter off its trunk, and the last one of a trunk with it."""
        served.model.delete_adapter(served.key)
        if not served.model.adapters:
            del self.models[served.model.base_hash]

    def _served(self, name: str, key: str, model: PeftModel, folder: Path) -> ServedAdapter:
        adapter: Any = model.adapters[key].to(self.device)
        _, given = described_input(adapter, folder)
        if adapter.task not in _TASKS:
            raise ConfigError(
                f"the adapter in {folder} is for {adapter.task}: a service answers for "
                f"{' and '.join(_TASKS)}"
            )
        segments = adapter.task == "part_segmentation"
        try:
            parts = PartTable.from_dict(adapter.parts or {}) if segments else None
            transform = InputTransform.from_dict(given["transform"])
            known = given.get("statistics")
            statistics = InputStatistics.from_dict(known) if known else None
        except (DataError, TypeError) as error:
            raise CheckpointError(f"the adapter in {folder} is damaged: {error}") from error
        return ServedAdapter(
            name, key, model, adapter, transform, statistics,
            None if parts else self._familiarity(adapter, folder, transform, given),
            parts, None if parts is None else part_mask(parts).to(self.device),
        )  # fmt: skip

    def _familiarity(
        self, adapter: Adapter, folder: Path, transform: InputTransform, given: dict[str, Any]
    ) -> Familiarity | None:
        found = training_memory(adapter, folder, self.device)
        if found is None or self._names is None:
            return found
        seed = (given.get("split") or {}).get("seed", 0)
        self._names.add(found, transform, given.get("variant"), seed)
        return found


def served_name(folder: str | Path) -> str:
    """What the adapter of a folder is called: by the run's folder, or its own.

    Raises:
        ConfigError: that is no name for an address: letters, digits, ``-`` and ``_``.
    """
    folder = Path(folder)
    is_of_run = folder.name == ADAPTER and (folder / ADAPTER_CONFIG).is_file()
    name = (folder.resolve().parent if is_of_run else folder.resolve()).name
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{folder}: rename it to up to 64 letters, digits, - and _")
    return name
