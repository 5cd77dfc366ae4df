"""Adapters and backbones on the hub of Hugging Face; ``hf://owner/name`` reads them."""

import tempfile
from pathlib import Path

from pointpeft.errors import ConfigError
from pointpeft.locations import ENCODER, HUB, hub_library, resolve_adapter
from pointpeft.models import save_model
from pointpeft.models.loadable import Core, Loadable
from pointpeft.peft import PeftModel

__all__ = ["push_to_hub"]


def push_to_hub(
    what: PeftModel | Loadable | str | Path,
    repo: str,
    private: bool = False,
    message: str | None = None,
) -> str:
    """Upload an adapter or a backbone.

    Args:
        what: a :class:`PeftModel`, of which the active adapter is uploaded; a backbone made by
            ``create_model``; or the folder of an adapter or run.
        repo: ``owner/name``; it is made if it is not there.
        private: make it readable for its owner only.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        ConfigError: ``what`` is none of these, or the library huggingface_hub is not installed, or
            refuses.
        CheckpointError: the folder holds no adapter.
    """
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(what, PeftModel):
            what.save_pretrained(folder)
        elif isinstance(what, Loadable):
            save_model(what, Path(folder) / ENCODER)
            (Path(folder) / "README.md").write_text(_card(what.core, repo), encoding="utf-8")
        elif isinstance(what, str | Path):
            folder = str(resolve_adapter(what))
        else:
            raise ConfigError(
                "`what` must be a PeftModel, a backbone made by create_model, or the folder of an "
                f"adapter or run, got {type(what).__name__}"
            )
        api = hub_library().HfApi()
        try:
            api.create_repo(repo, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message))
        except Exception as error:  # whatever its library and the network give
            raise ConfigError(f"{HUB}{repo} cannot be written: {error}") from error


def _card(model: Core, repo: str) -> str:
    spec = model.spec
    return f"""---
library_name: pointpeft
tags: [point-cloud, 3d]
---
# {spec.name}

```python
import pointpeft as pp

backbone = pp.create_model("{spec.name}", checkpoint="{HUB}{repo}")
```
"""
