// OFF: vertices and faces in text, with any prefix.

import { decode, number, splitLines, wholeNumber, wordsOf } from "./text.js";
import { triangulate } from "./triangles.js";

const BESIDE = { ST: 2, C: 4, N: 3 }; // numbers beside x, y, z that a prefix adds to a vertex

export function readOff(bytes) {
  const lines = splitLines(decode(bytes)).map((line) => wordsOf(line.replace(/#.*/, "")));
  let rows = lines.filter((words) => words.length);
  const isBare = rows[0]?.length === 3 && rows[0].every((word) => /^\d+$/.test(word));
  if (isBare) rows.unshift(["OFF"]); // the word may be left out
  const head = /^(ST)?(C)?(N)?(4)?(n)?(?:OFF|off)/.exec(rows[0]?.[0] ?? "");
  if (!head) throw new Error("its first word is not OFF");
  if (head[4] || head[5]) throw new Error(`${head[0]}: points of other than three dimensions`);
  rows[0][0] = rows[0][0].slice(head[0].length); // some write "OFF490 518 0"
  rows[0] = rows[0].filter(Boolean);
  if (rows[0][0] === "BINARY") throw new Error("a binary OFF file: save it as text or as PLY");
  rows = rows.filter((words) => words.length);
  const prefixes = Object.keys(BESIDE).filter((prefix) => head.slice(1, 4).includes(prefix));
  const width = prefixes.reduce((sum, prefix) => sum + BESIDE[prefix], 3);
  const { vertices, faces } = byLines(rows) ?? byWords(rows.flat(), width);
  const points = vertices.flat().map(number);
  const triangles = triangulate(points, faces.map((face) => face.map(wholeNumber)));
  return { points, faces: faces.length ? triangles : null };
}

/** A file with a line for each vertex and face; null: it has another form. */
function byLines(rows) {
  if (rows[0]?.length !== 2 && rows[0]?.length !== 3) return null;
  const [numVertices, numFaces] = rows[0].map(wholeNumber), end = 1 + numVertices;
  const vertices = rows.slice(1, end), faces = rows.slice(end, end + numFaces);
  if (vertices.length < numVertices || faces.length < numFaces) return null;
  const isByLines = rows.length === end + numFaces;
  const isWhole =
    vertices.every((row) => row.length >= 3 && row.length === vertices[0].length) &&
    faces.every((row) => wholeNumber(row[0]) >= 0 && wholeNumber(row[0]) < row.length);
  if (!isWhole && isByLines) throw new Error("a vertex or face is not whole");
  if (!isWhole) return null;
  if (!isByLines) throw new Error(`it has ${rows.length - end} faces, its header says ${numFaces}`);
  return {
    vertices: vertices.map((row) => row.slice(0, 3)),
    faces: faces.map((row) => row.slice(1, 1 + wholeNumber(row[0]))),
  };
}

/** A file in which line ends mean nothing. */
function byWords(words, width) {
  const [numVertices, numFaces] = words.slice(0, 2).map(wholeNumber), vertices = [], faces = [];
  let at = 3 + numVertices * width;
  if (!(words.length >= at)) throw new Error(`cut short: its header says ${numVertices} vertices`);
  for (let start = 3; start < at; start += width) vertices.push(words.slice(start, start + 3));
  while (faces.length < numFaces && at < words.length) {
    const end = at + 1 + wholeNumber(words[at]);
    if (end <= at || end > words.length) break;
    faces.push(words.slice(at + 1, end));
    at = end;
  }
  if (faces.length < numFaces) throw new Error(`cut short: its header says ${numFaces} faces`);
  if (at < words.length) throw new Error("it has more numbers than its header says");
  return { vertices, faces };
}
