// Formulas that come as data (adakd/expression.py): their values, and their gradients by reverse accumulation.
// A tree is a number, a name, or [operation, argument, …]. A value is a number, or a row of them.

import { highest, logSumExp, lowest, mean, sigmoid, softmax, sum, without } from "./math.js";

const isRow = Array.isArray;

// Entry by entry; a number goes with each entry of a row.
function zip(combine, a, b, c) {
  const row = [a, b, c].find(isRow);
  if (!row) return combine(a, b, c);
  const [first, second, third] = [a, b, c].map(isRow);
  return row.map((_, k) => combine(first ? a[k] : a, second ? b[k] : b, third ? c[k] : c));
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
  maximum: [(a, b) => Math.max(a, b), larger, (a, b) => larger(b, a)],
  minimum: [(a, b) => Math.min(a, b), (a, b) => larger(b, a), larger],
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

// A node is { value, follows, backward }: backward(adjoint) adds to those of the scope's `adjoints` that its value
// depends on; `follows` says whether there are any. The leaves are names.
function named(name, { values, adjoints }) {
  return {
    value: values[name],
    follows: adjoints !== null && name in adjoints,
    backward(adjoint) {
      adjoints[name] = zip((a, b) => a + b, adjoints[name], adjoint);
    },
  };
}

function entrywise([combine, ...slopes], parts, scope) {
  const nodes = parts.map((part) => part(scope));
  const [a, b, c] = nodes.map((node) => node.value);
  return {
    value: zip(combine, a, b, c),
    follows: nodes.some((node) => node.follows),
    backward(adjoint) {
      nodes.forEach((node, i) => {
        if (!node.follows) return;
        const slope = zip(slopes[i], a, b, c);
        const by = zip(chain, adjoint, slope);
        // A number that met a row is in each of its entries.
        const total = isRow(by) && !isRow(node.value) ? sum(by) : by;
        if (total !== 0) node.backward(total);
      });
    },
  };
}

function reduction([combine, gradient], part, scope) {
  const { value: row, follows, backward } = part(scope);
  let slopes = null;
  return {
    value: combine(row),
    follows,
    backward(adjoint) {
      slopes ??= gradient(row);
      backward(slopes.map((x) => adjoint * x));
    },
  };
}

function labelled([read, back], part, scope) {
  const { label } = scope;
  const { value: row, follows, backward } = part(scope);
  const through = (adjoint) => backward(back(adjoint, row, label));
  return { value: read(row, label), follows, backward: through };
}

const constant = (value) => ({ value, follows: false, backward() {} });

// Evaluated once a batch, for all of its samples.
function overBatch(combine, part) {
  const known = new WeakMap();
  return ({ batch }) => {
    if (!known.has(batch)) known.set(batch, combine(batch.map((scope) => part(scope).value)));
    return constant(known.get(batch));
  };
}

// The same function, which a scope asks once.
export const once = (evaluate) => (scope) => {
  scope.known ??= new Map();
  if (!scope.known.has(evaluate)) scope.known.set(evaluate, evaluate(scope));
  return scope.known.get(evaluate);
};

// From a tree to a function of a scope { values, label, batch, adjoints } that gives a node. `values` has what the names
// stand for, `batch` the scopes of all samples, `adjoints` (or null) the names to differentiate by, at 0 at first.
// `parts` has compiled trees by the names that stand for them.
export function compile(tree, parts = {}) {
  if (typeof tree === "number") return () => constant(tree);
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
