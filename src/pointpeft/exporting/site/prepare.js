// From a shape to what the model sees, by the rules of the adapter's training: points drawn by area,
// upright, in the unit ball, in farthest point order. Random numbers are others than there.

const FEWEST = 16; // distinct points of a cloud
const LARGEST = 1e18; // coordinate
const TINY = 1e-150; // extent
const SMALLEST_AREA = 1e-12; // of a face, in parts of the squared diagonal

/** The model's input: a Float32Array of x, y, z in turn, and notes on the shape. */
export function prepare(shape, { num_points, normalize, up_axis }, seed = 0) {
  const random = generator(seed), stored = 2 * num_points, notes = [...shape.notes];
  let drawn = shape.faces && drawSurface(shape, stored, random);
  if (!drawn) {
    if (shape.faces) notes.push("no face of non-zero area: its vertices serve as a cloud");
    checkExtent(shape.points);
    checkEnough(shape.points);
    drawn = drawCloud(shape.points, stored, random);
  }
  checkExtent(drawn);
  const points = turnUpright(drawn, up_axis);
  if (normalize === "unit_ball") toUnitBall(points);
  const order = farthestOrder(points, num_points);
  if (order.length < num_points) {
    notes.push(`${order.length} distinct points, fewer than ${num_points}: some are repeated`);
  }
  const input = new Float32Array(3 * num_points);
  for (let row = 0; row < num_points; row++) {
    const place = order[row % order.length];
    input.set(points.subarray(3 * place, 3 * place + 3), 3 * row);
  }
  return { input, notes };
}

function checkExtent(points) {
  let low = Infinity, high = -Infinity, extent = 0;
  for (let axis = 0; axis < 3; axis++) {
    let least = Infinity, most = -Infinity;
    for (let i = axis; i < points.length; i += 3) {
      if (!Number.isFinite(points[i])) throw new Error("a coordinate is no finite number");
      least = Math.min(least, points[i]);
      most = Math.max(most, points[i]);
    }
    extent = Math.max(extent, most - least);
    low = Math.min(low, least);
    high = Math.max(high, most);
  }
  const largest = Math.max(Math.abs(low), Math.abs(high));
  if (largest > LARGEST) throw new Error(`a coordinate of ${largest}: the file looks damaged`);
  if (extent <= 1e-9 * largest || extent === 0) throw new Error("all points are in the same place");
  if (extent < TINY) throw new Error(`an extent of ${extent} is too small to compute with`);
}

function checkEnough(points) {
  const seen = new Set();
  for (let i = 0; i < points.length && seen.size < FEWEST; i += 3) {
    seen.add(`${points[i]},${points[i + 1]},${points[i + 2]}`);
  }
  if (seen.size < FEWEST) {
    throw new Error(`only ${seen.size} distinct points, at least ${FEWEST} are needed`);
  }
}

/** Uniform numbers in [0, 1), the same ones for the same seed (mulberry32). */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Points uniform over the surface, or null where no face has an area. */
export function drawSurface({ points, faces }, count, random) {
  const corner = (face, i) => points.subarray(3 * faces[face + i], 3 * faces[face + i] + 3);
  let squaredDiagonal = 0;
  for (let axis = 0; axis < 3; axis++) {
    let least = Infinity, most = -Infinity;
    for (const vertex of faces) {
      least = Math.min(least, points[3 * vertex + axis]);
      most = Math.max(most, points[3 * vertex + axis]);
    }
    squaredDiagonal += (most - least) ** 2;
  }
  const kept = [], edges = [];
  let total = 0;
  for (let face = 0; face < faces.length; face += 3) {
    const [a, b, c] = [0, 1, 2].map((i) => corner(face, i));
    const u = [b[0] - a[0], b[1] - a[1], b[2] - a[2]];
    const v = [c[0] - a[0], c[1] - a[1], c[2] - a[2]];
    const area = 0.5 * Math.hypot(
      u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0],
    );
    if (!(area > SMALLEST_AREA * squaredDiagonal)) continue;
    kept.push(face);
    edges.push((total += area));
  }
  if (!kept.length) return null;
  const drawn = new Float64Array(3 * count);
  for (let row = 0; row < count; row++) {
    const face = kept[firstAbove(edges, random() * total)];
    const root = Math.sqrt(random()), along = random();
    const weights = [1 - root, root * (1 - along), root * along];
    for (let i = 0; i < 3; i++) {
      const vertex = corner(face, i);
      for (let axis = 0; axis < 3; axis++) drawn[3 * row + axis] += weights[i] * vertex[axis];
    }
  }
  return drawn;
}

function firstAbove(edges, value) {
  let low = 0, high = edges.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (edges[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** All points if there are at most `most`, else a random subset of that size. */
function drawCloud(points, most, random) {
  const count = points.length / 3;
  if (count <= most) return points;
  const places = Uint32Array.from({ length: count }, (_, i) => i);
  const drawn = new Float64Array(3 * most);
  for (let row = 0; row < most; row++) {
    const other = row + Math.floor(random() * (count - row));
    [places[row], places[other]] = [places[other], places[row]];
    drawn.set(points.subarray(3 * places[row], 3 * places[row] + 3), 3 * row);
  }
  return drawn;
}

/** Turned so that `axis` becomes y. */
function turnUpright(points, axis) {
  const turned = Float64Array.from(points);
  for (let i = 0; i < points.length; i += 3) {
    const [x, y, z] = points.subarray(i, i + 3);
    if (axis === "x") turned.set([-y, x, z], i);
    if (axis === "z") turned.set([x, z, -y], i);
  }
  return turned;
}

function toUnitBall(points) {
  const count = points.length / 3, center = [0, 0, 0];
  for (let i = 0; i < points.length; i++) center[i % 3] += points[i] / count;
  let radius = 0;
  for (let i = 0; i < points.length; i += 3) {
    for (let axis = 0; axis < 3; axis++) points[i + axis] -= center[axis];
    radius = Math.max(radius, Math.hypot(points[i], points[i + 1], points[i + 2]));
  }
  for (let i = 0; i < points.length; i++) points[i] /= radius;
}

/** Places of up to `most` points, each the farthest from those before; copies are left out. */
function farthestOrder(points, most) {
  const count = points.length / 3, nearest = new Float64Array(count).fill(Infinity), order = [0];
  while (order.length < Math.min(most, count)) {
    const last = 3 * order.at(-1);
    let best = 0;
    for (let row = 0; row < count; row++) {
      const dx = points[3 * row] - points[last];
      const dy = points[3 * row + 1] - points[last + 1];
      const dz = points[3 * row + 2] - points[last + 2];
      nearest[row] = Math.min(nearest[row], dx * dx + dy * dy + dz * dz);
      if (nearest[row] > nearest[best]) best = row;
    }
    if (nearest[best] === 0) break;
    order.push(best);
  }
  return order;
}
