// Wavefront OBJ: vertices and faces.

import { decode, number, splitLines, wholeNumber, wordsOf } from "./text.js";
import { largest, triangulate } from "./triangles.js";

const COUNTED = // a comment of counts and nothing else
  /^#\W*(?:\d+\s+(?:vertices|faces|polygons)|(?:vertices|faces)\s*[:=]\s*\d+)(?:[\s,;-]+\d+\s+[a-z]\w*)*\W*$/i;
const COUNTS = /(\d+)\s+(vertices|faces|polygons)\b|(vertices|faces)\s*[:=]\s*(\d+)/gi;
const FEW = 16; // vertices below which a folded sheet and a cut solid cannot be told apart
const TAIL = 0.25; // part of the vertices that no face uses, above which faces are missing

export function readObj(bytes) {
  const text = decode(bytes), points = [], polygons = [];
  let last = "", hasSurface = false;
  for (const [place, line] of logicalLines(text)) {
    const [kind, ...words] = wordsOf(line);
    last = kind;
    try {
      if (kind === "v") for (const axis of [0, 1, 2]) points.push(number(words[axis]));
      if (kind === "f" || kind === "fo") polygons.push(words.map((word) => corner(word, points.length / 3)));
    } catch (error) {
      throw new Error(`line ${place}: ${error.message}, in ${JSON.stringify(line.trim().slice(0, 60))}`);
    }
    hasSurface ||= ["curv", "curv2", "surf"].includes(kind);
  }
  if (["f", "fo"].includes(last) && polygons.at(-1)?.length < 3) throw new Error("cut short in its last face");
  if (hasSurface && !polygons.length) throw new Error("free-form surfaces are not read: save it as a mesh");
  checkCounts(text, points.length / 3, polygons);
  const faces = triangulate(points, polygons);
  refuseMissingFaces(points, polygons);
  return { points, faces: polygons.length ? faces : null };
}

/** Lines with their numbers, continued ones joined, without comments. */
function* logicalLines(text) {
  let before = "";
  const lines = splitLines(text);
  for (const [place, line] of lines.entries()) {
    const mark = line.indexOf("#"); // a backslash in a comment continues nothing
    const code = before + (mark < 0 ? line : line.slice(0, mark)).trimEnd();
    before = "";
    if (mark < 0 && code.endsWith("\\")) before = `${code.slice(0, -1)} `;
    const whole = before && place + 1 === lines.length ? before : before ? "" : code;
    if (whole.trim()) yield [place + 1, whole];
  }
}

/** The vertex, counted from 0, of `v`, `v/vt`, `v//vn` or `v/vt/vn`; negative ones count back. */
function corner(word, count) {
  const given = wholeNumber(word.split("/")[0]);
  if (given === 0 || given < -count) throw new Error(`a face names vertex ${given}`);
  return given > 0 ? given - 1 : count + given;
}

function checkCounts(text, numVertices, polygons) {
  const numTriangles = polygons.reduce((sum, corners) => sum + Math.max(0, corners.length - 2), 0);
  const comments = [...text.matchAll(/#[^\r\n]*/g)].map(([comment]) => comment);
  for (const found of comments.filter((each) => COUNTED.test(each)).join("\n").matchAll(COUNTS)) {
    const kind = (found[2] ?? found[3]).toLowerCase(), said = Number(found[1] ?? found[4]);
    const held = kind === "vertices" ? numVertices : polygons.length;
    if (held < said && !(kind !== "vertices" && said === numTriangles)) {
      throw new Error(`cut short: a comment says ${said} ${kind}, it has ${held}`);
    }
  }
}

/** Refuse what looks cut within its faces, which the format does not count. */
function refuseMissingFaces(points, polygons) {
  const used = new Set(polygons.flat()), count = points.length / 3;
  let most = -1;
  for (const vertex of used) most = Math.max(most, vertex);
  const spare = count - 1 - most;
  if (used.size > 2 && spare >= FEW && spare > TAIL * count) {
    throw new Error(`its last ${spare} of ${count} vertices belong to no face: cut short in its faces`);
  }
  if (used.size < 4 || used.size >= FEW || polygons.length < 2 || isFlat(points, [...used])) return;
  const border = openEdges(polygons), loop = new Set(border[0] ?? []);
  for (let grown = true; grown; ) {
    const next = border.find((edge) => loop.has(edge[0]) !== loop.has(edge[1]));
    next?.forEach((vertex) => loop.add(vertex));
    grown = next !== undefined;
  }
  if (loop.size === used.size) {
    throw new Error("its few faces leave a border through all vertices: it may be cut short; save it as PLY");
  }
}

function openEdges(polygons) {
  const seen = new Map();
  for (const corners of polygons) {
    for (const [i, from] of corners.entries()) {
      const edge = [from, corners[(i + 1) % corners.length]].sort((a, b) => a - b);
      const [, times] = seen.get(edge.join()) ?? [edge, 0];
      seen.set(edge.join(), [edge, times + 1]);
    }
  }
  return [...seen.values()].filter(([, times]) => times === 1).map(([edge]) => edge);
}

/** Whether vertices lie in a plane, or some of them nowhere. */
function isFlat(points, vertices) {
  const at = (vertex, axis) => points[3 * vertex + axis];
  const arms = vertices.map((vertex) => [0, 1, 2].map((axis) => at(vertex, axis) - at(vertices[0], axis)));
  const size = largest(arms.flat());
  let volume = 0;
  for (const a of arms) for (const b of arms) for (const c of arms) {
    const n = [b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]];
    volume = Math.max(volume, Math.abs(a[0] * n[0] + a[1] * n[1] + a[2] * n[2]));
  }
  return !(volume > 1e-6 * size ** 3);
}
