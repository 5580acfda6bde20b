// Formulas that come as data (adakd/expression.py): their values, and their gradients by reverse accumulation.
// A tree is a number, a name, or [operation, argument, …]. A value is a number, or a row of them.

import { highest, logSumExp, lowest, mean, sigmoid, softmax, sum, without } from "./math.js";

const isRow = Array.isArray;

// Entry by entry; a number goes with each entry of a row.
function zip(combine, ...values) {
  const row = values.find(isRow);
  if (!row) return combine(...values);
  return row.map((_, k) => combine(...values.map((value) => (isRow(value) ? value[k] : value))));
}

// Entry by entry: the function, and its derivative by each argument. Equal entries share a maximum's gradient.
const larger = (a, b) => (a === b ? 0.5 : Number(a > b));
const ENTRYWISE = {
  "+": [(a, b) => a + b, () => 1, () => 1],
  "-": [(a, b) => a - b, () => 1, () => -1],
  "*": [(a, b) => a * b, (_, b) => b, (a) => a],
  "/": [(a, b) => a / b, (_, b) => 1 / b, (a, b) => -a / (b * b)],
  "**": [(a, b) => a ** b, (a, b) => b * a ** (b - 1), (a, b) => a ** b * Math.log(a)],
  "<": [(a, b) => a < b, () => 0, () => 0],
  "<=": [(a, b) => a <= b, () => 0, () => 0],
  ">": [(a, b) => a > b, () => 0, () => 0],
  ">=": [(a, b) => a >= b, () => 0, () => 0],
  where: [(test, a, b) => (test ? a : b), () => 0, (test) => Number(test), (test) => Number(!test)],
  maximum: [Math.max, larger, (a, b) => larger(b, a)],
  minimum: [Math.min, (a, b) => larger(b, a), larger],
  abs: [Math.abs, Math.sign],
  exp: [Math.exp, Math.exp],
  log: [Math.log, (x) => 1 / x],
  sqrt: [Math.sqrt, (x) => 0.5 / Math.sqrt(x)],
  cos: [Math.cos, (x) => -Math.sin(x)],
  tanh: [Math.tanh, (x) => 1 - Math.tanh(x) ** 2],
  sigmoid: [sigmoid, (x) => sigmoid(x) * sigmoid(-x)],
};

// From a row to a number: the function, and its gradient.
const shared = (row, best) =>
  row.map((x) => Number(x === best) / row.filter((y) => y === best).length);
const REDUCTIONS = {
  sum: [sum, (row) => row.map(() => 1)],
  count: [(row) => row.length, (row) => row.map(() => 0)],
  lse: [logSumExp, softmax],
  highest: [highest, (row) => shared(row, highest(row))],
  lowest: [lowest, (row) => shared(row, lowest(row))],
};

// Over the samples of a batch; without a gradient.
const OVER_BATCH = {
  batch_max: highest,
  batch_min: lowest,
  batch_mean: mean,
  batch_median: median,
};

function median(values) {
  const ordered = [...values].sort((a, b) => a - b);
  return (ordered[(ordered.length - 1) >> 1] + ordered[ordered.length >> 1]) / 2;
}

// Of the labelled class: how a row is read, and where an adjoint goes.
const LABELLED = {
  label: [
    (row, label) => row[label],
    (adjoint, row, label) => row.map((_, k) => (k === label ? adjoint : 0)),
  ],
  others: [
    without,
    (adjoint, row, label) =>
      row.map((_, k) =>
        k === label ? 0 : isRow(adjoint) ? adjoint[k < label ? k : k - 1] : adjoint,
      ),
  ],
};

// What an argument gets where its derivative is infinite but nothing comes down.
const chain = (adjoint, slope) => (adjoint === 0 ? 0 : adjoint * slope);

// The leaves: a name that the scope follows collects the adjoints that reach it.
function named(name, { values, adjoints }) {
  return {
    value: values[name],
    backward(adjoint) {
      if (adjoints && name in adjoints)
        adjoints[name] = zip((a, b) => a + b, adjoints[name], adjoint);
    },
  };
}

function entrywise([combine, ...slopes], parts, scope) {
  const nodes = parts.map((part) => part(scope));
  const values = nodes.map((node) => node.value);
  return {
    value: zip(combine, ...values),
    backward(adjoint) {
      slopes.forEach((slope, i) => {
        const by = zip((above, ...entries) => chain(above, slope(...entries)), adjoint, ...values);
        // A number that met a row is in each of its entries.
        nodes[i].backward(isRow(by) && !isRow(values[i]) ? sum(by) : by);
      });
    },
  };
}

function reduction([combine, gradient], part, scope) {
  const { value: row, backward } = part(scope);
  return {
    value: combine(row),
    backward: (adjoint) => backward(gradient(row).map((x) => adjoint * x)),
  };
}

function labelled([read, back], part, scope) {
  const { label } = scope;
  const { value: row, backward } = part(scope);
  return { value: read(row, label), backward: (adjoint) => backward(back(adjoint, row, label)) };
}

// Evaluated once a batch, for all of its samples.
function overBatch(combine, part) {
  const known = new WeakMap();
  return ({ batch }) => {
    if (!known.has(batch)) known.set(batch, combine(batch.map((scope) => part(scope).value)));
    return { value: known.get(batch), backward() {} };
  };
}

// From a tree to a function of a scope { values, label, batch, adjoints } that gives a node { value, backward }. `values`
// has what the names stand for and `batch` the scopes of all samples; backward(adjoint) adds to those `adjoints` there are.
// `parts` has compiled trees by the names that stand for them.
export function compile(tree, parts = {}) {
  if (typeof tree === "number") return () => ({ value: tree, backward() {} });
  if (typeof tree === "string") {
    return Object.hasOwn(parts, tree) ? parts[tree] : (scope) => named(tree, scope);
  }
  const [operation, ...inner] = tree;
  const nodes = inner.map((argument) => compile(argument, parts));
  if (operation in OVER_BATCH) return overBatch(OVER_BATCH[operation], nodes[0]);
  if (operation in REDUCTIONS) return (scope) => reduction(REDUCTIONS[operation], nodes[0], scope);
  if (operation in LABELLED) return (scope) => labelled(LABELLED[operation], nodes[0], scope);
  return (scope) => entrywise(ENTRYWISE[operation], nodes, scope);
}
