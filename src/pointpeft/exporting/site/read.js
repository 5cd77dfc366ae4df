// Files of shapes as points and triangles: PLY, STL, OBJ, OFF and XYZ.
//
// A shape is {points, faces}: points is a Float64Array of x, y, z in turn, faces an array of vertex
// numbers, three for each triangle, or null for a cloud. Polygons become fans of triangles.

const READERS = { ply: readPly, stl: readStl, obj: readObj, off: readOff, xyz: readXyz, txt: readXyz };

export const SUFFIXES = Object.keys(READERS);

export function readShape(name, buffer) {
  const suffix = name.split(".").pop().toLowerCase();
  if (!(suffix in READERS)) {
    throw new Error(`${name}: this page reads ${SUFFIXES.join(", ")}`);
  }
  const shape = READERS[suffix](buffer);
  const count = shape.points.length / 3;
  if (count === 0) throw new Error(`${name} holds no points`);
  if (shape.faces?.some((corner) => !(corner >= 0 && corner < count))) {
    throw new Error(`${name}: a face names a vertex that does not exist, there are ${count}`);
  }
  return shape;
}

// Lines end in "\n" alone from here on.
const textOf = (buffer) => new TextDecoder().decode(buffer).replace(/\r\n?/g, "\n");

function shapeOf(points, faces) {
  return { points: Float64Array.from(points), faces: faces.length ? faces : null };
}

function addFan(faces, corners) {
  for (let i = 1; i + 1 < corners.length; i++) faces.push(corners[0], corners[i], corners[i + 1]);
}

function readXyz(buffer) {
  const points = [];
  textOf(buffer).split("\n").forEach((line, place) => {
    const words = line.replace(/#.*/, "").split(/[\s,;]+/).filter(Boolean);
    if (words.length < 3) return; // empty, or a count of points
    const numbers = words.slice(0, 3).map(Number);
    if (numbers.every((n) => !Number.isNaN(n))) points.push(...numbers);
    else if (points.length) throw new Error(`line ${place + 1} does not begin with three numbers`);
  });
  return shapeOf(points, []);
}

function readObj(buffer) {
  const points = [], faces = [];
  for (const line of textOf(buffer).replace(/#.*/g, "").replace(/\\\n/g, " ").split("\n")) {
    const words = line.trim().split(/\s+/);
    if (words[0] === "v") points.push(...words.slice(1, 4).map(Number));
    if (words[0] === "f") {
      const corners = words.slice(1).map((word) => parseInt(word, 10));
      // Numbers begin with 1; negative ones count back from the last vertex so far.
      addFan(faces, corners.map((n) => (n < 0 ? points.length / 3 + n : n - 1)));
    }
  }
  return shapeOf(points, faces);
}

function readOff(buffer) {
  const lines = textOf(buffer).split("\n").map((line) => line.replace(/#.*/, "").trim());
  const rows = lines.filter(Boolean);
  const head = /^(C|N|CN|ST)?OFF\s*/.exec(rows[0] ?? "");
  if (!head) throw new Error("the file does not begin with OFF");
  rows[0] = rows[0].slice(head[0].length); // some writers put the counts into the first line
  if (!rows[0]) rows.shift();
  const [numVertices, numFaces] = rows.shift().split(/\s+/).map(Number);
  const points = [], faces = [];
  for (const row of rows.slice(0, numVertices)) {
    points.push(...row.split(/\s+/).slice(0, 3).map(Number));
  }
  for (const row of rows.slice(numVertices, numVertices + numFaces)) {
    const [size, ...corners] = row.split(/\s+/).map(Number);
    addFan(faces, corners.slice(0, size));
  }
  if (points.length !== 3 * numVertices) throw new Error("the file ends before its last vertex");
  return shapeOf(points, faces);
}

function readStl(buffer) {
  const view = new DataView(buffer);
  const count = buffer.byteLength >= 84 ? view.getUint32(80, true) : -1;
  const points = [];
  if (buffer.byteLength === 84 + 50 * count) {
    for (let face = 0; face < count; face++) {
      for (let value = 0; value < 9; value++) {
        points.push(view.getFloat32(84 + 50 * face + 12 + 4 * value, true));
      }
    }
  } else {
    for (const found of textOf(buffer).matchAll(/vertex\s+(\S+)\s+(\S+)\s+(\S+)/g)) {
      points.push(Number(found[1]), Number(found[2]), Number(found[3]));
    }
    if (points.length % 9) throw new Error("the file ends within a triangle");
  }
  return shapeOf(points, Array.from({ length: points.length / 3 }, (_, corner) => corner));
}

const PLY_TYPES = {
  char: ["Int8", 1], int8: ["Int8", 1], uchar: ["Uint8", 1], uint8: ["Uint8", 1],
  short: ["Int16", 2], int16: ["Int16", 2], ushort: ["Uint16", 2], uint16: ["Uint16", 2],
  int: ["Int32", 4], int32: ["Int32", 4], uint: ["Uint32", 4], uint32: ["Uint32", 4],
  float: ["Float32", 4], float32: ["Float32", 4], double: ["Float64", 8], float64: ["Float64", 8],
};

function readPly(buffer) {
  const start = new TextDecoder("latin1").decode(buffer.slice(0, 1 << 16));
  const end = /end_header[ \t]*\r?\n/.exec(start);
  if (!start.startsWith("ply") || !end) throw new Error("the file has no header of PLY");
  const header = start.slice(0, end.index).split(/\r?\n/).map((line) => line.trim().split(/\s+/));
  const format = header.find((words) => words[0] === "format")[1];
  const elements = [];
  for (const [kind, ...words] of header) {
    if (kind === "element") elements.push({ name: words[0], count: Number(words[1]), fields: [] });
    if (kind !== "property") continue;
    const isList = words[0] === "list";
    const types = isList ? words.slice(1, 3) : words.slice(0, 1);
    elements.at(-1).fields.push({ name: words.at(-1), isList, types });
  }
  const offset = end.index + end[0].length;
  const next = format === "ascii" ? wordsOf(buffer, offset) : bytesOf(buffer, offset, format);
  const points = [], faces = [];
  for (const { name, count, fields } of elements) {
    for (let row = 0; row < count; row++) {
      const vertex = { x: NaN, y: NaN, z: NaN };
      for (const field of fields) {
        const size = field.isList ? next(field.types[0]) : 1;
        const values = [];
        for (let i = 0; i < size; i++) values.push(next(field.types.at(-1)));
        if (name === "vertex") vertex[field.name] = values[0];
        if (name === "face" && /^vertex_ind/.test(field.name)) addFan(faces, values);
      }
      if (name === "vertex") points.push(vertex.x, vertex.y, vertex.z);
    }
  }
  return shapeOf(points, faces);
}

function wordsOf(buffer, offset) {
  const words = textOf(buffer.slice(offset)).split(/\s+/).filter(Boolean);
  let place = 0;
  return () => {
    if (place === words.length) throw new Error("the file ends before its last value");
    return Number(words[place++]);
  };
}

function bytesOf(buffer, offset, format) {
  const view = new DataView(buffer), little = format === "binary_little_endian";
  return (type) => {
    const [kind, size] = PLY_TYPES[type];
    const value = view[`get${kind}`](offset, little);
    offset += size;
    return value;
  };
}
