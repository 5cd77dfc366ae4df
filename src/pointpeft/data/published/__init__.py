"""Published data sets in their published layouts: describe, read, check and convert them."""

from pointpeft.data.published.checking import DatasetCheck, SplitCheck, check_published
from pointpeft.data.published.converting import convert_published, write_archive
from pointpeft.data.published.dataset import PublishedDataset, PublishedSplit
from pointpeft.data.published.episodes import Episode, make_episode, read_episode
from pointpeft.data.published.listing import list_published, read_published
from pointpeft.data.published.registry import DATASETS, get_dataset
from pointpeft.data.published.shapenetpart import PART_IDS

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
