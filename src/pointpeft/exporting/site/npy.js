// NPY: an array of numbers (N, 3 or more), as NumPy saves it.

const KINDS = {
  f4: "Float32", f8: "Float64", i1: "Int8", i2: "Int16", i4: "Int32", i8: "BigInt64",
  u1: "Uint8", u2: "Uint16", u4: "Uint32", u8: "BigUint64",
};

const HEADER =
  /^\s*\{\s*'descr':\s*'([<>|=])(\w\d)',\s*'fortran_order':\s*(True|False),\s*'shape':\s*\(([\d, ]+)\),?\s*\}\s*$/;

export function readNpy(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = new TextDecoder("latin1").decode(bytes.subarray(0, 1 << 16));
  if (!text.startsWith("\x93NUMPY")) throw new Error("no NPY file");
  const start = bytes[6] === 1 ? 10 : 12;
  const end = start + (bytes[6] === 1 ? view.getUint16(8, true) : view.getUint32(8, true));
  const [, order, descr, turned, sizes] = HEADER.exec(text.slice(start, end)) ?? [];
  const kind = KINDS[descr];
  if (!kind) throw new Error("its numbers are of a kind that this page does not read: save float32");
  const shape = sizes.split(",").filter((size) => size.trim()).map(Number);
  const [rows, columns] = shape;
  if (shape.length !== 2 || columns < 3 || (columns > rows && rows >= 3)) {
    throw new Error(`its shape is (${shape.join(", ")}), a cloud has (N, 3); is it transposed?`);
  }
  const size = Number(descr[1]), isLittle = order !== ">", isTurned = turned === "True";
  if (bytes.length < end + rows * columns * size) throw new Error("cut short: its header says more");
  const points = [];
  for (let row = 0; row < rows; row++) {
    for (let axis = 0; axis < 3; axis++) {
      const place = isTurned ? axis * rows + row : row * columns + axis;
      points.push(Number(view[`get${kind}`](end + size * place, isLittle)));
    }
  }
  return { points, faces: null };
}
