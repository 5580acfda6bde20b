// Chapter 1: two softmaxes at one temperature, and what it does to their divergence.

import { choice, scenes, slider, traits } from "./controls.js";
import {
  circle,
  draggable,
  gridLines,
  HIGH_TAU,
  hatching,
  LOW_TAU,
  label,
  line,
  newId,
  path,
  picture,
  rect,
  svg,
  TAU_TICKS,
  tauAxis,
  tauGrid,
  tauUnder,
  ticks,
} from "./drawing.js";
import {
  C_LOWER,
  C_UPPER,
  clamp,
  entropy,
  highest,
  lowest,
  pearson,
  softLoss,
  softmax,
  standardize,
} from "./math.js";
import {
  barLayout,
  classNames,
  pairSliders,
  rowOfBars,
  studentLogits,
  teacherLogits,
} from "./pair.js";
import { readBatch, temperatures } from "./rules.js";
import { stage } from "./stage.js";
import { both, num } from "./words.js";

export { C_LOWER, C_UPPER };

const ROW_OF = { teacher: "mlt-teacher", both: "mlt", absolute: "mlt-abs" };

export function compute(state) {
  const teacher = standardize(teacherLogits(state));
  const student = studentLogits(teacher, state.agreement);
  const tauBy = (rule) => temperatures(rule, readBatch(rule, [{ student, teacher }], 1)[0])[1];
  const values = {
    tau_teacher: tauBy(ROW_OF.teacher),
    tau_both: tauBy(ROW_OF.both),
    tau_absolute: tauBy(ROW_OF.absolute),
    upper: C_UPPER * Math.max(highest(teacher), highest(student)),
    lower: -C_LOWER * Math.min(lowest(teacher), lowest(student)),
  };
  const tau = state.rule === "hand" ? state.tau : values[`tau_${state.rule}`];
  const rho = pearson(teacher, student);
  return {
    ...values,
    tau,
    required: Math.max(values.upper, values.lower),
    max_teacher: highest(teacher),
    max_student: highest(student),
    min_teacher: lowest(teacher),
    min_student: lowest(student),
    entropy: entropy(teacher, tau),
    rho,
    limit: 1 - rho,
    loss: softLoss(student, teacher, tau),
    teacher,
    student,
    p: softmax(teacher, tau),
    q: softmax(student, tau),
  };
}

// ---- words ----

const CHOICES = {
  hand: ["by hand", "set by hand"],
  teacher: ["teacher only", "the teacher’s maximum (abstract)"],
  both: ["both, signed", "the larger signed maximum (Algorithm 1)"],
  absolute: ["both, absolute", "the larger absolute maximum (released code)"],
};
const scene = (peak, second, ruledOut, agreement, classes) => ({
  peak,
  second,
  ruled_out: ruledOut,
  agreement,
  classes,
});
const SCENES = {
  "one peak": scene(8, 0, 0, 0.8, 10),
  "two peaks": scene(8, 7, 0, 0.8, 10),
  "one class ruled out": scene(1, 1, -16, 0.95, 100),
  undecided: scene(1, 1, -1, 0.8, 10),
};
const inside = (tau, need) => tau >= need * (1 - 1e-9);

function comparedWithLimit({ loss, limit }) {
  const percent = limit > 1e-9 ? 100 * (loss / limit - 1) : 0;
  const size = Math.abs(percent);
  if (size < 0.5) return "equal to its limit";
  return `${size.toFixed(size < 10 ? 1 : 0)} % ${percent > 0 ? "above" : "below"} its limit`;
}

function whoIsOutside(v) {
  if (inside(v.tau, v.required)) return "Every logit is inside the interval of convergence.";
  const who = inside(v.tau, v.upper)
    ? "the class ruled out most strongly is outside."
    : "the highest logit is outside.";
  return `The interval needs τ of at least ${num(v.required)}: ${who}`;
}

export function words(state, v) {
  const by = state.rule === "hand" ? "set by hand" : `chosen by ${CHOICES[state.rule][1]}`;
  return (
    `At τ = ${num(v.tau)}, ${by}, the teacher gives its peak class probability ${num(v.p[0])} and the student ` +
    `${num(v.q[0])}; blind guessing gives ${num(1 / state.classes)}. The loss τ²·KL is ${num(v.loss)}, ` +
    `${comparedWithLimit(v)} 1 − ρ = ${num(v.limit)}. ${whoIsOutside(v)}`
  );
}

// ---- drawing ----

const HEIGHT = 322;
const LEFT = 40;
const RIGHT = 4;

function drawBars(state, v, width) {
  const middle = 166;
  const half = 92;
  const right = width - RIGHT;
  const top = Math.max(highest(v.p), highest(v.q));
  const scale = half / top;
  const layout = barLayout(state.classes, LEFT, right);
  const grid = ticks(top).flatMap((t) =>
    [-1, 1].flatMap((side) => gridLines([t], () => middle + side * t * scale, LEFT, right)),
  );
  const sides = [
    { p: v.p, side: -1, who: "teacher", index: "t", name: middle - half - 6 },
    { p: v.q, side: 1, who: "student", index: "s", name: middle + half + 14 },
  ];
  const bars = sides.flatMap(({ p, side, who, index, name }) => {
    const base = middle + side * 1.5;
    const uniform = base + (side * scale) / state.classes;
    const sign = svg("tspan", { dy: -5, "font-size": 9.5 }, index);
    return [
      ...rowOfBars(layout, p, who, (value) => [base, side * value * scale]),
      line(LEFT, uniform, right, uniform, "uniform"),
      label(right, name, [`${who} p`, sign], `name ${who}`, "end"),
    ];
  });
  const values = sides.flatMap(({ p, side }) =>
    p.map((value, k) => {
      if (!layout.named(k) || value <= 5e-5) return null;
      const y = middle + side * (1.5 + value * scale) + (side < 0 ? -4 : 12);
      return label(layout.at(k) + layout.wide / 2, y, num(value), "value halo", "middle");
    }),
  );
  const sentence = `Softmax probabilities at τ ${num(v.tau)}: teacher above the axis, student below.`;
  return picture(width, HEIGHT, sentence, [
    ...grid,
    ...bars,
    line(LEFT, middle, right, middle, "axis"),
    label(0, 14, `Softmax at τ = ${num(v.tau)}`, "title"),
    label(0, 31, `dotted: a blind guess, 1/K = ${num(1 / state.classes)}`, "tick"),
    ...classNames(layout, HEIGHT - 30),
    ...values,
  ]);
}

// Who chooses which τ, under the curve: [name of the value, text, whether it is a bound].
const ROWS = [
  ["upper", "c₂⁺·max z", true],
  ["lower", "c₂⁻·|min z|", true],
  ["tau_teacher", "teacher only", false],
  ["tau_both", "both, signed", false],
  ["tau_absolute", "both, absolute", false],
];

function drawRow(v, [key, name, bound], chosen, { x, y, right, width }) {
  const met = bound || inside(v[key], v.required);
  const text = `${name} ${num(v[key])}${met ? "" : " too low"}`;
  const roomy = x + 12 + 6.4 * text.length < width;
  const kind = (bound ? "row" : "halo row") + (chosen ? " chosen" : "");
  const mark = () => {
    if (bound) {
      return [rect(x, y - 8, right, y + 8, "band"), line(x, y - 8, x, y + 8, "bound")];
    }
    if (met) return [circle(x, y, 4, "mark")];
    return [svg("path", { d: `M${x - 4} ${y - 4}l8 8m0 -8l-8 8`, class: "cross" })];
  };
  const place = roomy ? [x + 9, "start"] : [x - 9, "end"];
  return [...mark(), label(place[0], y + 4, text, kind, place[1])];
}

function drawLoss(state, v, width, hatch) {
  const roof = 46;
  const floor = 194;
  const right = width - RIGHT;
  const plot = right - LEFT;
  const curve = tauGrid(120).map((tau) => [tau, softLoss(v.student, v.teacher, tau)]);
  const top = 1.08 * Math.max(0.02, v.limit, ...curve.map(([, loss]) => loss));
  const axis = tauAxis(LEFT, plot);
  const x = (tau) => axis(clamp(LOW_TAU, tau, HIGH_TAU));
  const y = (value) => floor - ((floor - roof) * value) / top;
  const now = x(v.tau);
  // The label of the limit goes where the curve is not.
  const above = y(v.limit) < floor - 20 && softLoss(v.student, v.teacher, 10) >= v.limit;
  const sentence =
    `τ²·KL against τ, from ${LOW_TAU} to ${HIGH_TAU}: ${num(v.loss)} at τ ${num(v.tau)}; ` +
    `limit 1 − ρ ${num(v.limit)}.`;
  const drawing = picture(width, HEIGHT, sentence, [
    svg("defs", {}, hatching(hatch)),
    rect(LEFT, roof, x(v.required), floor, "", { fill: `url(#${hatch})` }),
    ...gridLines(ticks(top), y, LEFT, right),
    ...TAU_TICKS.flatMap((t) => [
      line(x(t), floor, x(t), floor + 4, "axis"),
      label(x(t), floor + 17, String(t), "tick", t === HIGH_TAU ? "end" : "middle"),
    ]),
    line(LEFT, floor, right, floor, "axis"),
    label(LEFT + plot / 2, floor + 17, "τ", "name", "middle"),
    line(LEFT, y(v.limit), right, y(v.limit), "limit"),
    path(
      curve.map(([tau, loss]) => [x(tau), y(loss)]),
      "curve",
    ),
    label(
      right,
      y(v.limit) + (above ? 15 : -7),
      `limit 1 − ρ = ${num(v.limit)}`,
      "halo name",
      "end",
    ),
    line(now, floor, now, HEIGHT, "now faint"),
    line(now, roof, now, floor, "now"),
    circle(now, y(v.loss), 5.5, "dot"),
    label(0, 14, "The loss τ²·KL, and who chooses which τ", "title"),
    label(0, 31, "hatched: some logit is outside the interval", "tick"),
    ...ROWS.flatMap((row, i) =>
      drawRow(v, row, row[0] === `tau_${state.rule}`, {
        x: x(v[row[0]]),
        y: floor + 34 + 19 * i,
        right,
        width,
      }),
    ),
  ]);
  return draggable(drawing, { tauAt: tauUnder(LEFT, plot) });
}

// ---- stage ----

function render({ model, el }) {
  const names = ["peak", "second", "ruled_out", "classes", "agreement", "tau", "rule"];
  const made = traits(model, names);
  const { state, write } = made;
  const hatch = newId();
  const current = { tau: 1, tauAt: null }; // of the last redraw
  return stage({
    model,
    el,
    kind: "temperature",
    title: "Temperature explorer",
    names,
    above: [
      choice("τ is set", CHOICES, {
        read: () => model.get("rule"),
        write: (rule) => write(rule === "hand" ? { rule, tau: current.tau } : { rule }),
      }),
      slider("temperature τ", "Moving it sets τ by hand", [-1, 2, 0.01], {
        read: () => Math.log10(current.tau),
        write: (value) => write({ tau: 10 ** value, rule: "hand" }),
        show: () => num(current.tau),
      }),
    ],
    below: [scenes("Teacher:", SCENES, write), pairSliders(made)],
    paint(width) {
      const v = compute(state());
      const curve = drawLoss(state(), v, width, hatch);
      Object.assign(current, { tau: v.tau, tauAt: curve.tauAt });
      return {
        pictures: [drawBars(state(), v, width), curve],
        numbers: [
          ["τ", num(v.tau)],
          ["max z, teacher / student", both(v.max_teacher, v.max_student)],
          ["min z, teacher / student", both(v.min_teacher, v.min_student)],
          [
            "teacher’s entropy, nats",
            `${num(v.entropy)} of ${num(Math.log(model.get("classes")))}`,
          ],
          ["ρ", num(v.rho)],
          ["τ²·KL", num(v.loss)],
          ["1 − ρ", num(v.limit)],
        ],
        words: words(state(), v),
      };
    },
    dragged(_, x) {
      write({ tau: current.tauAt(x), rule: "hand" });
    },
  });
}

export default { render };
