"""Adapters and backbones on the hub of Hugging Face; ``hf://owner/name`` reads them."""

import shutil
import tempfile
from pathlib import Path
from typing import TypeVar

from pointpeft.cards import backbone_card, check_license
from pointpeft.create import create_model
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.locations import (
    ADAPTER_CONFIG,
    EMBEDDED,
    EMBEDDED_LICENSE,
    ENCODER,
    HUB,
    TRAINING_FEATURES,
    hub_library,
    resolve_adapter,
    resolve_checkpoint,
)
from pointpeft.models import save_model, state_hash
from pointpeft.models.loadable import Loadable
from pointpeft.models.safetensors_files import saved_name
from pointpeft.models.trunk import Trunk
from pointpeft.peft import PeftModel, load_adapter
from pointpeft.peft.saving import CARD, OTHERS, copy_adapter, save_adapter

__all__ = ["load_adapter", "load_trunk", "push_to_hub", "save_trunk"]

T = TypeVar("T", bound=Trunk)

_NOT_IN_EVERY_ADAPTER = [TRAINING_FEATURES, f"{OTHERS}/*"]


def push_to_hub(
    what: PeftModel | Loadable | str | Path,
    repo: str,
    private: bool = False,
    message: str | None = None,
    license: str | None = None,
) -> str:
    """Upload an adapter or a backbone, with a card.

    An adapter replaces one that is there whole; a backbone and an adapter may share a repository.

    Args:
        what: a :class:`PeftModel`, of which the active adapter is uploaded; a backbone made by
            ``create_model``; or the folder of an adapter or run, whose own card goes along.
        repo: ``owner/name``; it is made if it is not there.
        private: make it readable for its owner only.
        message: of the commit.
        license: of the weights of a backbone, such as "MIT". None: as it is known of weights that
            come with the package. An adapter has its own, see ``license`` of the model.

    Returns:
        The address of the commit.

    Raises:
        ConfigError: ``what`` is none of these, the license is none or of an adapter, or the library
            huggingface_hub is not installed, or refuses.
        CheckpointError: the folder holds no adapter.
    """
    with tempfile.TemporaryDirectory() as folder:
        _gather(what, repo, Path(folder), license)
        outdated = [] if isinstance(what, Loadable) else _NOT_IN_EVERY_ADAPTER
        api = hub_library().HfApi()
        try:
            api.create_repo(repo, private=private, exist_ok=True)
            address = api.upload_folder(
                repo_id=repo, folder_path=folder, commit_message=message, delete_patterns=outdated
            )
        except Exception as error:  # whatever its library and the network give
            raise ConfigError(f"{HUB}{repo} cannot be written: {error}") from error
    return str(address)


def _gather(
    what: PeftModel | Loadable | str | Path, repo: str, folder: Path, license: str | None
) -> None:
    """Write what is uploaded into an empty folder."""
    check_license("license", license)
    if isinstance(what, Loadable):
        save_trunk(what, folder)
        name, identity = what.core.spec.name, state_hash(what.core)
        card = backbone_card(name, f"{HUB}{repo}", identity, license or _own_license(what))
        (folder / CARD).write_text(card, encoding="utf-8")
        return
    if not isinstance(what, PeftModel | str | Path):
        raise ConfigError(
            "`what` must be a PeftModel, a backbone made by create_model, or the folder of an "
            f"adapter or run, got {type(what).__name__}"
        )
    if license is not None:
        raise ConfigError(
            "`license` is for a backbone: an adapter has its own, set `license` of the model, or "
            "license=... of its run"
        )
    if isinstance(what, PeftModel):
        save_adapter(what.adapter, folder, alone=True)
        return
    source = resolve_adapter(what)
    copy_adapter(source, folder, alone=True)
    if (source / CARD).is_file():
        shutil.copyfile(source / CARD, folder / CARD)  # people may have written into it


def _own_license(what: Loadable) -> str | None:
    """The license of the weights that come with the package, if it is these that are shared."""
    core = what.core
    if what is not core or core.loaded_from != EMBEDDED:
        return None
    shipped = create_model(core.spec.name, pretrained=True)
    return EMBEDDED_LICENSE if state_hash(shipped) == state_hash(core) else None


def save_trunk(trunk: Loadable, folder: str | Path) -> None:
    """See :meth:`pointpeft.pretrained.PretrainedTrunk.save_pretrained`; any backbone will do."""
    if (Path(folder) / ADAPTER_CONFIG).exists():
        raise ConfigError(f"folder {folder} holds an adapter: save the encoder into another one")
    save_model(trunk, Path(folder) / ENCODER)


def load_trunk(place: str | Path, kind: type[T]) -> T:
    """See :meth:`pointpeft.pretrained.PretrainedTrunk.from_pretrained`; ``kind`` is its class."""
    weights = resolve_checkpoint(place)
    if not weights.is_file():
        raise CheckpointError(f"{place} does not exist: pass a folder or file of weights")
    name = saved_name(weights)
    if name is None:
        raise CheckpointError(
            f"{place} does not say what it is of: pass it as `checkpoint` of create_model"
        )
    found = create_model(name, checkpoint=place)
    if not isinstance(found, kind):
        raise CheckpointError(f"{place} holds {name}, which is no {kind.__name__}")
    return found.eval()
