// Numbers and words as the figures show them.

export const signed = (text) => text.replace("-", "−");

// About three digits.
export function num(x) {
  const size = Math.abs(x);
  if (size < 5e-5) return "0";
  if (size < 0.01) return signed(String(Number(x.toPrecision(2))));
  return signed(x.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3));
}

export const both = (a, b) => `${num(a)} / ${num(b)}`;

// Of an index of letters below: f₁₂.
export const subscript = (n) =>
  String(n).replace(/\d/g, (digit) => String.fromCharCode(8320 + Number(digit)));

// What a table has under a name that comes from outside, an address or a key: toString is no entry of it.
export const entryOf = (table, name) => (Object.hasOwn(table, name) ? table[name] : undefined);

// The same keys with other values.
export const mapValues = (table, change) =>
  Object.fromEntries(Object.entries(table).map(([key, value]) => [key, change(value, key)]));
