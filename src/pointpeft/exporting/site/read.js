// A file as a shape: {points, faces, notes}. Points are x, y, z in turn, faces vertex numbers, three
// for each triangle, or null for a cloud. What is not read without doubt is refused.

import { readNpy } from "./npy.js";
import { readObj } from "./obj.js";
import { readOff } from "./off.js";
import { readPly } from "./ply.js";
import { readStl } from "./stl.js";
import { readTable } from "./tables.js";

const READERS = {
  ply: readPly, stl: readStl, obj: readObj, off: readOff,
  xyz: readTable, txt: readTable, csv: readTable, npy: readNpy,
};
const MOST_MISSING = 0.5; // a shape of which a larger part is no number is damaged

export const SUFFIXES = Object.keys(READERS);

/** Read `buffer`, an ArrayBuffer, by the suffix of its file's name. */
export function readShape(name, buffer) {
  const suffix = name.split(".").pop().toLowerCase();
  if (!SUFFIXES.includes(suffix)) throw new Error(`this page reads ${SUFFIXES.join(", ")}`);
  let shape;
  try {
    shape = READERS[suffix](new Uint8Array(buffer));
  } catch (error) {
    if (error.constructor === Error) throw error; // with a message of ours
    throw new Error(`cannot be read as ${suffix}, it may be damaged or cut short`);
  }
  const { points, faces, notes = [] } = shape;
  if (!points.length) throw new Error("it holds no points");
  return withoutMissing({ points: Float64Array.from(points), faces, notes });
}

/** A shape without points that are no numbers, and the faces at them. */
function withoutMissing({ points, faces, notes }) {
  const isFinite = (vertex) => [0, 1, 2].every((axis) => Number.isFinite(points[3 * vertex + axis]));
  const count = points.length / 3, all = Array.from({ length: count }, (_, vertex) => vertex);
  const used = faces?.length ? [...new Set(faces)] : all, bad = used.filter((vertex) => !isFinite(vertex));
  if (bad.length > MOST_MISSING * used.length) {
    throw new Error(`${bad.length} of ${used.length} points are no finite numbers`);
  }
  if (bad.length) notes = [...notes, `${bad.length} of ${used.length} points are no numbers and left out`];
  if (!faces) return { points: points.filter((_, value) => isFinite(Math.floor(value / 3))), faces, notes };
  const isWhole = (first) => [0, 1, 2].every((corner) => isFinite(faces[first + corner]));
  return { points, faces: faces.filter((_, corner) => isWhole(corner - (corner % 3))), notes };
}
