"""Files of a corpus of any size, and a folder of shards with a row for each of them."""

from pointpeft.data.corpus.features import read_corpus_features, read_shards
from pointpeft.data.corpus.file_lists import FileList, ListedFile
from pointpeft.data.corpus.shard_folder import FEATURES, ShardFolder, is_shard_folder

__all__ = [
    "FEATURES",
    "FileList",
    "ListedFile",
    "ShardFolder",
    "is_shard_folder",
    "read_corpus_features",
    "read_shards",
]
