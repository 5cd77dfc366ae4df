"""The configs of the published repositories: keys and values of each, and ours of the same run."""

from typing import Any

_TUNED = {
    "optimizer.type": "AdamW", "optimizer.kwargs.lr": 0.0005, "optimizer.kwargs.weight_decay": 0.05,
    "scheduler.type": "CosLR", "scheduler.kwargs.epochs": 300,
    "scheduler.kwargs.initial_epochs": 10, "total_bs": 32, "step_per_update": 1, "max_epoch": 300,
    "grad_norm_clip": 10,
}  # fmt: skip
_PRETRAINED = {
    "optimizer.type": "AdamW", "optimizer.kwargs.lr": 0.001, "optimizer.kwargs.weight_decay": 0.05,
    "scheduler.type": "CosLR", "scheduler.kwargs.epochs": 400,
    "scheduler.kwargs.initial_epochs": 10, "step_per_update": 1, "max_epoch": 300,
}  # fmt: skip


def _data(base: str, **others: Any) -> dict[str, Any]:
    """The three parts of a data set, which the published configs all have."""
    keys = {}
    for part in ("train", "val", "test"):
        keys[f"dataset.{part}._base_"] = f"cfgs/dataset_configs/{base}.yaml"
        keys[f"dataset.{part}.others.subset"] = "train" if part == "train" else "test"
        keys |= {f"dataset.{part}.others.{key}": value for key, value in others.items()}
    return keys


def _svm(prefix: str = "dataset.") -> dict[str, Any]:
    """ModelNet40 as linear SVMs read it."""
    keys = {}
    for part in ("train", "val", "test"):
        keys[f"{prefix}{part}._base_"] = "cfgs/dataset/ModelNet40_SVM.yaml"
        keys[f"{prefix}{part}.others.partition"] = "train" if part == "train" else "test"
        keys[f"{prefix}{part}.others.num_points"] = 1024
    return keys


def _transformer(name: str = "PointTransformer", groups: int = 64, **others: Any) -> dict[str, Any]:
    settings = {
        "NAME": name, "trans_dim": 384, "depth": 12, "drop_path_rate": 0.1, "num_heads": 6,
        "group_size": 32, "num_group": groups, **others,
    }  # fmt: skip
    return {f"model.{key}": value for key, value in settings.items()}


def _scales(name: str, sizes: list[int], radii: list[float], **others: Any) -> dict[str, Any]:
    settings = {
        "NAME": name, "group_sizes": sizes, "num_groups": [512, 256, 64],
        "encoder_depths": [5, 5, 5], "encoder_dims": [96, 192, 384], "local_radius": radii,
        "drop_path_rate": 0.1, "num_heads": 6, **others,
    }  # fmt: skip
    return {f"model.{key}": value for key, value in settings.items()}


_DECODER = {
    "mask_ratio": 0.8, "decoder_depths": [1, 1], "decoder_dims": [384, 192],
    "decoder_up_blocks": [1, 1],
}  # fmt: skip
_M2AE = _scales("Point_M2AE", [16, 8, 8], [0.32, 0.64, 1.28], **_DECODER)
_I2P = _scales(
    "I2P_MAE", [16, 8, 8], [0, 0, 0], **_DECODER,
    **{"clip_config.visual_encoder": "ViT-B/16", "clip_config.feat_dim": 512},
)  # fmt: skip
_MAE_OBJECTIVE = {
    "mask_ratio": 0.6, "mask_type": "rand", "trans_dim": 384, "encoder_dims": 384, "depth": 12,
    "drop_path_rate": 0.1, "num_heads": 6, "decoder_depth": 4, "decoder_num_heads": 6,
}  # fmt: skip
_BERT_OBJECTIVE = {
    "mask_ratio": [0.25, 0.45], "trans_dim": 384, "depth": 12, "drop_path_rate": 0.1,
    "cls_dim": 512, "replace_pob": 0.0, "num_heads": 6, "moco_loss": False, "dvae_loss": True,
    "cutmix_loss": True, "return_all_tokens": False,
}  # fmt: skip
_TOKENIZER = {
    "group_size": 32, "num_group": 64, "encoder_dims": 256, "num_tokens": 8192, "tokens_dims": 256,
    "decoder_dims": 256,
}  # fmt: skip
_PEFT_M2AE = {
    "NAME": "PointTransformer_best", "group_sizes": [32, 16, 16], "num_groups": [512, 256, 64],
    "smooth": 0.0, "loss": "cdl2", "if_half": False, "prompt.NUM_TOKENS": 100, "hd_s1": True,
    "transformer_config.mask_ratio": 0.8, "transformer_config.mask_type": "rand",
    "transformer_config.trans_dim": [384, 192], "transformer_config.encoder_dims": [96, 192, 384],
    "transformer_config.masking_radius": [0.32, 0.64, 1.28],
    "transformer_config.depths": [5, 5, 5], "transformer_config.drop_path_rate": 0.1,
    "transformer_config.num_heads": 6, "transformer_config.decoder_depths": [1, 1],
    "transformer_config.decoder_num_heads": 6, "adapter_config.adapter_dim": [16, 16, 16],
    "adapter_config.adapter_drop_path_rate": 0.1,
}  # fmt: skip
_PEFT_MAE = {
    "if_half": False, "encoder_dims": 384, "adapter_config.adapter_dim": 16,
    "adapter_config.adapter_drop_path_rate": 0.1,
}  # fmt: skip


def _under(prefix: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{key}": value for key, value in settings.items()}


_BERT = {"consider_metric": "CDL1", "npoints": 1024}
_FEW = {"max_epoch": 150, "scheduler.kwargs.epochs": 150, "npoints": 1024,
        "dataset.test._base_": "cfgs/dataset_configs/ModelNet40.yaml"}  # fmt: skip

#: By published repository and config: ours of the same run, and what the published one states.
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "Point-MAE pretrain": ("pre-training/point-mae", {
        **_PRETRAINED, "scheduler.kwargs.epochs": 300, "total_bs": 128, "npoints": 1024,
        **_data("ShapeNet-55", npoints=1024), "model.NAME": "Point_MAE", "model.group_size": 32,
        "model.num_group": 64, "model.loss": "cdl2",
        **_under("model.transformer_config.", _MAE_OBJECTIVE),
    }),
    "Point-MAE finetune_scan_hardest": ("fine-tuning/point-mae_scan_pb", {
        **_TUNED, **_data("ScanObjectNN_hardest"), "npoints": 2048,
        **_transformer(groups=128, encoder_dims=384),
    }),
    "Point-MAE finetune_modelnet_8k": ("fine-tuning/point-mae_modelnet40_8k", {
        **_TUNED, **_data("ModelNet40"), "npoints": 8192,
        **_transformer(groups=512, encoder_dims=384),
    }),
    "Point-MAE fewshot": ("few-shot/point-mae", {
        **_TUNED, **_data("ModelNet40FewShot"), **_FEW, **_transformer(encoder_dims=384),
    }),
    "PCP-MAE pretrain/base": ("pre-training/pcp-mae", {
        **_PRETRAINED, "optimizer.kwargs.lr": 0.0005, "scheduler.kwargs.epochs": 300,
        "total_bs": 128, "npoints": 1024, **_data("ShapeNet-55", npoints=1024),
        "model.NAME": "PCP_MAE", "model.group_size": 32, "model.num_group": 64,
        "model.loss": "cdl2", "model.pred_loss": "l2", "model.ita": 0.1,
        "model.pred_pos_transformer_layer": 0, "model.add_detach": True, "model.cls_token": False,
        "model.aug": "None", "model.ablation": "None",
        **_under("model.transformer_config.", _MAE_OBJECTIVE),
    }),
    "PCP-MAE finetune_scan_hardest": ("fine-tuning/pcp-mae_scan_pb", {
        **_TUNED, "optimizer.kwargs.lr": 2e-5, **_data("ScanObjectNN_hardest"), "npoints": 2048,
        **_transformer(groups=128, encoder_dims=384, type="full"),
    }),
    "Point-BERT Mixup_models/Point-BERT": ("pre-training/point-bert", {
        **_PRETRAINED, "optimizer.kwargs.lr": 0.0005, "scheduler.kwargs.epochs": 300,
        "scheduler.kwargs.initial_epochs": 3, "total_bs": 128, "consider_metric": "CDL1",
        "dataset.train._base_": "cfgs/dataset_configs/ShapeNet-55.yaml",
        "dataset.train.others.subset": "train", "dataset.train.others.npoints": 1024,
        "dataset.train.others.whole": True,
        "dataset.val._base_": "cfgs/dataset_configs/ModelNet40.yaml",
        "dataset.val.others.subset": "test",
        "dataset.extra_train._base_": "cfgs/dataset_configs/ModelNet40.yaml",
        "dataset.extra_train.others.subset": "train",
        "model.NAME": "Point_BERT", "model.m": 0.999, "model.T": 0.07, "model.K": 16384,
        **_under("model.transformer_config.", _BERT_OBJECTIVE),
        **_under("model.dvae_config.", {**_TOKENIZER, "ckpt": "Need to be set"}),
    }),
    "Point-BERT ShapeNet55_models/dvae": ("pre-training/point-bert-dvae", {
        **_PRETRAINED, "optimizer.kwargs.lr": 0.0005, "optimizer.kwargs.weight_decay": 0.0005,
        "scheduler.kwargs.epochs": 300, "scheduler.kwargs.warming_up_init_lr": 0.00005,
        "temp.start": 1, "temp.target": 0.0625, "temp.ntime": 100000, "kldweight.start": 0,
        "kldweight.target": 0.1, "kldweight.ntime": 100000, "total_bs": 64,
        "consider_metric": "CDL1", **_data("ShapeNet-55", npoints=1024),
        "model.NAME": "DiscreteVAE", **_under("model.", _TOKENIZER),
    }),
    "Point-BERT ScanObjectNN_models/PointTransformer_hardest": ("fine-tuning/point-bert_scan_pb", {
        **_TUNED, **_BERT, **_data("ScanObjectNN_hardest"), **_transformer(encoder_dims=256),
    }),
    "Point-BERT ModelNet_models/PointTransformer_8192point": (
        "fine-tuning/point-bert_modelnet40_8k",
        {**_TUNED, **_BERT, **_data("ModelNet40"), "npoints": 8192,
         **_transformer(groups=512, encoder_dims=256)},
    ),
    "Point-BERT Fewshot_models/PointTransformer": ("few-shot/point-bert", {
        **_TUNED, **_BERT, **_data("ModelNet40FewShot"), **_FEW, **_transformer(encoder_dims=256),
    }),
    "Point-M2AE pre-training/point-m2ae": ("pre-training/point-m2ae", {
        **_PRETRAINED, "total_bs": 128, "npoints": 2048, **_data("ShapeNet-55", npoints=2048),
        **_svm("dataset.svm."), **_M2AE,
    }),
    "Point-M2AE linear-svm/modelnet40": ("linear-svm/point-m2ae_modelnet40", {
        **_PRETRAINED, "total_bs": 128, **_svm(), **_M2AE,
    }),
    "Point-M2AE linear-svm/scan_obj-bg": ("linear-svm/point-m2ae_scan_obj-bg", {
        **_PRETRAINED, "total_bs": 128, **_data("Scan_OBJ-BG"), **_M2AE,
    }),
    "I2P-MAE pre-training/i2p-mae": ("pre-training/i2p-mae", {
        **_PRETRAINED, "total_bs": 64, "npoints": 2048, **_data("ShapeNet-55", npoints=2048),
        **_svm("dataset.svm."), **_I2P,
    }),
    "I2P-MAE linear-svm/modelnet40": ("linear-svm/modelnet40", {
        **_PRETRAINED, "total_bs": 64, "npoints": 2048, **_svm(), **_I2P,
    }),
    "I2P-MAE fine-tuning/modelnet40": ("fine-tuning/modelnet40", {
        **_TUNED, **_data("ModelNet40"), "npoints": 1024,
        **_scales("I2P_MAE_ModelNet40", [48, 24, 24], [0.24, 0.48, 0.96], smooth=0.2),
    }),
    "I2P-MAE fine-tuning/scan_pb": ("fine-tuning/scan_pb", {
        **_TUNED, **_data("Scan_PB"), "npoints": 2048,
        **_scales("I2P_MAE_ScanObjectNN", [32, 16, 16], [0.48, 0.96, 1.92]),
    }),
    "Point-PEFT MAE/finetune_scan_hardest": ("peft/point-mae_scan_pb_aug", {
        **_TUNED, **_data("ScanObjectNN_hardest"), "npoints": 2048,
        **_transformer("PointTransformer_best", 128), **_under("model.", _PEFT_MAE),
    }),
    "Point-PEFT MAE/finetune_modelnet": ("peft/point-mae_modelnet40", {
        **_TUNED, **_data("ModelNet40"), "npoints": 1024,
        **_transformer("PointTransformer_modelnet"), **_under("model.", _PEFT_MAE),
    }),
    "Point-PEFT fine-tuning/scan": ("peft/point-m2ae_scan_pb_aug", {
        **_TUNED, **_data("ScanObjectNN_hardest"), "npoints": 2048, **_under("model.", _PEFT_M2AE),
    }),
}  # fmt: skip
