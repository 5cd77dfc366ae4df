"""Shapes in shards: data sets for pre-training that need not fit into memory."""

from pointpeft.data.shards.index import Shard, ShardIndex, is_sharded
from pointpeft.data.shards.shard_reader import ShardedShapes, load_sharded
from pointpeft.data.shards.shard_writer import write_shards
from pointpeft.data.shards.verification import verify_shards

__all__ = [
    "Shard",
    "ShardIndex",
    "ShardedShapes",
    "is_sharded",
    "load_sharded",
    "verify_shards",
    "write_shards",
]
