"""Every case in the parity folder, against the published numbers.

Six cases lie in ``cases``, cut to the outputs of their networks. A folder of more is named by
``POINTPEFT_PARITY``; any further case of a kind listed here is picked up from its ``case`` field,
whatever its sizes, depth, seed or class count. Every field of a case is read, or it fails.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.parity.dapt import check_dapt
from tests.parity.i2p_mae import (
    check_clip_visual,
    check_i2p_classification,
    check_i2p_pretrain,
    check_i2p_projection,
    check_i2p_svm_features,
)
from tests.parity.pcp_mae import check_pcp_classification, check_pcp_pretrain
from tests.parity.point_bert import (
    check_bert_classification,
    check_bert_part_segmentation,
    check_bert_pretrain,
    check_bert_tokenizer,
)
from tests.parity.point_m2ae import (
    check_m2ae_classification,
    check_m2ae_part_segmentation,
    check_m2ae_pretrain,
    check_m2ae_svm_features,
)
from tests.parity.point_mae import check_classification, check_part_segmentation, check_pretrain
from tests.parity.point_ops import check_linear_svm, check_ops
from tests.parity.point_peft import check_point_peft_m2ae, check_point_peft_mae
from tests.parity.pointgst import check_pointgst
from tests.parity.ppt import check_ppt
from tests.parity.prompts_and_sides import check_idpt, check_stag
from tests.parity.segmentation import check_metrics
from tests.parity.support import Case, folder

# A case is of the longest kind that its ``case`` field begins with.
KINDS = {
    "ops": check_ops,
    "linear_svm": check_linear_svm,
    "metrics": check_metrics,
    "point_mae_pretrain": check_pretrain,
    "point_mae_cls": check_classification,
    "point_mae_partseg": check_part_segmentation,
    "point_bert_cls": check_bert_classification,
    "point_bert_dvae": check_bert_tokenizer,
    "point_bert_pretrain": check_bert_pretrain,
    "point_bert_partseg": check_bert_part_segmentation,
    "point_m2ae_pretrain": check_m2ae_pretrain,
    "point_m2ae_svm_features": check_m2ae_svm_features,
    "point_m2ae_cls": check_m2ae_classification,
    "point_m2ae_partseg": check_m2ae_part_segmentation,
    "clip_visual": check_clip_visual,
    "i2p_projection": check_i2p_projection,
    "i2p_mae_pretrain": check_i2p_pretrain,
    "i2p_mae_svm_features": check_i2p_svm_features,
    "i2p_mae_cls": check_i2p_classification,
    "pcp_mae_pretrain": check_pcp_pretrain,
    "pcp_mae_cls": check_pcp_classification,
    "point_peft_mae": check_point_peft_mae,
    "point_peft_m2ae": check_point_peft_m2ae,
    "idpt_mae": check_idpt,
    "dapt_mae": check_dapt,
    "pointgst_mae": check_pointgst,
    "ppt_mae": check_ppt,
    "stag_mae": check_stag,
    "stag_sl_mae": check_stag,
}
# The same kinds by the network that a case says it holds, for cases of other names.
MODELS = {
    "Point_MAE": check_pretrain,
    "PointTransformer (Point-MAE)": check_classification,
    "PCP_MAE": check_pcp_pretrain,
    "PointTransformer (PCP-MAE)": check_pcp_classification,
    "PointTransformer_best (Point-PEFT on Point-MAE)": check_point_peft_mae,
    "Point-PEFT M2AE models/Point_Mask_Rev_FT_scan.py PointTransformer_best": check_point_peft_m2ae,
    "PointTransformer (IDPT on Point-MAE)": check_idpt,
    "PointTransformer (STAG on Point-MAE)": check_stag,
    "PointTransformer_DAPT (DAPT on Point-MAE)": check_dapt,
    "PointTransformer_PGST (PointGST on Point-MAE)": check_pointgst,
    "PointTransformer (PPT on Point-MAE)": check_ppt,
    "Point-M2AE models/Point_M2AE.py Point_M2AE": check_m2ae_pretrain,
    "Point_M2AE.forward(eval=True)": check_m2ae_svm_features,
    "Point_M2AE_ModelNet40": check_m2ae_classification,
    "Point_M2AE_ScanObjectNN": check_m2ae_classification,
    "Point-M2AE segmentation/Point_M2AE_SEG.py": check_m2ae_part_segmentation,
    "clip_attn/model.py VisionTransformer": check_clip_visual,
    "I2P_MAE.proj2img and I2P_MAE.I2P": check_i2p_projection,
    "I2P-MAE models/I2P_MAE.py I2P_MAE": check_i2p_pretrain,
    "I2P_MAE.forward(eval=True)": check_i2p_svm_features,
    "I2P_MAE_ModelNet40": check_i2p_classification,
    "I2P_MAE_ScanObjectNN": check_i2p_classification,
}
STORED = sorted((Path(__file__).parent / "cases").glob("*.json"))
CASES = [*STORED, *sorted(folder().glob("*.json"))]


def test_a_folder_holds_the_other_cases():
    if CASES[len(STORED) :]:
        return
    assert "POINTPEFT_PARITY" not in os.environ, f"POINTPEFT_PARITY: {folder()} holds no case"
    pytest.skip(f"{folder()} holds no case: only {len(STORED)} come with the tests")


def checker(case: Case):
    kinds = [kind for kind in KINDS if case.name.startswith(kind)]
    if kinds:
        return KINDS[max(kinds, key=len)]
    return MODELS.get(case.data.get("model", case.data.get("reference", "")))


def test_cases_come_with_the_tests():
    assert len(STORED) == 6


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_parity(path):
    case = Case(path)
    check = checker(case)
    if check is None:
        pytest.skip(f"kind of case {case.name!r} is not built yet")
    check(case)
    case.check_read()


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [("config", "qkv_bias", True), ("cloud", "scale", 0.5), (None, "loss_of_more", 1.0)],
)
def test_a_field_that_nothing_looks_at_fails_its_case(place, key, value, tmp_path):
    for file in (STORED[0].parent / "recipe.py", *STORED[0].parent.glob("point_bert_cls_scan.*")):
        shutil.copy(file, tmp_path)
    path = tmp_path / "point_bert_cls_scan.json"
    content = json.loads(path.read_text())
    inside = {"config": content["config"], "cloud": content["inputs"]["cloud"]}
    inside.get(place, content)[key] = value
    path.write_text(json.dumps(content))
    case = Case(path)
    checker(case)(case)
    with pytest.raises(AssertionError, match=key):
        case.check_read()
