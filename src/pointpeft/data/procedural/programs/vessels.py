"""Turned vessels and what is fixed to them."""

import numpy as np
from numpy.random import Generator

from pointpeft.data.procedural.mesh import Mesh, sweep
from pointpeft.data.procedural.parts import ball, limb, log_uniform, rod, vessel
from pointpeft.data.procedural.programs._shared import Part, around

__all__ = ["turned"]


def turned(rng: Generator) -> list[Part]:
    """A vessel, often with handles, a spout, a lid or a foot."""
    body = vessel(rng).scaled([1, log_uniform(rng, 0.4, 2.5), 1])
    parts = [("body", body)]
    top, bottom = body.vertices[:, 1].max(), body.vertices[:, 1].min()
    if rng.random() < 0.5:
        handle = _handle(rng, top - bottom).moved([_reach(body) * 0.95, (top + bottom) / 2, 0])
        parts += [("handle", turn) for turn in around(handle, int(rng.choice([1, 1, 2])))]
    if rng.random() < 0.3:
        knob = ball(rng).scaled(rng.uniform(0.08, 0.3, 3)).moved([0, top + 0.1, 0])
        parts.append(("knob", knob))
    if rng.random() < 0.25:
        spout = np.array([[0, 0, 0], [0.6, 0.1, 0], [0.9, rng.uniform(0.2, 0.9), 0]])
        parts.append(("spout", limb(rng, spout, 0.12).moved([0.8 * _reach(body), 0, 0])))
    if rng.random() < 0.3:
        foot = rod(rng).scaled([rng.uniform(0.4, 1.0), rng.uniform(0.03, 0.2), 0.7])
        parts.append(("foot", foot.moved([0, bottom, 0])))
    return parts


def _handle(rng: Generator, height: float) -> Mesh:
    """Half a ring, standing, open towards -x."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 12)
    path = np.stack([rng.uniform(0.2, 0.6) * np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    path = path * [1, height * rng.uniform(0.15, 0.4), 1]
    return sweep(path, rng.uniform(0.03, 0.1))


def _reach(mesh: Mesh) -> float:
    """Distance from the y axis to the surface at about half height."""
    v = mesh.vertices
    middle = np.abs(v[:, 1] - v[:, 1].mean()) < 0.35 * np.ptp(v[:, 1])
    return float(np.hypot(v[middle, 0], v[middle, 2]).max(initial=0.2))
