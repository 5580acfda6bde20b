// Temperature rules as adakd.methods has them: formulas that come as data.

import { compile } from "./expression.js";
import { RULES } from "./from-python.js";
import { C_LOWER, C_UPPER } from "./math.js";
import { mapValues } from "./words.js";

const CONSTANTS = { pi: Math.PI, c2: C_UPPER, c2_lower: C_LOWER };

const compiled = {}; // when a rule is first used
function formulas(name) {
  if (!compiled[name]) {
    const { parts = {}, student, teacher, printedStudent, printedTeacher, low, high } = RULES[name];
    const known = {}; // each part may use the parts before it
    for (const [part, tree] of Object.entries(parts)) known[part] = compile(tree, known);
    const trees = {
      student,
      teacher: teacher ?? student,
      printedStudent,
      printedTeacher,
      low,
      high,
    };
    compiled[name] = mapValues(trees, (tree) => tree !== undefined && compile(tree, known));
  }
  return compiled[name];
}

// What a rule reads of a batch, one entry a sample: { student, teacher, label }, logits as the rule sees them.
export function readBatch(name, samples, epoch, options = {}) {
  const batch = samples.map(({ student, teacher, label }) => ({
    label,
    values: {
      ...CONSTANTS,
      ...RULES[name].options,
      ...RULES[name].learned,
      ...options,
      epoch,
      K: student.length,
      zs: student,
      zt: teacher,
    },
  }));
  for (const scope of batch) scope.batch = batch;
  return batch;
}

const bothSides = (name, keys, scope) => keys.map((key) => formulas(name)[key](scope).value);

// [τ of the student, τ of the teacher] of one sample of a batch.
export const temperatures = (name, scope) => bothSides(name, ["student", "teacher"], scope);

// The same as the source prints it, without the library's guard; null where it is no other.
export const printedTemperatures = (name, scope) =>
  RULES[name].printedStudent !== undefined
    ? bothSides(name, ["printedStudent", "printedTeacher"], scope)
    : null;

// [lowest, highest] that there can be, of a batch that is standardized where the source standardizes.
export const reach = (name, scope) => bothSides(name, ["low", "high"], scope);

// Gradient of what has these derivatives by the two temperatures: by the student's logits, where the rule is in the
// graph, and by what is learned.
export function throughTemperatures(name, scope, byStudent, byTeacher) {
  const { inGraph, learned } = RULES[name];
  if (!inGraph && !learned) return {};
  const adjoints = Object.fromEntries(
    Object.keys(learned ?? {}).map((parameter) => [parameter, 0]),
  );
  if (inGraph) adjoints.zs = scope.values.zs.map(() => 0);
  const followed = { ...scope, adjoints };
  formulas(name).student(followed).backward(byStudent);
  formulas(name).teacher(followed).backward(byTeacher);
  return adjoints;
}
