"""Benchmark data sets in their published layouts: describe, read, check and convert them."""

from pointpeft.data.benchmarks.archive_conversion import convert_benchmark, write_archive
from pointpeft.data.benchmarks.benchmark import BenchmarkDataset, BenchmarkSplit
from pointpeft.data.benchmarks.checking import DatasetCheck, SplitCheck, check_benchmark
from pointpeft.data.benchmarks.episodes import Episode, make_episode, read_episode
from pointpeft.data.benchmarks.shapenet import PART_IDS
from pointpeft.data.benchmarks.stored import DATASETS, get_dataset, list_benchmark, read_benchmark

__all__ = [
    "DATASETS",
    "PART_IDS",
    "BenchmarkDataset",
    "BenchmarkSplit",
    "DatasetCheck",
    "Episode",
    "SplitCheck",
    "check_benchmark",
    "convert_benchmark",
    "get_dataset",
    "list_benchmark",
    "make_episode",
    "read_benchmark",
    "read_episode",
    "write_archive",
]
