// STL: triangles, in binary and in text.

import { decode, number, wordsOf } from "./text.js";
import { triangulate } from "./triangles.js";

const HEADER = 84, TRIANGLE = 50; // bytes
const FACET =
  /\bfacet\s+normal\s+\S+\s+\S+\s+\S+\s+outer\s+loop\s+((?:vertex\s+\S+\s+\S+\s+\S+\s+){3,})endloop\s+endfacet\b/gi;
const STRAY = /\bouter\s+loop\b|\bendloop\b|\bendfacet\b|\bvertex\s+[-+.\d]/i;
const SOLID = /\b(?:end\s*)?solid\b(?:(?!\bfacet\s+normal\s)[^\r\n])*/gi; // with its name
const END = /\bend\s*solid\b/i;

export function readStl(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = bytes.length >= HEADER ? view.getUint32(HEADER - 4, true) : -1;
  if (bytes.length === HEADER + TRIANGLE * count) return readBinary(view, count);
  if (bytes.subarray(0, HEADER).includes(0)) {
    throw new Error(`cut short, or too long: its header says ${count} triangles`);
  }
  return readText(decode(bytes));
}

function readBinary(view, count) {
  const points = new Float64Array(9 * count);
  for (let value = 0; value < points.length; value++) {
    const at = HEADER + TRIANGLE * Math.floor(value / 9) + 12 + 4 * (value % 9);
    points[value] = view.getFloat32(at, true);
  }
  return { points, faces: Array.from({ length: 3 * count }, (_, corner) => corner) };
}

function readText(text) {
  if (!/^\s*(solid|facet)/i.test(text)) throw new Error("it does not begin with 'solid'");
  const points = [], polygons = [], gaps = text.split(FACET).filter((_, place) => place % 2 === 0);
  for (const [place, gap] of gaps.entries()) {
    const isWhole = place === gaps.length - 1 && !END.test(gap); // else cut short, see below
    if (STRAY.test(gap.replace(SOLID, "")) && !isWhole) {
      throw new Error("a facet without three vertices of three numbers each");
    }
  }
  if (gaps.at(-1).trim() && !END.test(gaps.at(-1))) throw new Error("cut short: no 'endsolid' at its end");
  for (const found of text.matchAll(FACET)) {
    const words = wordsOf(found[1]).filter((_, place) => place % 4), first = points.length / 3;
    for (const word of words) points.push(number(word));
    polygons.push(Array.from({ length: words.length / 3 }, (_, corner) => first + corner));
  }
  const notes = END.test(gaps.at(-1)) ? [] : ["no 'endsolid' at its end: read as far as it goes"];
  return { points, faces: triangulate(points, polygons), notes };
}
