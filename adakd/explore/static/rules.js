// Temperature rules as adakd.methods has them: formulas that come as data.

import { compile, once } from "./expression.js";
import { RULES } from "./from-python.js";
import { C_LOWER, C_UPPER } from "./math.js";
import { mapValues } from "./words.js";

const CONSTANTS = { pi: Math.PI, c2: C_UPPER, c2_lower: C_LOWER };

const compiled = {}; // when a rule is first used
function formulas(name) {
  if (!compiled[name]) {
    const { parts = {}, student, teacher, printedStudent, printedTeacher, low, high } = RULES[name];
    const known = {}; // each part may use the parts before it
    const ready = (tree) => once(compile(tree, known));
    for (const [part, tree] of Object.entries(parts)) known[part] = ready(tree);
    const trees = {
      student,
      teacher: teacher ?? student,
      printedStudent,
      printedTeacher,
      low,
      high,
    };
    compiled[name] = mapValues(trees, (tree) => tree !== undefined && ready(tree));
  }
  return compiled[name];
}

// What a rule reads of a batch, one entry a sample: { student, teacher, label }, logits as the rule sees them.
export function readBatch(name, samples, epoch, options = {}) {
  const { options: own, learned, inGraph } = RULES[name];
  const shared = {
    ...CONSTANTS,
    ...own,
    ...learned,
    ...options,
    epoch,
    K: samples[0].student.length,
  };
  const batch = samples.map(({ student, teacher, label }) => {
    const values = Object.create(shared); // a batch has many samples, and a step has little time
    values.zs = student;
    values.zt = teacher;
    const zero = {
      ...mapValues(learned ?? {}, () => 0),
      ...(inGraph && { zs: student.map(() => 0) }),
    };
    return { label, values, batch: null, adjoints: inGraph || learned ? zero : null, known: null };
  });
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

// Gradient of what has these derivatives by the two temperatures: by the student's logits (zs), where the rule is in the
// graph, and by what is learned. Of each sample once.
export function throughTemperatures(name, scope, byStudent, byTeacher) {
  if (!scope.adjoints) return {};
  formulas(name).student(scope).backward(byStudent);
  formulas(name).teacher(scope).backward(byTeacher);
  return scope.adjoints;
}
