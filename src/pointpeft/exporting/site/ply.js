// PLY: vertices and faces, in text and in binary of both byte orders.

import { decode, number, splitLines, wholeNumber, wordsOf } from "./text.js";
import { triangulate } from "./triangles.js";

const KINDS = {
  char: "Int8", int8: "Int8", uchar: "Uint8", uint8: "Uint8",
  short: "Int16", int16: "Int16", ushort: "Uint16", uint16: "Uint16",
  int: "Int32", int32: "Int32", uint: "Uint32", uint32: "Uint32",
  float: "Float32", float32: "Float32", double: "Float64", float64: "Float64",
};
const UNSIGNED = { Int8: "Uint8", Int16: "Uint16", Int32: "Uint32" }; // lengths are never negative
const FORMATS = ["ascii", "binary_little_endian", "binary_big_endian"];
const VERTICES = ["vertex", "vertices", "point", "points"];
const FACES = ["face", "faces", "polygon", "polygons"];
const CORNERS = /^(vert(ex|ices)?_?(ind(ex|ices|exes)|ids?)|indices)$/i;
const PASSED = ["ply", "comment", "obj_info", undefined]; // lines of a header without meaning here
const LENGTHS = { format: { any: 2 }, element: { any: 2 }, property: { any: 2, list: 4 } }; // words
const PADDING = 3; // bytes that may follow the data
const LONGEST = 1 << 20; // bytes of a header
const CUT = "cut short: it holds less than its header says";

export function readPly(bytes) {
  const { format, elements, body } = readHeader(bytes);
  const rows = format === "ascii" ? textRows(body, elements) : binaryRows(body, elements, format);
  const points = [], polygons = [];
  for (const { element, values } of rows) {
    if (element === elements.vertex) for (const place of element.axes) points.push(values[place]);
    if (element.corners === undefined) continue;
    for (const polygon of polygonsOf(element, values[element.corners])) polygons.push(polygon);
  }
  const faces = triangulate(points, polygons);
  return { points, faces: faces.length ? faces : null };
}

function readHeader(bytes) {
  const text = new TextDecoder("latin1").decode(bytes.subarray(0, LONGEST));
  const end = /[\r\n][ \t]*end_header[ \t]*(\r\n|\n|\r)/.exec(text);
  if (!text.startsWith("ply")) throw new Error("it does not begin with 'ply'");
  if (!end) throw new Error("cut short: its header has no end");
  const elements = [];
  let format;
  for (const [kind, ...words] of splitLines(text.slice(0, end.index)).map(wordsOf)) {
    if (PASSED.includes(kind)) continue;
    const isLong = [LENGTHS[kind]?.[words[0]], LENGTHS[kind]?.any].includes(words.length);
    if (!isLong || (kind === "property" && !elements.length)) {
      throw new Error(`its header has the line ${JSON.stringify([kind, ...words].join(" "))}`);
    }
    if (kind === "format") format = words[0];
    if (kind === "property") elements.at(-1).fields.push(fieldOf(words));
    if (kind === "element") {
      elements.push({ name: words[0].toLowerCase(), count: wholeNumber(words[1]), fields: [] });
    }
  }
  if (!FORMATS.includes(format)) throw new Error(`format ${format}: expected ${FORMATS.join(", ")}`);
  elements.forEach(understand);
  elements.vertex = elements.find(({ name }) => VERTICES.includes(name));
  if (!elements.vertex) throw new Error("no element 'vertex'");
  elements.vertex.axes = axesOf(elements.vertex.fields.map(({ name, isList }) => (isList ? "" : name)));
  return { format, elements, body: bytes.subarray(end.index + end[0].length) };
}

function fieldOf(words) {
  const isList = words[0] === "list", types = isList ? words.slice(1, 3) : words.slice(0, 1);
  const kinds = types.map((type) => KINDS[type]);
  if (kinds.includes(undefined)) throw new Error(`a property of the unknown type ${types.join(" ")}`);
  return { name: words.at(-1), isList, length: UNSIGNED[kinds[0]] ?? kinds[0], kind: kinds.at(-1) };
}

/** Which list of an element are corners of polygons or strips. */
function understand(element) {
  const { name, count, fields } = element;
  if (count && !fields.length) throw new Error(`element ${name} has no properties`);
  element.isStrips = name === "tristrips";
  if (!count || !(element.isStrips || FACES.includes(name))) return;
  const lists = fields.filter(({ isList }) => isList);
  const named = lists.find((field) => CORNERS.test(field.name));
  const chosen = named ?? (lists.length === 1 ? lists[0] : undefined);
  if (!chosen) throw new Error(`element ${name}: expected a list called vertex_indices`);
  if (chosen.kind.startsWith("Float")) throw new Error(`${chosen.name} are no whole numbers`);
  element.corners = fields.indexOf(chosen);
}

function axesOf(names) {
  for (const axes of [["x", "y", "z"], ["X", "Y", "Z"]]) {
    const places = axes.map((axis) => names.indexOf(axis));
    if (!places.includes(-1)) return places;
  }
  throw new Error(`vertices have ${names.join(", ")}: expected x, y and z`);
}

function polygonsOf({ isStrips }, corners) {
  if (!isStrips) return [corners];
  const triangles = [];
  for (let i = 0; i + 2 < corners.length; i++) {
    const triangle = corners.slice(i, i + 3); // a negative number begins a new strip
    if (triangle.every((corner) => corner >= 0)) triangles.push(triangle);
  }
  return triangles;
}

function* textRows(body, elements) {
  const lines = splitLines(decode(body)).filter((line) => line.trim());
  const promised = elements.reduce((sum, { count }) => sum + count, 0);
  if (lines.length !== promised) {
    throw new Error(`cut short, or not as its header says: ${promised} lines, it has ${lines.length}`);
  }
  let at = 0;
  for (const element of elements) {
    for (let row = 0; row < element.count; row++) {
      const words = wordsOf(lines[at++]), place = { next: 0 };
      const values = element.fields.map((field) => textValue(words, place, field));
      if (place.next !== words.length) throw new Error(`a row of ${element.name} has another length`);
      yield { element, values };
    }
  }
}

function textValue(words, place, { isList, kind }) {
  const read = kind.startsWith("Float") ? number : wholeNumber;
  if (!isList) return read(words[place.next++]);
  const size = wholeNumber(words[place.next++]), values = words.slice(place.next, place.next + size);
  if (values.length !== size) throw new Error(CUT);
  place.next += size;
  return values.map(read);
}

function* binaryRows(body, elements, format) {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const isLittle = format === "binary_little_endian";
  let offset = 0;
  const next = (kind) => {
    const size = Number(/\d+/.exec(kind)[0]) / 8;
    if (offset + size > body.length) throw new Error(CUT);
    offset += size;
    return view[`get${kind}`](offset - size, isLittle);
  };
  for (const element of elements) {
    for (let row = 0; row < element.count; row++) {
      const values = element.fields.map(({ isList, length, kind }) => {
        if (!isList) return next(kind);
        return Array.from({ length: next(length) }, () => next(kind));
      });
      yield { element, values };
    }
  }
  const rest = body.subarray(offset);
  if (rest.length > PADDING && rest.some((byte) => ![0, 10, 13, 32].includes(byte))) {
    throw new Error(`it has ${rest.length} bytes more than its header says`);
  }
}
