// The playground's setting in the address of its page, so that it can be shared.

import { METHODS, RANGES, START, WHOLE } from "./from-python.js";
import { entryOf } from "./words.js";

const MARK = "#playground?";
const METHOD_NAMES = Object.keys(METHODS);
const ALLOWED = { ...RANGES, a: METHOD_NAMES, b: METHOD_NAMES }; // lowest and highest value, or all values

// What is not as at the start.
export function toAddress(state) {
  const differs = (name) => JSON.stringify(state[name]) !== JSON.stringify(START[name]);
  const changed = Object.keys(START).filter((name) => name !== "step" && differs(name));
  return MARK + new URLSearchParams(changed.map((name) => [name, String(state[name])]));
}

// The value that a text stands for; undefined where it is none.
function readValue(name, text) {
  const allowed = entryOf(ALLOWED, name);
  if (!allowed || name === "step") return undefined;
  const fits = (x) => Number.isFinite(x) && x >= allowed[0] && x <= allowed[1];
  if (name === "probe") {
    const place = text.split(",").map(Number);
    return place.length === 2 && place.every(fits) ? place : undefined;
  }
  if (typeof allowed[0] === "string") return allowed.includes(text) ? text : undefined;
  const value = Number(text);
  const isWhole = !WHOLE.includes(name) || Number.isInteger(value);
  return fits(value) && isWhole ? value : undefined;
}

// A whole state; what cannot be is left at the start.
export function fromAddress(hash) {
  if (!hash.startsWith(MARK)) return null;
  const state = { ...START };
  for (const [name, text] of new URLSearchParams(hash.slice(MARK.length))) {
    const value = readValue(name, text);
    if (value !== undefined) state[name] = value;
  }
  return state;
}
