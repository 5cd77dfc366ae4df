"""A box as a STEP file, written out, since only a CAD kernel could make one."""

from itertools import product

import numpy as np

QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]


class _Step:
    """Lines of the data section; `add` gives the number of an entity."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, entity: str) -> str:
        self.lines.append(f"#{len(self.lines) + 1}={entity};")
        return f"#{len(self.lines)}"

    def triple(self, kind: str, values: np.ndarray) -> str:
        return self.add(f"{kind}('',({','.join(f'{value:.6f}' for value in values)}))")

    def placement(self, origin: str, normal: np.ndarray, along: np.ndarray) -> str:
        axes = self.triple("DIRECTION", normal), self.triple("DIRECTION", along)
        return self.add(f"AXIS2_PLACEMENT_3D('',{origin},{axes[0]},{axes[1]})")


def solid_box(size: tuple[float, float, float]) -> str:
    """A box with edges of `size` millimetres along x, y and z."""
    step = _Step()
    points = np.array(list(product(*((0.0, edge) for edge in size))))
    places = [step.triple("CARTESIAN_POINT", point) for point in points]
    vertices = [step.add(f"VERTEX_POINT('',{place})") for place in places]
    edges: dict[tuple[int, int], str] = {}

    def oriented_edge(start: int, end: int) -> str:
        low, high = sorted((start, end))
        if (low, high) not in edges:
            way = points[high] - points[low]
            direction = step.triple("DIRECTION", way / np.linalg.norm(way))
            vector = step.add(f"VECTOR('',{direction},1.)")
            line = step.add(f"LINE('',{places[low]},{vector})")
            edge = f"EDGE_CURVE('',{vertices[low]},{vertices[high]},{line},.T.)"
            edges[low, high] = step.add(edge)
        same = ".T." if start < end else ".F."
        return step.add(f"ORIENTED_EDGE('',*,*,{edges[low, high]},{same})")

    faces = []
    for corners in QUADS:
        along = points[corners[1]] - points[corners[0]]
        normal = np.cross(along, points[corners[2]] - points[corners[1]])
        if normal @ (points[list(corners)].mean(axis=0) - points.mean(axis=0)) < 0:
            corners, normal = corners[::-1], -normal
            along = points[corners[1]] - points[corners[0]]
        around = zip(corners, corners[1:] + corners[:1], strict=True)
        loop = step.add(f"EDGE_LOOP('',({','.join(oriented_edge(*edge) for edge in around)}))")
        bound = step.add(f"FACE_OUTER_BOUND('',{loop},.T.)")
        normal, along = normal / np.linalg.norm(normal), along / np.linalg.norm(along)
        plane = step.add(f"PLANE('',{step.placement(places[corners[0]], normal, along)})")
        faces.append(step.add(f"ADVANCED_FACE('',({bound}),{plane},.T.)"))
    shell = step.add(f"CLOSED_SHELL('',({','.join(faces)}))")
    _product(step, step.add(f"MANIFOLD_SOLID_BREP('',{shell})"))
    return (
        "ISO-10303-21;\nHEADER;\nFILE_DESCRIPTION((''),'2;1');\n"
        "FILE_NAME('box','2026-01-01T00:00:00',(''),(''),'','','');\n"
        "FILE_SCHEMA(('AUTOMOTIVE_DESIGN'));\nENDSEC;\nDATA;\n"
        + "\n".join(step.lines)
        + "\nENDSEC;\nEND-ISO-10303-21;\n"
    )


def _product(step: _Step, solid: str) -> None:
    """What a solid needs around it: a unit, a representation and a product."""
    add = step.add
    x, _, z = np.eye(3)
    axes = step.placement(step.triple("CARTESIAN_POINT", np.zeros(3)), z, x)
    length = add("( LENGTH_UNIT() NAMED_UNIT(*) SI_UNIT(.MILLI.,.METRE.) )")
    angle = add("( NAMED_UNIT(*) PLANE_ANGLE_UNIT() SI_UNIT($,.RADIAN.) )")
    solid_angle = add("( NAMED_UNIT(*) SI_UNIT($,.STERADIAN.) SOLID_ANGLE_UNIT() )")
    accuracy = add(f"UNCERTAINTY_MEASURE_WITH_UNIT(LENGTH_MEASURE(1.E-07),{length},'a','b')")
    context = add(
        "( GEOMETRIC_REPRESENTATION_CONTEXT(3) "
        f"GLOBAL_UNCERTAINTY_ASSIGNED_CONTEXT(({accuracy})) "
        f"GLOBAL_UNIT_ASSIGNED_CONTEXT(({length},{angle},{solid_angle})) "
        "REPRESENTATION_CONTEXT('','') )"
    )
    shape = add(f"ADVANCED_BREP_SHAPE_REPRESENTATION('',({axes},{solid}),{context})")
    application = add("APPLICATION_CONTEXT('automotive design')")
    made = add(f"PRODUCT_CONTEXT('',{application},'mechanical')")
    box = add(f"PRODUCT('box','box','',({made}))")
    formation = add(f"PRODUCT_DEFINITION_FORMATION('','',{box})")
    design = add(f"PRODUCT_DEFINITION_CONTEXT('part definition',{application},'design')")
    definition = add(f"PRODUCT_DEFINITION('design','',{formation},{design})")
    defined = add(f"PRODUCT_DEFINITION_SHAPE('','',{definition})")
    add(f"SHAPE_DEFINITION_REPRESENTATION({defined},{shape})")
