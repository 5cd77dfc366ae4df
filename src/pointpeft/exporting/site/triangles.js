// Polygons as triangles.

const REFLEX = 1e-9; // turns below it, in parts of the largest one, are straight

/** Triangles of polygons, lists of vertex numbers, also of such that are not convex. */
export function triangulate(points, polygons) {
  const count = points.length / 3, triangles = [];
  for (const corners of polygons) {
    const wrong = corners.find((corner) => !(corner >= 0 && corner < count));
    if (wrong !== undefined) {
      throw new Error(`a face names vertex ${wrong}, there are ${count} (numbers 0 to ${count - 1})`);
    }
    if (corners.length < 3) continue;
    for (const corner of corners.length > 3 ? cut(points, corners) : corners) triangles.push(corner);
  }
  return triangles;
}

function cut(points, corners) {
  const flat = inPlane(points, corners), rest = corners.map((_, place) => place), triangles = [];
  const turns = rest.map((place) => turn(flat, rest, place));
  const least = REFLEX * largest(turns);
  const isConvex = !turns.some((value) => value < -least); // also those without a plane
  while (rest.length > 3 && !isConvex) {
    const ear = findEar(flat, rest, least);
    triangles.push(...neighbours(rest, ear).map((place) => corners[place]));
    rest.splice(ear, 1);
  }
  if (!isConvex && turn(flat, rest, 1) < -least) throw crossing(corners);
  for (let i = 1; i + 1 < rest.length; i++) {
    triangles.push(corners[rest[0]], corners[rest[i]], corners[rest[i + 1]]);
  }
  return triangles;
}

/** Corners in the mean plane of their polygon, counterclockwise. */
function inPlane(points, corners) {
  const place = (corner) => [0, 1, 2].map((axis) => points[3 * corner + axis]);
  const origin = place(corners[0]);
  const at = corners.map((corner) => place(corner).map((value, axis) => value - origin[axis]));
  const normal = [0, 0, 0];
  at.forEach((here, i) => {
    cross(here, at[(i + 1) % at.length]).forEach((value, axis) => (normal[axis] += value));
  });
  const sizes = normal.map(Math.abs), along = [0, 0, 0];
  along[sizes.indexOf(Math.min(...sizes))] = 1;
  const first = unit(cross(normal, along)), second = unit(cross(normal, first));
  return at.map((here) => [dot(here, first), dot(here, second)]);
}

function findEar(flat, rest, least) {
  const isEar = (place) => {
    const triangle = neighbours(rest, place).map((at) => flat[at]);
    return turn(flat, rest, place) > least && !rest.some((at) => isWithin(flat[at], triangle));
  };
  const places = rest.map((_, place) => place);
  const found = places.find(isEar) ?? places.find((place) => Math.abs(turn(flat, rest, place)) <= least);
  if (found === undefined) throw crossing(flat);
  return found;
}

const crossing = (corners) => new Error(`a face of ${corners.length} corners crosses itself`);

function neighbours(rest, place) {
  const count = rest.length;
  return [rest[(place + count - 1) % count], rest[place], rest[(place + 1) % count]];
}

/** Twice the signed area of the triangle at a corner: positive where it turns inwards. */
function turn(flat, rest, place) {
  const [a, b, c] = neighbours(rest, place).map((at) => flat[at]);
  return side(a, b, c);
}

const side = (a, b, c) => (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);

function isWithin(point, triangle) {
  if (triangle.some(([x, y]) => x === point[0] && y === point[1])) return false;
  return triangle.every((from, i) => side(from, triangle[(i + 1) % 3], point) >= 0);
}

/** The largest size among numbers, however many there are. */
export function largest(values) {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [
  a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0],
];
const unit = (a) => a.map((value) => value / Math.hypot(...a));
