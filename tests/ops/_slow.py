"""Obviously right versions of the point operations: loops over single clouds in NumPy."""

import numpy as np


def squared(a, b):
    """Squared distance of two points, in the dtype of the points and the documented order."""
    dx, dy, dz = a - b
    return (dx * dx + dy * dy) + dz * dz


def distances(query, points):
    return np.array([[squared(q, p) for p in points] for q in query])


def farthest(points, num_samples, skip=False):
    open_ = [i for i, p in enumerate(points) if not skip or squared(p, 0 * p) > 1e-3]
    chosen = [0]
    while len(chosen) < num_samples:
        best, best_distance = 0, -1.0
        for i in open_:
            distance = min(squared(points[i], points[c]) for c in chosen)
            if distance > best_distance:
                best, best_distance = i, distance
        chosen.append(best)
    return chosen


def nearest(query, points, k):
    table = distances(query, points)
    order = [sorted(range(len(points)), key=lambda j, row=row: (row[j], j))[:k] for row in table]
    return np.take_along_axis(table, np.array(order), 1), np.array(order)


def ball(query, points, radius, k):
    result = []
    for q in query:
        hits = [j for j, p in enumerate(points) if squared(q, p) < radius * radius][:k] or [0]
        result.append(hits + [hits[0]] * (k - len(hits)))
    return np.array(result)
