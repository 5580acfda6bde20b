// Chapter 7: one pair of logits, and where every temperature rule puts its τ.

import { choice, menu, scenes, slider, traits } from "./controls.js";
import {
  HIGH_TAU,
  html,
  LOW_TAU,
  label,
  line,
  picture,
  rect,
  svg,
  TAU_TICKS,
  tauAxis,
} from "./drawing.js";
import { GROUPS, NOT_SHOWN, RULES, ZOO } from "./from-python.js";
import { clamp, entropy, lowest, softLoss, softmax, standardize, sum } from "./math.js";
import {
  LABEL_CHOICE,
  LABELS,
  pairSliders,
  scaleSliders,
  studentLogits,
  teacherLogits,
} from "./pair.js";
import { printedTemperatures, reach, readBatch, temperatures } from "./rules.js";
import { stage } from "./stage.js";
import { both, mapValues, num } from "./words.js";

const ALL = Object.values(GROUPS).flat(); // ZOO: { row: { name, formula, rule, standardized, note } }
const COMPANIONS = [0.5, 0.75, 0.95]; // agreement of the other students in the batch
const START = {
  peak: 8,
  second: 4,
  ruled_out: -3,
  agreement: 0.8,
  classes: 10,
  teacher_scale: 3,
  student_scale: 2.5,
  shift: 0,
  label: "peak",
  epoch: 1,
};

// ---- the rules ----

function readsStandardized(state, row) {
  if (state.logits === "published") return Boolean(ZOO[row].standardized);
  return state.logits === "standardized";
}

// The batch as raw logits and as standardized ones; the pair's own student is the first of four.
function makeBatches(state) {
  const teacher = standardize(teacherLogits(state));
  const students = [state.agreement, ...COMPANIONS].map((rho) => studentLogits(teacher, rho));
  const label = LABELS.indexOf(state.label);
  const scaled = (row) => row.map((x) => state.student_scale * x + state.shift);
  const rawTeacher = teacher.map((x) => state.teacher_scale * x);
  return {
    standardized: students.map((student) => ({ student, teacher, label })),
    raw: students.map((student) => ({ student: scaled(student), teacher: rawTeacher, label })),
  };
}

export function compute(state) {
  const batches = makeBatches(state);
  const v = { peaks: [], reaches: {} };
  const pairs = {};
  for (const row of ALL) {
    const { rule, options } = ZOO[row];
    const kind = readsStandardized(state, row) ? "standardized" : "raw";
    const [scope] = readBatch(rule, batches[kind], state.epoch, options);
    [pairs[row]] = batches[kind];
    v[row] = temperatures(rule, scope);
    v[`published_${row}`] = printedTemperatures(rule, scope);
    // A rule whose source standardizes reaches that far on standardized logits only.
    if (RULES[rule].low !== undefined && (kind === "standardized" || !ZOO[row].standardized)) {
      v.reaches[row] = reach(rule, scope);
    }
    v.peaks.push(softmax(pairs[row].teacher, v[row][1])[0]);
  }
  const { student, teacher } = pairs[state.rule];
  const [tauStudent, tauTeacher] = v[state.rule];
  const five = (p) => [p[0], p[1], p[2], sum(p.slice(3, -1)), p[p.length - 1]];
  return {
    ...v,
    tau_student: tauStudent,
    tau_teacher: tauTeacher,
    entropy: entropy(teacher, tauTeacher),
    loss: softLoss(student, teacher, tauStudent, tauTeacher),
    p: five(softmax(teacher, tauTeacher)),
    q: five(softmax(student, tauStudent)),
  };
}

// ---- words ----

const starts = {}; // the pair at the start, read in the same way: what has changed since?
function startOf({ logits, rule }) {
  starts[logits + rule] ??= compute({ ...START, logits, rule });
  return starts[logits + rule];
}

// As the source prints it, where the library guards it.
const published = (v, row) => v[`published_${row}`];
const isRefused = (v, row) => Boolean(published(v, row)) && lowest(published(v, row)) <= 0;
const hasMoved = (v, start, row) =>
  v[row].some((tau, i) => Math.abs(Math.log(tau / start[row][i])) > 0.005);

// How the probability of the teacher's peak class has changed: −1, 0 or 1.
function changeOfPeak(v, start, row) {
  const i = ALL.indexOf(row);
  const ratio = v.peaks[i] / start.peaks[i];
  return Math.abs(ratio - 1) < 0.005 ? 0 : Math.sign(ratio - 1);
}

const sets = ([student, teacher]) =>
  student === teacher
    ? `τ = ${num(teacher)}`
    : `τ = ${num(teacher)} for the teacher and ${num(student)} for the student`;

const listed = (rows) =>
  rows.length && rows.length < 7 ? ` (${rows.map((row) => ZOO[row].name).join("; ")})` : "";

export function words(state, v) {
  const start = startOf(state);
  const groups = { refused: [], moved: [], changed: [], same: [] };
  for (const row of ALL) {
    if (isRefused(v, row)) groups.refused.push(row);
    else if (hasMoved(v, start, row)) groups.moved.push(row);
    else groups[changeOfPeak(v, start, row) ? "changed" : "same"].push(row);
  }
  const { refused, moved, changed, same } = groups;
  const chosen =
    `${isRefused(v, state.rule) ? "Guarded, " : ""}${ZOO[state.rule].name} sets ${sets(v[state.rule])}; ` +
    `the teacher’s peak class gets ${num(v.p[0])}.`;
  if (same.length === ALL.length) {
    return `${chosen} All rules make the softmax of the start. Change the pair: which answer, and which stand still while their softmax changes?`;
  }
  const asked = refused.length ? num(lowest(published(v, refused[0]))) : "";
  return (
    (refused.length ? `Refused${listed(refused)}: the formula needs τ = ${asked}. ` : "") +
    `Against the start, ${moved.length} of ${ALL.length} rules moved${listed(moved)}, ` +
    `${changed.length} stand still but make another softmax${listed(changed)}, and ${same.length} make the same one. ` +
    chosen
  );
}

function note(state, v) {
  const printed = published(v, state.rule);
  if (isRefused(v, state.rule)) {
    return (
      `As printed, τᵗ = ${num(printed[1])} and τˢ = ${num(printed[0])}. A negative τ turns the classes’ order ` +
      "round and makes the loss negative. adakd keeps it above 0, which the bars show."
    );
  }
  if (printed) return "As printed nothing keeps it above 0: shift the student down, and see.";
  const text = ZOO[state.rule].note ?? "";
  return text.endsWith("batch")
    ? `${text}: this pair and three more students of the same teacher, scale and shift, with ρ = 0.5, 0.75 and 0.95.`
    : text;
}

// ---- the zoo ----

// Triangles point at their temperature, the teacher's from above.
const SHAPES = {
  dot: (x, y) => `M${x - 5} ${y}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z`,
  teacher: (x, y) => `M${x} ${y}l-5.5 -8.5h11z`,
  student: (x, y) => `M${x} ${y}l-5.5 8.5h11z`,
};
const BEYOND = (tau) => (tau > HIGH_TAU ? " →" : tau < LOW_TAU ? " ←" : "");

// The marks of one row, with hollow ones where it stood at the start, and their numbers.
function drawMarks(v, start, row, y, { left, width, x }) {
  const [tauStudent, tauTeacher] = v[row];
  const [startStudent, startTeacher] = start[row];
  const moved = hasMoved(v, start, row);
  const marks =
    tauStudent === tauTeacher
      ? [["dot", tauTeacher, startTeacher]]
      : [
          ["teacher", tauTeacher, startTeacher],
          ["student", tauStudent, startStudent],
        ];
  const shapes = marks.flatMap(([shape, tau, before]) => [
    ...(moved ? [svg("path", { d: SHAPES[shape](x(before), y), class: "ghost" })] : []),
    svg("path", { d: SHAPES[shape](x(tau), y), class: shape }),
  ]);
  const texts = marks.map(([shape, tau, before]) => {
    const text = (shape === "dot" ? "" : `${shape[0]} `) + num(tau) + BEYOND(tau);
    const length = 6.2 * text.length;
    const right = Math.max(x(tau), moved && shape === "dot" ? x(before) : 0) + 9;
    const higher = tau === Math.max(tauStudent, tauTeacher);
    const turned = higher ? right + length > width - 52 : x(tau) - 9 - length > left;
    const [place, anchor] = turned ? [x(tau) - 9, "end"] : [right, "start"];
    return label(place, y + 4, text, `halo value is-${shape}`, anchor);
  });
  return [...shapes, ...texts];
}

function drawRow(state, v, start, row, y, frame) {
  const { left, width, x } = frame;
  const chosen = row === state.rule;
  const element = svg("g", { class: `rule ${chosen ? "on" : ""}`, "data-rule": row }, [
    rect(-4, y - 11, width + 4, y + 11, "hit", { rx: 4 }),
    label(8, y + 4, ZOO[row].name, chosen ? "chosen" : ""),
    label(left - 9, y + 4, readsStandardized(state, row) ? "z" : "v", "tick reads", "end"),
  ]);
  if (v.reaches[row]) {
    const [low, high] = v.reaches[row];
    element.append(rect(x(low), y - 6, x(high), y + 6, "reach", { rx: 3 }));
  }
  if (isRefused(v, row)) {
    const text = `✗ τ = ${num(lowest(published(v, row)))}: refused`;
    element.append(
      label(left + 4, y + 4, text, "halo refused"),
      label(width - 14, y + 4, "–", "value", "end"),
    );
    return element;
  }
  const peak = num(v.peaks[ALL.indexOf(row)]);
  const arrow = { "-1": "↓", 0: "", 1: "↑" }[changeOfPeak(v, start, row)];
  element.append(
    ...drawMarks(v, start, row, y, frame),
    label(width - 14, y + 4, peak, `value ${chosen ? "chosen" : ""}`, "end"),
    label(width, y + 4, arrow, "value", "end"),
  );
  return element;
}

function drawZoo(state, v, width) {
  const start = startOf(state);
  const left = width < 420 ? 112 : 122;
  const plot = width - left - 60;
  const axis = tauAxis(left, plot);
  const x = (tau) => Math.round(10 * axis(clamp(LOW_TAU, tau, HIGH_TAU))) / 10;
  const rows = [];
  let y = 58;
  for (const [heading, group] of Object.entries(GROUPS)) {
    rows.push(label(0, y + 5, heading, "group"));
    group.forEach((row, i) => {
      y += i ? 22 : 20;
      rows.push(drawRow(state, v, start, row, y, { left, width, x }));
    });
    y += 26;
  }
  const floor = y - 8;
  const grid = TAU_TICKS.flatMap((t) => [
    line(x(t), 62, x(t), floor + 4, "grid"),
    label(x(t), floor + 17, String(t), "tick", "middle"),
  ]);
  const sentence = ALL.map(
    (row) => `${ZOO[row].name}: ${isRefused(v, row) ? "refused" : sets(v[row])}`,
  );
  return picture(width, floor + 36, `${sentence.join("; ")}.`, [
    ...grid,
    line(left, floor, left + plot, floor, "axis"),
    label(left + plot / 2, floor + 33, "temperature τ", "name", "middle"),
    label(0, 14, "Where the rules put τ", "title"),
    label(0, 31, "hollow: at the start · bar: all a rule can reach", "tick"),
    label(width, 31, "p of the peak", "tick", "end"),
    ...rows,
  ]);
}

// ---- bars ----

function drawBars(state, v, width) {
  const start = startOf(state);
  const left = 74;
  const top = Math.max(...v.p, ...v.q);
  const x = (p) => left + ((width - left - 92) * p) / top;
  const bar = (p, before, y, who, first) => {
    const differs = Math.abs(p - before) > 0.002 && before < 1.2 * top;
    const beside = differs && before > p && x(before) < x(p) + (first ? 90 : 40);
    return [
      svg("path", { d: `M${left} ${y}H${x(p)}v15H${left}z`, class: who }),
      differs && line(x(before), y - 1, x(before), y + 16, "was"),
      label(
        x(beside ? before : p) + 7,
        y + 12,
        num(p) + (first ? ` ${who}` : ""),
        `halo value is-${who}`,
      ),
    ];
  };
  const rows = ["peak", "2nd", "slip", "others", "ruled out"].flatMap((name, k) => {
    const middle = 68 + k * 46;
    const others = k === 3;
    const labelled = LABELS.indexOf(state.label) === k;
    const below = labelled ? "the label" : others ? `${state.classes - 4} of them` : "";
    const guess = (others ? state.classes - 4 : 1) / state.classes;
    return [
      label(left - 10, middle + (below ? -2 : 4), name, labelled ? "chosen" : "", "end"),
      label(left - 10, middle + 12, below, "tick", "end"),
      guess < 1.1 * top && line(x(guess), middle - 20, x(guess), middle + 20, "guess"),
      ...bar(v.p[k], start.p[k], middle - 16, "teacher", k === 0),
      ...bar(v.q[k], start.q[k], middle + 1, "student", k === 0),
    ];
  });
  const { name } = ZOO[state.rule];
  const sentence =
    `Softmax by ${name}: the peak class gets ${num(v.p[0])} by the teacher ` +
    `and ${num(v.q[0])} by the student.`;
  return picture(width, 282, sentence, [
    ...rows,
    line(left, 46, left, 278, "axis"),
    label(0, 14, `The softmax that ${name} makes`, "title"),
    label(0, 31, "thin: at the start · dotted: a blind guess", "tick"),
  ]);
}

// ---- stage ----

const SCENES = {
  "the start": {},
  "both × 3": { teacher_scale: 9, student_scale: 7.5 },
  "student − 10": { shift: -10 },
  "a surer student": { teacher_scale: 1.5, student_scale: 6 },
  "one class ruled out": { peak: 1, second: 1, ruled_out: -16, agreement: 0.95, classes: 100 },
  "1000 classes": { classes: 1000 },
  "epoch 120": { epoch: 120 },
  "epoch 120, far behind": { epoch: 120, agreement: 0.3 },
};

function render({ model, el }) {
  const names = [...Object.keys(START), "logits", "rule"];
  const made = traits(model, names);
  const { state, write, trait, decimal } = made;
  const inMenu = mapValues(GROUPS, (group) =>
    Object.fromEntries(group.map((row) => [row, ZOO[row].name])),
  );
  return stage({
    model,
    el,
    names,
    kind: "zoo",
    title: "Zoo of temperatures",
    above: [
      scenes(
        "What if:",
        mapValues(SCENES, (changes) => ({ ...START, ...changes })),
        write,
      ),
      choice(
        "rules read",
        {
          published: ["as in their papers"],
          raw: ["all raw logits v"],
          standardized: ["all standardized z"],
        },
        trait("logits"),
      ),
      menu("softmax by", inMenu, trait("rule")),
    ],
    below: [
      choice("label", LABEL_CHOICE, trait("label")),
      [
        ...scaleSliders(made),
        slider(
          "student’s shift",
          "Added to all of the student’s logits",
          [-20, 20, 0.5],
          decimal("shift", 1),
        ),
        slider("epoch", "Of 240; schedules follow it", [1, 240, 1], trait("epoch")),
        ...pairSliders(made),
      ],
    ],
    paint(width, two) {
      const s = state();
      const v = compute(s);
      const wide = two ? Math.round(1.2 * width) : width;
      const rest = two ? 2 * width - wide : width;
      const zoo = drawZoo(s, v, wide);
      zoo.addEventListener("click", ({ target }) => {
        const row = target.closest("[data-rule]");
        if (row) write({ rule: row.dataset.rule });
      });
      const card = html("div", { class: "card" }, [
        html("b", {}, ZOO[s.rule].formula),
        html("p", {}, note(s, v)),
        ...(NOT_SHOWN ? [html("p", {}, NOT_SHOWN)] : []),
      ]);
      return {
        pictures: [zoo, html("div", { style: `width:${rest}px` }, [drawBars(s, v, rest), card])],
        numbers: [
          ["τ, teacher / student", both(v.tau_teacher, v.tau_student)],
          ["teacher’s entropy, nats", `${num(v.entropy)} of ${num(Math.log(s.classes))}`],
          ["τˢ·τᵗ·KL", num(v.loss)],
        ],
        words: words(s, v),
      };
    },
  });
}

export default { render };
