// Divergences of one pair of rows, with their gradients. Each takes the logits of both, the two temperatures, the label
// and its options, and gives { value, student, tauStudent, tauTeacher }: its gradients by the student's logits and by
// the two temperatures.

import {
  centered,
  inner,
  kl,
  logSoftmax,
  logSumExp,
  norm,
  pearson,
  softmax,
  spread,
  throughSpread,
  without,
} from "./math.js";

// τₛ·τₜ·D(s / τₛ, t / τₜ), from D and its gradients by the scaled logits.
function scaled({ value, student, teacher }, { s, t, tauStudent, tauTeacher }) {
  return {
    value: tauStudent * tauTeacher * value,
    student: student.map((x) => tauTeacher * x),
    tauStudent: tauTeacher * (value - inner(student, s) / tauStudent),
    tauTeacher: tauStudent * (value - inner(teacher, t) / tauTeacher),
  };
}

const softKl = (pair) =>
  scaled(kl(logSoftmax(pair.t, pair.tauTeacher), logSoftmax(pair.s, pair.tauStudent)), pair);

// α·TCKD + β·NCKD, and its gradients by the scaled logits.
function decoupled({ s, t, tauStudent, tauTeacher, label }, { alpha, beta }) {
  const [p, q] = [t.map((x) => x / tauTeacher), s.map((x) => x / tauStudent)].map((row) => {
    const rest = without(row, label);
    const total = logSumExp(rest);
    return { binary: logSoftmax([row[label], total]), rest: rest.map((x) => x - total) };
  });
  const target = kl(p.binary, q.binary);
  const rest = kl(p.rest, q.rest);
  // The other classes share what their sum gets, in proportion to their probabilities.
  const spreadOut = (side, logs) =>
    s.map((_, k) => {
      if (k === label) return alpha * target[side][0];
      const at = k < label ? k : k - 1;
      return alpha * target[side][1] * Math.exp(logs[at]) + beta * rest[side][at];
    });
  return {
    value: alpha * target.value + beta * rest.value,
    student: spreadOut("student", q.rest),
    teacher: spreadOut("teacher", p.rest),
  };
}

const still = { tauStudent: 0, tauTeacher: 0 }; // no gradient by the temperatures

export const DIVERGENCES = {
  kl: softKl,

  dkd: (pair, options) => scaled(decoupled(pair, options), pair),

  // DTKD: beside the KL at its two temperatures one at a fixed one.
  anchored(pair, { alpha, beta, anchor }) {
    const free = softKl(pair);
    const fixed = softKl({ ...pair, tauStudent: anchor, tauTeacher: anchor });
    return {
      value: alpha * free.value + beta * fixed.value,
      student: free.student.map((x, k) => alpha * x + beta * fixed.student[k]),
      tauStudent: alpha * free.tauStudent,
      tauTeacher: alpha * free.tauTeacher,
    };
  },

  // The student stays at temperature 1; no τ².
  ttm({ s, t, tauTeacher }, { weighted }) {
    const { value, student } = kl(logSoftmax(t, tauTeacher), logSoftmax(s));
    const weight = weighted ? Math.exp(logSumExp(logSoftmax(t).map((x) => x / tauTeacher))) : 1;
    return { value: weight * value, student: student.map((x) => weight * x), ...still };
  },

  // 1 − ρ of the logits.
  correlation({ s, t }) {
    const own = spread(s);
    const { z } = spread(t);
    const gradient = throughSpread(
      z.map((x) => -x / s.length),
      own,
    );
    return { value: 1 - pearson(own.z, z), student: gradient, ...still };
  },

  // DIST of one row: τ²·(1 − ρ) of the probabilities.
  dist({ s, t, tauStudent: tau }, { beta }) {
    const [q, p] = [softmax(s, tau), softmax(t, tau)];
    const [own, other] = [q, p].map(centered);
    const lengths = norm(own) * norm(other) + 1e-8;
    const rho = inner(own, other) / lengths;
    const slope = own.map(
      (x, k) => other[k] / lengths - (rho * norm(other) * x) / (lengths * norm(own)),
    );
    const middle = inner(q, slope);
    return {
      value: beta * tau * tau * (1 - rho),
      student: q.map((x, k) => -beta * tau * x * (slope[k] - middle)),
      ...still,
    };
  },
};
