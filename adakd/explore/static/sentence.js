// Chapter 17: a sentence, position by position: the teacher's bars, the temperature by rule, the student's answer.

import { choice, slider, traits } from "./controls.js";
import {
  circle,
  draggable,
  gridLines,
  label,
  line,
  path,
  picture,
  rect,
  ticks,
} from "./drawing.js";
import { entropy, highest, lowest, pearson, softLoss, softmax, spread } from "./math.js";
import { readBatch, temperatures } from "./rules.js";
import { stage } from "./stage.js";
import { num } from "./words.js";

// Names of RULES by choice; those that read raw logits are divided by the spread of the teacher's row.
const ROWS = {
  teacher: "mlt-teacher",
  both: "mlt",
  absolute: "mlt-abs",
  constant: "fixed",
  adakd: "adakd",
};
const RAW = new Set(["adakd"]);
const CONSTANT = 2;
export const SHOWN = 12; // words of which bars are drawn

// τ of every position by every rule, in spreads of the teacher's row.
function schedule(teachers, students, sigmas, raw) {
  return Object.fromEntries(
    Object.entries(ROWS).map(([key, rule]) => {
      const samples = RAW.has(key)
        ? raw
        : teachers.map((teacher, i) => ({ teacher, student: students[i] }));
      const options = key === "constant" ? { tau: CONSTANT } : {};
      const batch = readBatch(rule, samples, 1, options);
      return [
        key,
        batch.map((scope, i) => temperatures(rule, scope)[1] / (RAW.has(key) ? sigmas[i] : 1)),
      ];
    }),
  );
}

export function compute(state) {
  const { data, rule } = state;
  const i = state.position - 1;
  const rows = data.teacher.map((row) => spread(row));
  const teachers = rows.map(({ z }) => z);
  const students = data.student.map((row) => spread(row).z);
  const raw = data.teacher.map((teacher, k) => ({ teacher, student: data.student[k] }));
  const taus = schedule(
    teachers,
    students,
    rows.map(({ sigma }) => sigma),
    raw,
  );
  const tau = taus[rule][i];
  const [teacher, student] = [teachers[i], students[i]];
  const limit = 1 - pearson(teacher, student);
  const loss = softLoss(student, teacher, tau);
  const soft = state.view === "softened";
  return {
    ...Object.fromEntries(Object.keys(ROWS).map((key) => [`tau_${key}`, taus[key][i]])),
    tau,
    highest: highest(teacher),
    lowest: lowest(teacher),
    asymmetry: -lowest(teacher) / highest(teacher),
    entropy: entropy(data.teacher[i], 1),
    entropy_student: entropy(data.student[i], 1),
    entropy_soft: entropy(teacher, tau),
    limit,
    loss,
    ratio: loss / limit,
    taus: taus[rule],
    p: soft ? softmax(teacher, tau) : softmax(data.teacher[i], 1),
    q: soft ? softmax(student, tau) : softmax(data.student[i], 1),
  };
}

// ---- words ----

const CHOICES = {
  teacher: ["teacher only", "the teacher’s maximum (abstract)"],
  both: ["both, signed", "the larger signed maximum (Algorithm 1)"],
  absolute: ["both, absolute", "the larger absolute maximum (released code)"],
  constant: ["τ = 2", "one constant for all positions"],
  adakd: ["adakd", "by the student’s difficulty"],
};
const VIEWS = {
  outputs: ["as they are", "the outputs at τ = 1"],
  softened: ["softened", "at the temperature of the rule"],
};
const context = (data, i) => `${data.words[i]} ${data.words[i + 1]}`;

function words(state, v) {
  const { data } = state;
  const i = state.position - 1;
  const known = data.plausible ? `${data.plausible[i]} words are plausible. ` : "";
  return (
    `After “${context(data, i)}”: ${known}The teacher is as unsure as among ${num(Math.exp(v.entropy))} words, the student as ` +
    `among ${num(Math.exp(v.entropy_student))}. By ${CHOICES[state.rule][1]} τ = ${num(v.tau)}, in spreads of the teacher’s ` +
    `row, and softened by it the teacher is as unsure as among ${num(Math.exp(v.entropy_soft))} of ${v.p.length} words. ` +
    `There τ²·KL is ${num(v.ratio)} times 1 − ρ.`
  );
}

// ---- drawing ----

const HEIGHT = 270;
const LEFT = 34;

function drawBars(state, v, width) {
  const { data } = state;
  const i = state.position - 1;
  const order = [...v.p.keys()].sort((a, b) => v.p[b] - v.p[a] || a - b).slice(0, SHOWN);
  const floor = HEIGHT - 34;
  const roof = 44;
  const step = (width - LEFT - 4) / order.length;
  const truth = state.view === "outputs" && data.truth ? data.truth[i] : null;
  const top = 1.08 * Math.max(...order.map((k) => Math.max(v.p[k], v.q[k], truth?.[k] ?? 0)));
  const y = (p) => floor - ((floor - roof) * p) / top;
  const at = (n) => LEFT + step * (n + 0.5);
  const bars = order.flatMap((k, n) => [
    rect(at(n) - 0.38 * step, y(v.p[k]), at(n) + 0.38 * step, floor, "bar"),
    truth && line(at(n) - 0.42 * step, y(truth[k]), at(n) + 0.42 * step, y(truth[k]), "truth"),
    circle(at(n), y(v.q[k]), 4, "answer"),
    label(at(n), floor + 16, data.vocabulary[k], "tick", "middle"),
  ]);
  const legend = truth ? "bars teacher, dots student, strokes truth" : "bars teacher, dots student";
  const sentence = `Probabilities of the ${order.length} likeliest words after ${context(data, i)}: ${order
    .slice(0, 3)
    .map((k) => `${data.vocabulary[k]} ${num(v.p[k])}`)
    .join(", ")}.`;
  return picture(width, HEIGHT, sentence, [
    ...gridLines(ticks(top), y, LEFT, width - 4),
    ...bars,
    line(LEFT, floor, width - 4, floor, "axis"),
    label(0, 14, `After “${context(data, i)} …”`, "title"),
    label(0, 31, legend, "tick"),
  ]);
}

function drawSentence(state, v, width) {
  const { data } = state;
  const floor = HEIGHT - 34;
  const roof = 44;
  const count = v.taus.length;
  const step = (width - LEFT - 4) / count;
  const top = 1.12 * Math.max(...v.taus);
  const y = (tau) => floor - ((floor - roof) * tau) / top;
  const at = (n) => LEFT + step * (n + 0.5);
  const now = state.position - 1;
  const drawing = picture(
    width,
    HEIGHT,
    `Temperature by position, from ${num(Math.min(...v.taus))} to ${num(Math.max(...v.taus))}; here ${num(v.tau)}.`,
    [
      ...gridLines(ticks(top), y, LEFT, width - 4),
      path(
        v.taus.map((tau, n) => [at(n), y(tau)]),
        "curve",
      ),
      line(at(now), roof, at(now), floor, "now"),
      ...v.taus.map((tau, n) => circle(at(n), y(tau), n === now ? 6 : 3.5, "dot")),
      line(LEFT, floor, width - 4, floor, "axis"),
      ...v.taus.map((_, n) =>
        label(at(n), floor + 16, data.words[n + 1], n === now ? "tick chosen" : "tick", "middle"),
      ),
      label(0, 14, "The temperature along the sentence", "title"),
      label(0, 31, "after each word, in spreads of the teacher’s row", "tick"),
    ],
  );
  const positionAt = (x) => Math.min(count, Math.max(1, Math.floor((x - LEFT) / step) + 1));
  return draggable(drawing, { positionAt });
}

// ---- stage ----

function render({ model, el }) {
  const names = ["data", "position", "rule", "view"];
  const { state, write, trait } = traits(model, names);
  const current = { positionAt: null }; // of the last redraw
  return stage({
    model,
    el,
    kind: "sentence",
    title: "Sentence explorer",
    names,
    above: [
      slider("position", "Which word is to be foretold", [1, model.get("data").teacher.length, 1], {
        ...trait("position"),
      }),
      choice("τ by", CHOICES, trait("rule")),
      choice("outputs", VIEWS, trait("view")),
    ],
    below: [],
    paint(width) {
      const v = compute(state());
      const sentence = drawSentence(state(), v, width);
      current.positionAt = sentence.positionAt;
      return {
        pictures: [sentence, drawBars(state(), v, width)],
        numbers: [
          ["τ", num(v.tau)],
          ["max z", num(v.highest)],
          ["min z", num(v.lowest)],
          ["teacher’s entropy, nats", num(v.entropy)],
          ["τ²·KL", num(v.loss)],
          ["1 − ρ", num(v.limit)],
        ],
        words: words(state(), v),
      };
    },
    dragged(_, x) {
      write({ position: current.positionAt(x) });
    },
  });
}

export default { render };
