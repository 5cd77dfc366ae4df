"""A corpus of any size: a row for every file, in shards, by one process or a cluster."""

from pointpeft.measure.corpus.rows import Features, RowMaker, Work
from pointpeft.measure.corpus.running import ENGINES, Corpus, make_corpus

__all__ = [
    "ENGINES",
    "Corpus",
    "Features",
    "RowMaker",
    "Work",
    "make_corpus",
]
