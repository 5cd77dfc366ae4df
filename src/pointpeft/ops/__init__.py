"""Point operations: pure functions on batched ``(B, N, 3)`` tensors, on any device.

Distances are direct float32 differences, also under autocast; indices are int64, and ties go to
the lowest index. Index searches are ``torch.library`` operators in the namespace ``pointpeft``, so
that ``torch.compile(fullgraph=True)`` takes them as they are.
"""

from pointpeft.ops.chamfer import chamfer_distance
from pointpeft.ops.distance import squared_distance
from pointpeft.ops.earth_mover import earth_mover_distance, soft_matching
from pointpeft.ops.gathering import gather_points
from pointpeft.ops.interpolation import inverse_distance_weights, three_interpolate
from pointpeft.ops.neighbors import ball_query, group_points, knn
from pointpeft.ops.pooling import max_pool
from pointpeft.ops.sampling import farthest_point_sample

__all__ = [
    "ball_query",
    "chamfer_distance",
    "earth_mover_distance",
    "farthest_point_sample",
    "gather_points",
    "group_points",
    "inverse_distance_weights",
    "knn",
    "max_pool",
    "soft_matching",
    "squared_distance",
    "three_interpolate",
]
