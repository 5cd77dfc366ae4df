"""Model cards: what a README says of an adapter or a backbone, and under which terms it is."""

import re
from pathlib import Path
from typing import Any

from pointpeft.errors import ConfigError
from pointpeft.files import as_text, replacing
from pointpeft.locations import EMBEDDED, is_on_hub, lone_name

__all__ = ["CARD", "adapter_card", "backbone_card", "check_license", "write_card"]

CARD = "README.md"
"""Name of a card in the folder that it is about."""

SHOWN_OF_HASH = 16  # characters of a hash that are shown
_UNKNOWN = "not recorded"
_KNOWN_TO_HUB = {
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "mpl-2.0", "unlicense",
    "gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "agpl-3.0", "cc0-1.0", "cc-by-3.0", "cc-by-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0",
}  # fmt: skip
"""Licenses that the hub knows by name; any other one is "other" to it, with a name."""


def check_license(name: str, license: str | None) -> None:
    """Refuse what is no license on one line.

    Raises:
        ConfigError: the setting ``name`` is named.
    """
    if license is None:
        return
    if not isinstance(license, str) or not license.strip() or len(license.splitlines()) > 1:
        raise ConfigError(f"`{name}` must be a line such as MIT or CC-BY-4.0, got {license!r}")


_OURS = "library_name: pointpeft"


def write_card(folder: Path, text: str) -> None:
    """Write the card of a folder, unless people have put words of their own in its place."""
    card = folder / CARD
    if not card.exists() or _OURS in card.read_text(encoding="utf-8", errors="replace"):
        with replacing(card) as temporary:
            temporary.write_text(as_text(text), encoding="utf-8")


def adapter_card(config: dict[str, Any]) -> str:
    """The card of the adapter that an ``adapter_config.json`` describes."""
    base, counts = config["base_model"], config["parameters"]
    classes = _shown(", ".join(config["class_names"] or []) or None)
    source = base["checkpoint"]
    return f"""---
{_OURS}
{_license_tags(config.get("license"))}
tags: [point-cloud, 3d, {config["task"].replace("_", "-")}]
---
# {config["method"]["method"]} adapter for {base["name"]}

| | |
|---|---|
| base model | `{base["name"]}`, weights `{base["hash"][:SHOWN_OF_HASH]}`, {_named(source)} |
| trainable parameters | {counts["trainable"]:,} of {counts["total"]:,} |
| classes | {classes} |
| license of the adapter | {_shown(config.get("license"))} |
| license of the base model's weights | {_shown(base.get("license"))} |
| license of the training data | {_shown(config.get("data_license"))} |

```sh
pointpeft predict --adapter this_folder part.stl
```

In Python, on the weights that are named above:

```python
import pointpeft as pp

backbone = pp.create_model("{base["name"]}", {_argument(source)})
model = pp.load_adapter(backbone, "this_folder")
```
"""


def backbone_card(
    name: str, address: str, weights_hash: str, license: str | None, data_license: str | None
) -> str:
    """The card of a backbone.

    Args:
        name: of the model in the registry.
        address: where it is, a folder or ``hf://owner/name``.
        weights_hash: identity of its encoder.
        license: of the weights.
        data_license: of the data that they were trained on.
    """
    return f"""---
{_OURS}
{_license_tags(license)}
tags: [point-cloud, 3d]
---
# {name}

| | |
|---|---|
| model | `{name}`, weights `{weights_hash[:SHOWN_OF_HASH]}` |
| license of the weights | {_shown(license)} |
| license of the training data | {_shown(data_license)} |

```python
import pointpeft as pp

backbone = pp.create_model("{name}", checkpoint="{address}")
```
"""


def _license_tags(license: str | None) -> str:
    """What the hub reads of a license."""
    known = (license or "unknown").lower()
    if license is None or known in _KNOWN_TO_HUB:
        return f"license: {known}"
    name = re.sub(r"[^a-z0-9.]+", "-", known).strip("-") or "other"
    return f'license: other\nlicense_name: "{name}"'


def _shown(text: str | None) -> str:
    """A text as a cell of a table."""
    return " ".join((text or _UNKNOWN).replace("|", "\\|").split())


def _named(source: str | None) -> str:
    """Where weights are from, by a name that means something to others."""
    if source is None:
        return "which were in memory"
    if source == EMBEDDED:
        return "which come with pointpeft"
    return f"from `{lone_name(source)}`"


def _argument(source: str | None) -> str:
    """How ``create_model`` is asked for them."""
    if source == EMBEDDED:
        return "pretrained=True"
    known = source if source is not None and is_on_hub(source) else "..."
    return f'checkpoint="{known}"'
