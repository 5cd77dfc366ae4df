"""Published data sets in their published layouts: describe, read, check and convert them."""

from pointpeft.data.benchmarks.benchmark import PublishedDataset, PublishedSplit
from pointpeft.data.benchmarks.checking import DatasetCheck, SplitCheck, check_published
from pointpeft.data.benchmarks.converting import convert_published, write_archive
from pointpeft.data.benchmarks.datasets import DATASETS, get_dataset
from pointpeft.data.benchmarks.episodes import Episode, make_episode, read_episode
from pointpeft.data.benchmarks.listing import list_published, read_published
from pointpeft.data.benchmarks.shapenetpart import PART_IDS

__all__ = [
    "DATASETS",
    "PART_IDS",
    "DatasetCheck",
    "Episode",
    "PublishedDataset",
    "PublishedSplit",
    "SplitCheck",
    "check_published",
    "convert_published",
    "get_dataset",
    "list_published",
    "make_episode",
    "read_episode",
    "read_published",
    "write_archive",
]
