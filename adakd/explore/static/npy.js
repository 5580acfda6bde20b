// Files that numpy.save writes, read in the page: arrays of numbers, in the order of C.

const FLOATS = { "<f2": Uint16Array, "<f4": Float32Array, "<f8": Float64Array };
const INTEGERS = {
  "|i1": Int8Array,
  "|u1": Uint8Array,
  "<i2": Int16Array,
  "<u2": Uint16Array,
  "<i4": Int32Array,
  "<u4": Uint32Array,
  "<i8": BigInt64Array,
  "<u8": BigUint64Array,
};

// Sign, five bits of exponent, ten of fraction.
function half(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size =
    exponent === 31
      ? fraction
        ? Number.NaN
        : Infinity
      : exponent
        ? (1024 + fraction) * 2 ** (exponent - 25)
        : fraction * 2 ** -24;
  return bits >> 15 ? -size : size;
}

function fromHalves(bits) {
  const table = Float32Array.from({ length: 65536 }, (_, i) => half(i));
  return new Float32Array(bits.length).map((_, i) => table[bits[i]]);
}

// Fortran's order, whose first axis is the fastest, to that of C, whose last is.
function lastAxisFirst(values, shape) {
  const strides = shape.map((_, axis) => shape.slice(0, axis).reduce((a, b) => a * b, 1));
  const at = shape.map(() => 0);
  let from = 0;
  return new values.constructor(values.length).map(() => {
    const value = values[from];
    for (let axis = shape.length - 1; axis >= 0; axis -= 1) {
      at[axis] += 1;
      from += strides[axis];
      if (at[axis] < shape[axis]) break;
      from -= strides[axis] * shape[axis];
      at[axis] = 0;
    }
    return value;
  });
}

function headerOf(buffer) {
  const view = new DataView(buffer);
  const magic = String.fromCharCode(...new Uint8Array(buffer, 0, Math.min(6, buffer.byteLength)));
  if (magic !== "\x93NUMPY" || buffer.byteLength < 12) return null;
  const long = view.getUint8(6) > 1;
  const begin = long ? 12 : 10;
  const end = begin + (long ? view.getUint32(8, true) : view.getUint16(8, true));
  if (end > buffer.byteLength) return null;
  const text = new TextDecoder("latin1").decode(new Uint8Array(buffer, begin, end - begin));
  const shape = /'shape': *\(([\d, ]*)\)/.exec(text);
  if (!shape) return null;
  return {
    type: /'descr': *'([^']*)'/.exec(text)?.[1] ?? "a structure",
    fortran: /'fortran_order': *True/.test(text),
    shape: shape[1].split(",").flatMap((n) => (n.trim() ? [Number(n)] : [])),
    end,
  };
}

// { shape, values } of an ArrayBuffer; `name` is what the errors call it, `integers` whether it holds labels.
export function readNpy(buffer, name, integers = false) {
  const header = headerOf(buffer);
  if (!header) {
    throw new Error(
      `${name}: expected a .npy file, got something else; numpy.save writes one, and the command adakd advise reads ` +
        ".safetensors too",
    );
  }
  const { type, fortran, shape, end } = header;
  const kinds = integers ? INTEGERS : FLOATS;
  if (!Object.hasOwn(kinds, type)) {
    throw new Error(
      integers
        ? `${name}: expected little-endian integers, a class for each image, got dtype '${type}'; astype('int64') makes them`
        : `${name}: expected little-endian float16, float32 or float64, got dtype '${type}'; save the logits, which are ` +
            "what a network gives before softmax or argmax, by astype('float32')",
    );
  }
  const Kind = kinds[type];
  const count = shape.reduce((a, b) => a * b, 1);
  const there = (buffer.byteLength - end) / Kind.BYTES_PER_ELEMENT;
  if (there < count) {
    throw new Error(
      `${name}: expected ${count} numbers, as its header says, got ${Math.floor(there)}; the file is cut short: copy it again`,
    );
  }
  if (there > count) {
    throw new Error(
      `${name}: expected one array of shape (${shape.join(", ")}), and more bytes follow it; join arrays by numpy.concatenate, ` +
        "and save that",
    );
  }
  let values = new Kind(buffer.slice(end, end + count * Kind.BYTES_PER_ELEMENT));
  if (type === "<f2") values = fromHalves(values);
  if (integers) values = Float64Array.from(values, Number);
  return { shape, values: fortran ? lastAxisFirst(values, shape) : values };
}
