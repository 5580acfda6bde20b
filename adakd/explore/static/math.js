// The formulas of the figures, each stated once. A row is an array of K numbers, one a class; τ is a temperature.
// They are a second statement of adakd's own: tests/explore compares the two to 1e-6.

export const C_UPPER = (1 + Math.sqrt(3)) / 2; // c₂⁺, Eq. 20
export const C_LOWER = (Math.sqrt(3) - 1) / 2; // c₂⁻, the end that the paper leaves out

// ---- rows ----

export const sum = (row) => row.reduce((total, x) => total + x, 0);
export const mean = (row) => sum(row) / row.length;
export const highest = (row) => row.reduce((best, x) => Math.max(best, x), -Infinity);
export const lowest = (row) => row.reduce((best, x) => Math.min(best, x), Infinity);
export function centered(row) {
  const center = mean(row);
  return row.map((x) => x - center);
}
export const minus = (a, b) => a.map((x, k) => x - b[k]);
export const inner = (a, b) => sum(a.map((x, k) => x * b[k]));
export const norm = (row) => Math.sqrt(inner(row, row));
export const cosine = (a, b) => inner(a, b) / (norm(a) * norm(b));
export const without = (row, label) => row.filter((_, k) => k !== label);
export const clamp = (low, x, high) => Math.max(low, Math.min(high, x));

// ---- standardization ----

// Pearson's correlation of two standardized rows.
export const pearson = (z, other) => inner(z, other) / z.length;

// Degrees of freedom less than K, and what is added to σ: adakd.logits.STANDARDIZATIONS.
const KINDS = { population: [0, 0], sample: [1, 1e-7] };

// The standardized row z, and what its gradient needs.
export function spread(row, kind = "population") {
  const [less, epsilon] = KINDS[kind];
  const deviations = centered(row);
  const freedom = row.length - less;
  const sigma = Math.sqrt(inner(deviations, deviations) / freedom);
  const divisor = sigma + epsilon;
  return { z: deviations.map((x) => x / divisor), sigma, divisor, freedom };
}

export const standardize = (row, kind) => spread(row, kind).z;

// Gradient by the standardized row -> gradient by the row: no part along 1, none along z, and 1/σ.
export function throughSpread(gradient, { z, sigma, divisor, freedom }) {
  const center = mean(gradient);
  const along = inner(gradient, z) / (freedom * sigma);
  return gradient.map((x, k) => (x - center) / divisor - z[k] * along);
}

// ---- softmax ----

export function logSumExp(row) {
  const top = highest(row);
  return top + Math.log(sum(row.map((x) => Math.exp(x - top))));
}

export function logSoftmax(row, tau = 1) {
  const scaled = row.map((x) => x / tau);
  const total = logSumExp(scaled);
  return scaled.map((x) => x - total);
}

export const softmax = (row, tau) => logSoftmax(row, tau).map(Math.exp);
export const sigmoid = (x) => 1 / (1 + Math.exp(-x));

// ---- entropy and divergence ----

export const entropy = (row, tau) => -sum(logSoftmax(row, tau).map((log) => Math.exp(log) * log));

// KL of two rows of log-probabilities, and its gradients by the scaled logits under each.
export function kl(teacher, student) {
  const p = teacher.map(Math.exp);
  const value = sum(p.map((x, k) => x * (teacher[k] - student[k])));
  return {
    value,
    student: student.map((log, k) => Math.exp(log) - p[k]),
    teacher: p.map((x, k) => x * (teacher[k] - student[k] - value)),
  };
}

// τₛ·τₜ·KL(teacher ‖ student)
export const softLoss = (student, teacher, tauStudent, tauTeacher = tauStudent) =>
  tauStudent *
  tauTeacher *
  kl(logSoftmax(teacher, tauTeacher), logSoftmax(student, tauStudent)).value;
