// Clouds in text: a point a line. What could be read in two ways is refused.

import { decode, isNumber, number, splitLines } from "./text.js";

const SEPARATORS = [";", "\t", ",", "|", " "]; // a space stands for any white space
const WORD = /[A-Z]?[a-zäöü]+|[A-ZÄÖÜ]+(?![a-zäöü])|\d+/g;
const AXES = new Set(
  ("x y z e n h u easting northing east north height elevation elev altitude alt up " +
   "rechtswert hochwert hoehe höhe").split(" "),
);
const COUNT = /(?:number of points|points|vertices)\s*[:=]\s*(\d+)/i;
const WHOLE = /^[-+]?\d+(e[-+]?\d+)?$/i;

export function readTable(bytes) {
  const lines = splitLines(decode(bytes)).map((line, place) => ({ line, place: place + 1 }));
  const full = lines.filter(({ line }) => line.trim());
  const { start, separator } = findData(full);
  const rows = full.slice(start).filter(({ line }) => !isComment(line));
  const width = fields(rows[0].line, separator).length;
  const { columns, isSure } = findColumns(full.slice(0, start), separator, width);
  const points = [], table = rows.map((row) => ({ ...row, words: fields(row.line, separator) }));
  for (const { words, line, place } of table) {
    try {
      if (words.length !== width) throw new Error(`${words.length} columns, not ${width}`);
      for (const column of columns) points.push(words[column] ? number(words[column]) : NaN);
    } catch (error) {
      throw new Error(`line ${place}: ${error.message}, in ${JSON.stringify(line.trim().slice(0, 60))}`);
    }
  }
  checkCount(full.slice(0, start), table.length);
  if (!isSure) refuseDoubt(table, separator, width);
  return { points, faces: null };
}

/** The first line with three numbers, and what separates its columns. */
function findData(full) {
  for (const [start, { line }] of full.entries()) {
    if (isComment(line)) continue;
    const separator = SEPARATORS.find((mark) => fields(line, mark).filter(isNumber).length >= 3);
    if (separator) return { start, separator };
  }
  throw new Error("no line with three numbers; expected one 'x y z' or 'x,y,z' a line, 0.5 and not 0,5");
}

function fields(line, separator) {
  const words = separator === " " ? line.trim().split(/\s+/) : line.split(separator);
  const plain = words.map((word) => word.trim().replace(/^"(.*)"$/, "$1").trim());
  while (plain.length > 3 && !plain.at(-1)) plain.pop(); // separators may end a line
  return plain;
}

function isComment(line) {
  const text = line.trim();
  return /^(#|\/\/|%|;|!)/.test(text) && !(text[0] === ";" && text.split(";").length > 2);
}

/** Places of x, y and z, and whether the lines above the data name all columns. */
function findColumns(head, separator, width) {
  let found = null;
  for (const [place, { line, place: row }] of head.entries()) {
    if (place === 0 && /^\d+$/.test(line.trim())) continue; // a count of points
    const text = line.trim().replace(/^(#|\/\/|%|;|!)+/, "").trim();
    const names = isComment(line) ? text.split(/[\s,;|]+/) : fields(line, separator);
    const axes = ["x", "y", "z"].map((axis) => names.findIndex((name) => name.toLowerCase() === axis));
    const isWhole = !axes.includes(-1) && names.filter((name) => /^[xyz]$/i.test(name)).length === 3;
    const areFirst = isComment(line) && names.length < width && axes.join() === "0,1,2";
    if (isWhole && !found && (names.length === width || areFirst)) {
      found = { columns: axes, isSure: names.length === width };
    } else if (!isComment(line) || mayName(text, width)) throw doubt(row, line);
  }
  return found ?? { columns: [0, 1, 2], isSure: false };
}

/** Whether a remark could say which column is what, in other words than x, y and z. */
function mayName(text, width) {
  const words = (text.match(WORD) ?? []).map((word) => word.toLowerCase());
  const isNumbered = ["0", "1", "2"].every((word) => words.includes(word));
  const parts = text.split(/[\s,;|]+/), areNames = parts.every((part) => !isNumber(part));
  return isNumbered || words.some((word) => AXES.has(word)) || (areNames && parts.length === width);
}

const doubt = (place, line) =>
  new Error(
    `line ${place} may name columns in a way that this page does not know: put a line with names ` +
    `such as x y z above the data, and no other; it is ${JSON.stringify(line.trim().slice(0, 60))}`,
  );

function checkCount(head, count) {
  for (const { line, place } of head) {
    const said = isComment(line) ? COUNT.exec(line) : /^(\d+)$/.exec(line.trim());
    if (said && Number(said[1]) !== count) {
      throw new Error(`line ${place} says ${said[1]} points, there are ${count}: cut short, or no such table`);
    }
  }
}

/** Refuse columns without names of which the first three may be no coordinates. */
function refuseDoubt(table, separator, width) {
  const advice = "put a line with names such as x y z above the data";
  const firsts = table.map(({ words }) => Number(words[0]));
  if (width > 3 && table.length > 2 && firsts.every((value, i) => i === 0 || value > firsts[i - 1])) {
    throw new Error(`the first of ${width} columns may number the rows: ${advice}`);
  }
  if (table[0].words.filter(Boolean).every((word, place) => word === String(place))) {
    throw new Error(`the first row may number the columns: ${advice}`);
  }
  const isWhole = table.every(({ words }) => words.every((word) => WHOLE.test(word)));
  if (separator === "," && width >= 6 && isWhole) {
    throw new Error(`commas may be decimal ones: ${advice}`);
  }
}
