// What follows from recorded logits for temperature and weight: adakd.advise, as far as a page has the formulas.

import { count, facts, faults } from "./faults.js";
import { ADVICE, METHODS } from "./from-python.js";
import { entropy, highest, lowest, mean, spread, standardize, sum } from "./math.js";
import { distill, rowOf } from "./objective.js";
import { temperatures as bothTemperatures, readBatch } from "./rules.js";

const NAMES = { teacher: "teacher’s logits", student: "student’s logits", labels: "labels" };
const SHARES = [0.05, 0.25, 0.5, 0.75, 0.95];
const TICK = 30; // milliseconds after which the page gets a turn
const FEW = 16; // samples that are read at a time
const SHARE = 0.9; // of the work that temperatures are, about; the rest is gradients

const tuple = (shape) => `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;

// At most so many of a list, evenly spaced, as adakd.advice picks them.
const spaced = (list, most) =>
  list.length <= most
    ? list
    : Array.from(
        { length: most },
        (_, i) => list[Math.floor((i * (list.length - 1)) / (most - 1))],
      );

// Of values in ascending order, between two of them linearly, as torch.quantile has it.
function quantile(sorted, share) {
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

// Mean, and quantiles q5 to q95.
function described(values) {
  const sorted = Float64Array.from(values).sort();
  const named = SHARES.map((share) => [`q${Math.round(100 * share)}`, quantile(sorted, share)]);
  return { mean: mean(sorted), ...Object.fromEntries(named) };
}

// Of each item what `make` makes of it; the page gets a turn now and then.
async function mapped(items, make, pause) {
  const found = [];
  let since = performance.now();
  for (const item of items) {
    found.push(make(item));
    if (performance.now() - since < TICK) continue;
    await pause();
    since = performance.now();
  }
  return found;
}

// ---- what was given ----

// Rows of logits, views of an image one after the other: { values, rows, K, shape, name }.
function flat({ shape, values }, who) {
  const name = NAMES[who];
  if (![2, 3].includes(shape.length) || shape.includes(0) || shape.at(-1) < 2) {
    throw new Error(
      `${name}: expected shape (images, classes) or (images, views, classes), at least 1 image and 2 classes, got ` +
        `${tuple(shape)}; reshape the array before numpy.save`,
    );
  }
  const K = shape.at(-1);
  return { values, rows: values.length / K, K, shape, name };
}

// A label for each row.
function labelled({ shape, values }, { shape: images, rows, K }) {
  const name = NAMES.labels;
  if (shape.length !== 1 || shape[0] !== images[0]) {
    const hint =
      tuple(shape) === tuple(images)
        ? "; one-hot: argmax(-1) gives the classes"
        : shape.length === 1 && shape[0] === K
          ? "; are the logits transposed? They have a row for each image"
          : "";
    throw new Error(
      `${name}: expected ${images[0]} integers of shape (${images[0]},), a class for each image, got shape ${tuple(shape)}${hint}`,
    );
  }
  const wrong = (label) => label < 0 || label >= K;
  const first = values.findIndex(wrong);
  if (first >= 0) {
    const [least, most] = [lowest(values), highest(values)];
    const fromOne = least >= 1 && least < most && most === K;
    throw new Error(
      `${name}: expected labels from 0 to ${K - 1}, got ${values[first]} in row ${first} (${count(values, wrong)} of ` +
        `${values.length} rows are out of range); ${fromOne ? "they seem to count from 1, so subtract 1; " : ""}leave rows without a label out, in logits and labels alike`,
    );
  }
  const views = rows / values.length;
  return Array.from({ length: rows }, (_, r) => values[Math.floor(r / views)]);
}

// Lowest and highest logit of each class.
function extremes({ values, K }) {
  const low = new Float64Array(K).fill(Infinity);
  const high = new Float64Array(K).fill(-Infinity);
  for (let i = 0; i < values.length; i += 1) {
    const k = i % K;
    low[k] = Math.min(low[k], values[i]);
    high[k] = Math.max(high[k], values[i]);
  }
  return { low: [...low], high: [...high] };
}

// Classes that are minus infinity in every row (`gone`), and those besides that are constant and far below all others.
function maskedClasses(teacher) {
  const { low, high } = extremes(teacher);
  const gone = high.map((x) => x <= -ADVICE.largest);
  const left = [...low.keys()].filter((k) => !gone[k]);
  if (teacher.rows < 2 || left.length < 3) return { gone, masked: gone };
  const constant = high.map((x, k) => !gone[k] && x - low[k] <= 1e-4 * Math.abs(x));
  const rest = left.filter((k) => !constant[k]);
  const least = lowest(rest.map((k) => low[k]));
  const most = highest(rest.map((k) => high[k]));
  return {
    gone,
    masked: gone.map((is, k) => is || (constant[k] && high[k] < least - (most - least))),
  };
}

function withoutClasses(logits, gone) {
  if (!logits || !gone.includes(true)) return logits;
  const values = logits.values.filter((_, i) => !gone[i % logits.K]);
  return { ...logits, values, K: values.length / logits.rows };
}

function checkNumbers({ values, rows, K, name }) {
  const bad = new Set();
  let [largest, masked] = [0, true];
  for (let i = 0; i < values.length; i += 1) {
    if (Number.isFinite(values[i])) largest = Math.max(largest, Math.abs(values[i]));
    else {
      bad.add(Math.floor(i / K));
      masked &&= values[i] === -Infinity;
    }
  }
  if (bad.size) {
    throw new Error(
      `${name}: ${bad.size} of ${rows} rows hold NaN or infinity (first: row ${bad.values().next().value}); ` +
        (masked
          ? "minus infinity masks a class: drop masked classes from student and teacher"
          : "record in float32, as float16 ends at 65504, or look for the network or the step that produced them"),
    );
  }
  if (largest > ADVICE.largest) {
    throw new Error(
      `${name}: expected logits of at most ${ADVICE.largest} in size, got ${largest.toPrecision(3)}; classes masked in some ` +
        "rows alone: take them out of logits and labels",
    );
  }
}

// ---- temperatures and weights ----

// A constant row has no spread: it becomes 0.
const standardized = (row, kind) =>
  spread(row, kind).sigma ? standardize(row, kind) : row.map(() => 0);

// The samples of a batch as a method's rule reads them; each kind of standardization is computed once.
function batches(rows, students, labels) {
  const known = {};
  const ready = (row, kind) => (kind ? standardized(row, kind) : row);
  return (kind = "") => {
    known[kind] ??= rows.map((row, i) => {
      const teacher = ready(row, kind);
      return {
        teacher,
        student: students ? ready(students[i], kind) : teacher,
        label: labels?.[i],
      };
    });
    return known[kind];
  };
}

// What a rule reads of many samples, one at a time. A scope keeps all that a gradient may need, and so none is kept: what
// a formula takes over the batch goes through all samples for itself.
function* scopes({ rule, ruleOptions }, samples) {
  const batch = { map: (make) => Array.from(scopes({ rule, ruleOptions }, samples), make) };
  for (let i = 0; i < samples.length; i += FEW) {
    for (const scope of readBatch(rule, samples.slice(i, i + FEW), 1, ruleOptions)) {
      scope.batch = batch;
      yield scope;
    }
  }
}

// Of the teacher's rows under every rule; those that read the student need one.
async function temperatures(rows, students, sigmas, pause) {
  const samples = batches(rows, students);
  const found = [];
  for (const [i, method] of ADVICE.temperatures.entries()) {
    await pause((SHARE * i) / ADVICE.temperatures.length);
    if (!students && !ADVICE.ofTeacher.includes(method)) continue;
    const { rule, standardize: kind } = METHODS[method];
    const taus = await mapped(
      scopes(METHODS[method], samples(kind)),
      (scope) => bothTemperatures(rule, scope)[1],
      pause,
    );
    const [z, raw] = kind
      ? [taus, taus.map((tau, i) => tau * sigmas[i])]
      : [taus.map((tau, i) => tau / sigmas[i]), taus];
    found.push({
      method,
      reads: kind ? "standardized" : "raw",
      standardized: described(z),
      raw: described(raw),
    });
  }
  return found;
}

// Norm of the loss's gradient by the student's logits, adakd.study.gradient_norm: root mean square over the rows.
async function gradientNorm(method, samples, students, pause) {
  const { standardize: kind } = method;
  let i = -1;
  const squares = await mapped(
    scopes(method, samples(kind)),
    (scope) => {
      i += 1;
      const own = kind && spread(students[i], kind);
      const { gradient } = distill(method, scope, own).differentiate();
      const size = sum(gradient.map((x) => x * x));
      // What divides by the spread of a constant row has no gradient there.
      return Number.isNaN(size) && spread(students[i]).sigma === 0 ? 0 : size;
    },
    pause,
  );
  return Math.sqrt(mean(squares));
}

async function weights(rows, students, labels, reference, K, pause) {
  const samples = batches(rows, students, labels);
  const names = ADVICE.gradients.filter(
    (name) =>
      (labels || ADVICE.withoutLabels.includes(name)) && (K > 2 || ADVICE.ofTwo.includes(name)),
  );
  const norms = new Map();
  const unit = mean(students.map((row) => spread(row).sigma)); // a standardized method's gradient is in inverse proportion
  for (const name of names) {
    await pause(SHARE + ((1 - SHARE) * norms.size) / names.length);
    const norm = await gradientNorm(METHODS[name], samples, students, pause);
    const rounding = norm * (METHODS[name].standardize ? unit : 1) <= ADVICE.rounding;
    norms.set(name, rounding ? 0 : norm);
  }
  const force = METHODS[reference].kdWeight * norms.get(reference);
  return names.map((method) => {
    const norm = norms.get(method);
    const matched = force && norm ? force / norm : null;
    return { method, norm, published: METHODS[method].kdWeight, matched };
  });
}

// ---- all of it ----

// Arrays { shape, values } of `readNpy` -> what adakd.advise gives; without a student no gradients, and no temperatures
// of rules that read one. `pause` is called, and waited for, where the page may want a turn, now and then with the share of
// the work that is done.
export async function advise(given, pause = async () => {}) {
  let teacher = flat(given.teacher, "teacher");
  let student = given.student && flat(given.student, "student");
  if (student && tuple(student.shape) !== tuple(teacher.shape)) {
    throw new Error(
      `${NAMES.student}: expected the teacher’s shape ${tuple(teacher.shape)}, got ${tuple(student.shape)}; record both for ` +
        "the same images and classes",
    );
  }
  const labels = given.labels && labelled(given.labels, teacher);
  const { gone, masked } = maskedClasses(teacher);
  if (count(gone, (is) => !is) < 2) {
    throw new Error(
      `${NAMES.teacher}: expected at least 2 classes that are not minus infinity in every row; look at how they were recorded`,
    );
  }
  const lost = labels ? labels.findIndex((label) => gone[label]) : -1;
  if (lost >= 0) {
    throw new Error(
      `${NAMES.labels}: row ${lost} has the class ${labels[lost]}, which the teacher has at minus infinity in every row; ` +
        "leave such rows out",
    );
  }
  const place = gone.map((_, k) => count(gone.slice(0, k), (is) => !is));
  const targets = labels?.map((label) => place[label]);
  teacher = withoutClasses(teacher, gone);
  student = withoutClasses(student, gone);
  for (const logits of [teacher, student]) if (logits) checkNumbers(logits);
  const { K } = teacher;
  await pause();

  const all = Array.from({ length: teacher.rows }, (_, r) => r);
  const kept = masked.filter((_, k) => !gone[k]).map((is) => !is);
  const looked = (logits) => mapped(all, (r) => facts(rowOf(logits.values, r, K), kept), pause);
  const own = await looked(teacher);
  const theirs = student && (await looked(student));
  const varied = all.filter((r) => !own[r].constant);
  const right = targets ? count(all, (r) => own[r].best === targets[r]) / all.length : null;
  const named = masked.flatMap((is, k) => (is ? [k] : []));
  const warnings = faults({ teacher, student, own, theirs, targets, masked: named, kept });
  if (!varied.length) {
    throw new Error(
      `${NAMES.teacher}: every row is constant: a collapsed teacher, or a file of something else; look at its training, or at ` +
        "how the logits were recorded",
    );
  }
  await pause();

  const fewer = (rows, numbers) => Math.max(ADVICE.few, Math.min(rows, Math.floor(numbers / K)));
  const some = (list) => list && spaced(list, fewer(ADVICE.batch, ADVICE.mostNumbers[1]));
  const shown = spaced(varied, fewer(ADVICE.mostRows, ADVICE.mostNumbers[0]));
  const rows = shown.map((r) => rowOf(teacher.values, r, K));
  const students = student && shown.map((r) => rowOf(student.values, r, K));
  const spreads = await mapped(rows, (row) => spread(row), pause);
  const sigmas = spreads.map(({ sigma }) => sigma);
  const entropies = await mapped(rows, (row) => entropy(row), pause);
  const reference = K === 2 ? ADVICE.instead : ADVICE.reference;
  return {
    rows: teacher.rows,
    classes: K,
    accuracy: right === null ? null : 100 * right,
    warnings,
    spread: described(sigmas),
    max_z: described(spreads.map(({ z }) => highest(z))),
    entropy: described(entropies),
    choices: described(entropies.map(Math.exp)),
    temperatures: await temperatures(rows, students, sigmas, pause),
    reference,
    gradients: students
      ? await weights(
          some(rows),
          some(students),
          targets && some(shown.map((r) => targets[r])),
          reference,
          K,
          pause,
        )
      : [],
  };
}
