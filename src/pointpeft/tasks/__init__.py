"""Training: pre-training and fine-tuning runs, and the folders that they fill."""

from pointpeft.tasks.config import FinetuneConfig, PretrainConfig, load_config
from pointpeft.tasks.finetuning import finetune
from pointpeft.tasks.pretraining import pretrain

__all__ = ["FinetuneConfig", "PretrainConfig", "finetune", "load_config", "pretrain"]
