// Points in the plane and their order, as adakd/explore/plane.py has them: pure functions of (stream, seed, part, index),
// like adakd._hash, so that page and library train on the same numbers.

export const TAUGHT = 1000;
export const HELD_OUT = 1000;
// Streams.
const POINTS = 16;
const RADII = 17;
const ORDER = 18;

function mix(bits) {
  let x = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

const hashed = (stream, seed, part, index) =>
  [seed >>> 0, 0, part, index].reduce(
    (state, next) => mix((state + next + 0x9e3779b9) | 0),
    stream,
  );

const uniform = (...where) => (hashed(...where) + 0.5) / 2 ** 32;

// Box and Muller.
export const normal = (stream, seed, part, index) =>
  Math.sqrt(-2 * Math.log(uniform(stream, seed, 2 * part, index))) *
  Math.cos(2 * Math.PI * uniform(stream, seed, 2 * part + 1, index));

const around = (angle, radius) => [radius * Math.cos(angle), radius * Math.sin(angle)];
const spiral = (arm, along, K) =>
  around(2 * Math.PI * (arm / K + (2.25 * along) / K), 0.12 + 0.88 * along);

// Where class k of K is; of spirals, where the middle of its arm is.
export const CENTER = {
  ring: (k, K) => around((2 * Math.PI * k) / K, 0.8),
  pair: (k, K) => around((2 * Math.PI * (k < 2 ? (k - 0.5) / 4 : k - 1)) / (K - 1), 0.8),
  sunflower: (k, K) => around(k * Math.PI * (3 - Math.sqrt(5)), 0.95 * Math.sqrt((k + 0.5) / K)),
  spirals: (k, K) => spiral(k, 0.5, K),
};

export function makePoints({ data, classes, noise, seed }, count = TAUGHT + HELD_OUT) {
  const x = new Float64Array(2 * count);
  const y = new Uint8Array(count);
  for (let i = 0; i < count; i += 1) {
    y[i] = i % classes;
    const place =
      data === "spirals"
        ? spiral(y[i], uniform(RADII, seed, 0, i), classes)
        : CENTER[data](y[i], classes);
    for (const axis of [0, 1])
      x[2 * i + axis] = place[axis] + noise * normal(POINTS, seed, axis, i);
  }
  return { x, y };
}

const latest = { key: "", order: null }; // two students read the same

// Indices of a step's batch; each epoch has an order of its own, whose rest is left out.
export function batchOf(seed, step, points, size) {
  const whole = Math.floor(points / size);
  const epoch = Math.floor(step / whole);
  const place = step % whole;
  const key = [seed, epoch, points].join();
  if (latest.key !== key) {
    const keys = Float64Array.from({ length: points }, (_, i) => hashed(ORDER, seed, epoch, i));
    latest.key = key;
    latest.order = Array.from(keys.keys()).sort((i, j) => keys[i] - keys[j]);
  }
  return latest.order.slice(place * size, (place + 1) * size);
}

export function pick(x, y, batch) {
  const inputs = new Float64Array(2 * batch.length);
  const labels = new Uint8Array(batch.length);
  batch.forEach((i, row) => {
    inputs.set(x.subarray(2 * i, 2 * i + 2), 2 * row);
    labels[row] = y[i];
  });
  return { inputs, labels };
}
