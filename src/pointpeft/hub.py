"""Adapters and backbones on the hub of Hugging Face; ``hf://owner/name`` reads them."""

import shutil
import tempfile
from pathlib import Path
from typing import TypeVar

from pointpeft.cards import CARD, backbone_card, check_license, write_card
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
from pointpeft.peft.saving import OTHERS, copy_adapter, save_adapter

__all__ = ["load_adapter", "load_trunk", "push_to_hub", "save_trunk"]

T = TypeVar("T", bound=Trunk)

_NOT_IN_EVERY_ADAPTER = [TRAINING_FEATURES, f"{OTHERS}/*"]


def push_to_hub(
    what: PeftModel | Loadable | str | Path,
    repo: str,
    private: bool = False,
    message: str | None = None,
    license: str | None = None,
    data_license: str | None = None,
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
        data_license: of the data that a backbone was trained on, likewise.

    Returns:
        The address of the commit.

    Raises:
        ConfigError: ``what`` is none of these, the license is none or of an adapter, or the library
            huggingface_hub is not installed, or refuses.
        CheckpointError: the folder holds no adapter.
    """
    with tempfile.TemporaryDirectory() as folder:
        _gather(what, repo, Path(folder), license, data_license)
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
    what: PeftModel | Loadable | str | Path,
    repo: str,
    folder: Path,
    license: str | None,
    data_license: str | None,
) -> None:
    """Write what is uploaded into an empty folder."""
    if isinstance(what, Loadable):
        save_trunk(what, folder, license, data_license, f"{HUB}{repo}")
        return
    if not isinstance(what, PeftModel | str | Path):
        raise ConfigError(
            "`what` must be a PeftModel, a backbone made by create_model, or the folder of an "
            f"adapter or run, got {type(what).__name__}"
        )
    if license is not None or data_license is not None:
        raise ConfigError(
            "`license` and `data_license` are for a backbone: an adapter has its own, set those of "
            "the model, or license=... and data_license=... of its run"
        )
    if isinstance(what, PeftModel):
        save_adapter(what.adapter, folder, alone=True)
        return
    source = resolve_adapter(what)
    copy_adapter(source, folder, alone=True)
    if (source / CARD).is_file():
        shutil.copyfile(source / CARD, folder / CARD)  # people may have written into it


def _own_licenses(what: Loadable) -> tuple[str | None, str | None]:
    """Those of the weights that come with the package, and their data, if these are shared."""
    core = what.core
    if what is core and core.loaded_from == EMBEDDED:
        shipped = create_model(core.spec.name, pretrained=True)
        if state_hash(shipped) == state_hash(core):
            return EMBEDDED_LICENSE, "none: the shapes are made by random programs of pointpeft"
    return None, None


def save_trunk(
    trunk: Loadable,
    folder: str | Path,
    license: str | None = None,
    data_license: str | None = None,
    address: str = "this_folder",
) -> None:
    """See :meth:`pointpeft.pretrained.PretrainedTrunk.save_pretrained`; any backbone will do.

    ``address`` is where its card says that it is.
    """
    check_license("license", license)
    check_license("data_license", data_license)
    folder = Path(folder)
    if (folder / ADAPTER_CONFIG).exists():
        raise ConfigError(f"folder {folder} holds an adapter: save the encoder into another one")
    save_model(trunk, folder / ENCODER)
    own, name = _own_licenses(trunk), trunk.core.spec.name
    terms = license or own[0], data_license or own[1]
    write_card(folder, backbone_card(name, address, state_hash(trunk.core), *terms))


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
