// Text of a shape file: decoded, split into lines, and its numbers.

const HEAD = 4096; // bytes that show whether a file is text
const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;
const MISSING = /^[-+]?(nan(\(\S*\))?|inf(inity)?|1\.#(ind|qnan|snan|inf)\d*)$/i;

/** The text of a file; what is no UTF-8 is taken for Windows-1252. */
export function decode(bytes) {
  const isWide = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
  if (isWide || bytes.subarray(0, HEAD).includes(0)) {
    throw new Error("binary data, or text in UTF-16 or UTF-32: save text in UTF-8");
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

export const splitLines = (text) => text.split(/\r\n|\r|\n/);

export const wordsOf = (line) => line.trim().split(/\s+/).filter(Boolean);

/** The number that a word spells; NaN where it says that there is none. */
export function number(word) {
  if (NUMBER.test(word)) return Number(word);
  if (MISSING.test(word)) return NaN;
  throw new Error(`${JSON.stringify(word ?? "nothing")} is no number; write 0.5, not 0,5`);
}

export const isNumber = (word) => NUMBER.test(word) || MISSING.test(word);

export function wholeNumber(word) {
  if (/^[-+]?\d+$/.test(word)) return Number(word);
  throw new Error(`${JSON.stringify(word ?? "nothing")} is no whole number`);
}
