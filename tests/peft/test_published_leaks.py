"""How many rows the published Point-PEFT reads of other clouds, as the documentation states it."""

import re
from pathlib import Path

import pytest
import torch

from pointpeft.compat.methods import published_prompt_groups

DOCS = Path(__file__).resolve().parents[2] / "docs/methods.md"
CLOUDS = 32
SIZES = {  # prompts and tokens of a block, local groups and their rows, by scale
    "Point-MAE": [(10, 128, 64, 32)],
    "Point-M2AE": [(16, 512, 256, 16), (16, 256, 64, 8), (16, 64, 32, 8)],
}


@pytest.mark.parametrize("backbone", SIZES)
def test_the_stated_share_of_rows_is_of_other_clouds(backbone):
    (row,) = re.findall(rf"^\| Point-PEFT on {backbone} \|.*$", DOCS.read_text(), re.MULTILINE)
    told = [int(share) for share in re.findall(r"\d+", row.split("|")[2].partition("%")[0])]
    clouds = torch.nn.functional.normalize(
        torch.randn(CLOUDS, 2048, 3, generator=torch.manual_seed(0)), dim=-1
    )
    for share, (prompts, tokens, groups, size) in zip(told, SIZES[backbone], strict=True):
        # Row j of cloud b is read at b * tokens + j, though a cloud has prompts + tokens rows.
        counted = sum(min(prompts * b, tokens) for b in range(CLOUDS)) / (CLOUDS * tokens)
        assert share == round(100 * counted)
        places = torch.rand(prompts, 3) - 0.5
        rows = published_prompt_groups(clouds, places, tokens, groups, size).neighbors
        own = torch.arange(CLOUDS).repeat_interleave(groups).unsqueeze(1)
        read = (rows // (prompts + tokens) != own).float().mean().item()
        assert read == pytest.approx(counted, abs=0.02)
