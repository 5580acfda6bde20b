// Faults of recorded logits by their names, as adakd.advise finds them; their texts are Python's.

import { ADVICE } from "./from-python.js";
import {
  centered,
  cosine,
  entropy,
  highest,
  logSumExp,
  lowest,
  mean,
  spread,
  sum,
} from "./math.js";
import { rowOf } from "./objective.js";

const CONSTANT = 1e-7; // of the largest logit: the rounding of float32

export const count = (items, test) => items.reduce((n, x) => n + Number(test(x)), 0);

// The lower one of two in the middle, as torch.median has it.
const median = (values) => Float64Array.from(values).sort()[(values.length - 1) >> 1];

// What is needed of a row; `kept` are the classes that are not masked.
export function facts(row, kept) {
  const [low, high, total] = [lowest(row), highest(row), logSumExp(row)];
  const constant = high - low <= CONSTANT * Math.max(Math.abs(low), Math.abs(high));
  return {
    constant,
    low,
    high,
    saturated: Math.exp(high - total) > 1 - 1e-6,
    logs: Math.abs(total) <= 1e-2,
    shares: Math.abs(sum(row) - 1) <= 1e-2,
    mean: mean(row),
    sigma: constant ? 0 : spread(row).sigma,
    choices: Math.exp(entropy(row)),
    best: row.indexOf(high),
    mask: maskIn(row.filter((_, k) => kept[k])),
  };
}

// Distance of the classes of a row that a finite number masks from the rest of it; 0 where none does.
function maskIn(row) {
  if (row.length < 4) return 0;
  const ordered = Float64Array.from(row).sort();
  let [gap, below] = [-1, 0];
  for (let k = 0; k + 1 < ordered.length; k += 1) {
    if (ordered[k + 1] - ordered[k] > gap) [gap, below] = [ordered[k + 1] - ordered[k], k];
  }
  const left = ordered.at(-1) - ordered[0] - gap;
  const few = below < Math.floor(row.length / 2);
  return gap >= 50 && gap > 5 * left && (few || gap >= 1e4) ? gap : 0;
}

function masks(rows) {
  const gaps = rows.map((row) => row.mask).filter((gap) => gap > 0);
  const share = gaps.length / rows.length;
  if (!gaps.length || (share < 0.05 && highest(gaps) < 1e4)) return null;
  return { share, gap: median(gaps) };
}

// What stands in the place of logits, if anything does.
function format(rows, K, trained) {
  if (rows.every((row) => row.logs)) return "log-probabilities";
  const low = lowest(rows.map((row) => row.low));
  const high = highest(rows.map((row) => row.high));
  if (low >= 0 && low < high && high <= 1)
    return rows.every((row) => row.shares) ? "probabilities" : "scores";
  if (trained && low >= -1 && high <= 1 && Math.max(-low, high) > 0.5) return "scores";
  if (K === 2) return null;
  const usual = median(rows.map((row) => row.sigma));
  const alike = rows.every(
    (row) => Math.abs(row.mean) <= 1e-2 && Math.abs(row.sigma - usual) <= 1e-2,
  );
  return alike && usual > 0.7 && usual < 1.01 ? "standardized rows" : null;
}

// How many of these rows are equal to an earlier one, bit by bit.
function repeated({ values, K }, rows) {
  const width = (K * values.BYTES_PER_ELEMENT) / 4;
  const words = new Uint32Array(values.buffer, values.byteOffset, values.byteLength / 4);
  const known = new Map();
  let found = 0;
  for (const r of rows) {
    let hash = 0;
    for (let i = 0; i < width; i += 1)
      hash = Math.imul(hash ^ words[r * width + i], 0x9e3779b1) ^ (hash >>> 15);
    const alike = known.get(hash);
    const same = alike?.some((other) => {
      let i = 0;
      while (i < width && words[other * width + i] === words[r * width + i]) i += 1;
      return i === width;
    });
    if (same) found += 1;
    else if (alike) alike.push(r);
    else known.set(hash, [r]);
  }
  return found;
}

// Standard deviation of a class over these rows, mean over the kept classes, in units of the rows' own.
function apart({ values, K }, rows, kept) {
  const shown = (r) => rowOf(values, r, K).filter((_, k) => kept[k]);
  const totals = new Float64Array(count(kept, Boolean));
  let sigmas = 0;
  for (const r of rows) {
    const row = shown(r);
    sigmas += spread(row).sigma;
    centered(row).forEach((x, k) => {
      totals[k] += x;
    });
  }
  const squares = new Float64Array(totals.length);
  for (const r of rows) {
    centered(shown(r)).forEach((x, k) => {
      squares[k] += (x - totals[k] / rows.length) ** 2;
    });
  }
  return mean(squares.map((x) => Math.sqrt(x / rows.length))) / (sigmas / rows.length);
}

// Three standard deviations of the share of rows that a guess names, where it does so with this probability.
const deviation = (chance, rows) => 3 * Math.sqrt((chance * (1 - chance)) / rows);

function ofAccuracy(own, targets, K) {
  const rows = own.length;
  if (rows < ADVICE.fewest) return {};
  const right = count([...own.keys()], (r) => own[r].best === targets[r]) / rows;
  const often = new Float64Array(K);
  for (const label of targets) often[label] += 1;
  const guess = 1 / K;
  const frequent = Math.max(guess, highest(often) / rows);
  const said = (chance) => ({ accuracy: 100 * right, chance: 100 * chance, rows });
  if (right < guess - deviation(guess, rows)) return { "below chance": said(guess) };
  const near = right <= Math.min(frequent + deviation(frequent, rows), 1 - 1e-9);
  return near && frequent < 1 ? { "near chance": said(frequent) } : {};
}

function ofTeacher(teacher, own, kept, strange) {
  const rows = own.length;
  const found = {};
  const constant = count(own, (row) => row.constant) / rows;
  const saturated = count(own, (row) => row.saturated) / rows;
  if (constant > 0.01 || saturated > 0.5) found.collapsed = { constant, saturated };
  const choices = median(own.map((row) => row.choices));
  if (choices > 0.99 * teacher.K && !strange)
    found["nearly uniform"] = { choices, classes: teacher.K };
  const varied = [...own.keys()].filter((r) => !own[r].constant);
  const again = repeated(teacher, varied);
  if (again > 0.01 * rows) found["repeated rows"] = { repeated: again, rows };
  else if (varied.length > 1 && !strange) {
    const away = apart(teacher, varied, kept);
    if (away < 0.01) found["rows alike"] = { apart: away };
  }
  return found;
}

function ofStudent(teacher, student, theirs, targets) {
  const { K, rows } = student;
  const same = (r) =>
    cosine(centered(rowOf(student.values, r, K)), centered(rowOf(teacher.values, r, K))) > 1 - 1e-9;
  const share = K > 2 ? count([...theirs.keys()], same) / rows : 0;
  if (share > 0.5) return { "student like the teacher": { share } };
  if (targets && rows >= ADVICE.fewest) {
    const right = count([...theirs.keys()], (r) => theirs[r].best === targets[r]) / rows;
    if (right > 1 / K + Math.max(0.1, 2 * deviation(1 / K, rows)))
      return { "trained student": { accuracy: 100 * right, rows } };
  }
  const sigma = median(theirs.map((row) => row.sigma));
  const usual = ADVICE.spread;
  const near = sigma >= usual / ADVICE.untrained && sigma <= usual * ADVICE.untrained;
  return near ? {} : { "student's spread": { spread: sigma, usual } };
}

// Python's {:.3g}, for numbers above 0.
function general(x, digits) {
  if (x === 0) return "0";
  const [mantissa, exponent] = x.toExponential(digits - 1).split("e");
  const power = Number(exponent);
  const short = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  if (power >= -4 && power < digits) return short(x.toFixed(digits - 1 - power));
  return `${short(mantissa)}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
}

// A text in Python's format: {rows}, {chance:.1f}, {constant:.0%}, {gap:.2g}, {usual:g}.
const filled = (text, of) =>
  text.replace(/\{(\w+)(?::(?:\.(\d))?([fg%]))?\}/g, (_, name, digits, kind) =>
    kind === "%"
      ? `${(100 * of[name]).toFixed(digits)}%`
      : kind === "g"
        ? general(of[name], Number(digits ?? 6))
        : kind
          ? of[name].toFixed(digits)
          : of[name],
  );

// Texts by the name of a fault. `teacher` and `student` are { values, rows, K } without the classes that are gone, `own`
// and `theirs` the `facts` of their rows; `masked` are the classes that every row masks, as the caller counts them.
export function faults({ teacher, student, own, theirs, targets, masked, kept }) {
  const { K } = teacher;
  const found = {};
  const strange = new Set();
  if (masked.length) {
    found["masked class"] = {
      classes: masked.slice(0, 5).join(", ") + (masked.length > 5 ? " …" : ""),
    };
  }
  if (K === 2) found["two classes"] = {};
  for (const [of, rows] of Object.entries({ teacher: own, student: theirs })) {
    if (!rows) continue;
    const mask = masks(rows);
    const name = mask ? "masked in some rows" : format(rows, K, of === "teacher");
    if (!name) continue;
    strange.add(of);
    const both = found[name] ? `${found[name].of}'s and the ${of}` : of;
    const least = rows.every((row) => row.low >= 0) ? "0" : "-1";
    found[name] = { ...mask, least, of: both };
  }
  Object.assign(
    found,
    targets && ofAccuracy(own, targets, K),
    ofTeacher(teacher, own, kept, strange.has("teacher")),
    student && !strange.has("student") && ofStudent(teacher, student, theirs, targets),
  );
  return Object.fromEntries(
    Object.entries(ADVICE.faults).flatMap(([name, text]) =>
      found[name] ? [[name, filled(text, found[name])]] : [],
    ),
  );
}
