// Chapter 8: what two losses do to each of a student's logits.

import { choice, logSlider, menu, scenes, traits } from "./controls.js";
import {
  circle,
  draggable,
  gridLines,
  label,
  line,
  path,
  picture,
  rect,
  TAU_TICKS,
  tauAxis,
  tauGrid,
  tauUnder,
  ticks,
  ticksBelow,
} from "./drawing.js";
import { LOSSES, METHODS } from "./from-python.js";
import {
  cosine,
  highest,
  inner,
  logSoftmax,
  lowest,
  norm,
  pearson,
  spread,
  standardize,
  sum,
} from "./math.js";
import { distill } from "./objective.js";
import {
  barLayout,
  classNames,
  LABEL_CHOICE,
  LABELS,
  pairSliders,
  rowOfBars,
  scaleSliders,
  studentLogits,
  teacherLogits,
} from "./pair.js";
import { readBatch, temperatures } from "./rules.js";
import { stage } from "./stage.js";
import { both, mapValues, num } from "./words.js";

const NAME = Object.assign({}, ...Object.values(LOSSES));
const LIMIT = "correlation"; // where zKD goes as τ grows
const ZERO = 1e-12; // a gradient shorter than this is rounding

// ---- gradients ----

function makePair(state) {
  const teacher = standardize(teacherLogits(state));
  const student = studentLogits(teacher, state.agreement);
  return {
    teacher,
    student,
    t: teacher.map((x) => state.teacher_scale * x),
    s: student.map((x) => state.student_scale * x),
    label: LABELS.indexOf(state.label),
  };
}

// What a method's rule reads of the pair, and the student's spread where the method standardizes.
function seenBy(method, pair, tau) {
  const { label } = pair;
  if (!method.standardize) {
    const sample = { student: pair.s, teacher: pair.t, label };
    return [readBatch(method.rule, [sample], 1, { tau })[0], null];
  }
  const own = spread(pair.s);
  const sample = { student: own.z, teacher: pair.teacher, label };
  return [readBatch(method.rule, [sample], 1, { tau })[0], own];
}

// By the student's raw logits.
export function gradient(state, name, tau = state.tau, pair = makePair(state)) {
  const method = METHODS[name];
  if (!method.divergence) {
    return logSoftmax(pair.s).map((log, k) => Math.exp(log) - Number(k === pair.label));
  }
  const divergenceOptions = { ...method.divergenceOptions };
  if ("anchor" in divergenceOptions) divergenceOptions.anchor = tau;
  const loss = distill({ ...method, divergenceOptions }, ...seenBy(method, pair, tau));
  return loss.differentiate().gradient;
}

// Whether a loss reads the figure's τ, and at which temperature it is.
const readsTau = (name) => Boolean(METHODS[name].readsTau);
function tauOf(state, name, pair) {
  const method = METHODS[name];
  if (!method.divergence || readsTau(name) || name === LIMIT) return state.tau;
  return temperatures(method.rule, seenBy(method, pair, state.tau)[0])[1];
}

const share = (g) => (norm(g) > ZERO ? Math.abs(g[0]) / sum(g.map(Math.abs)) : 0);
const angle = (a, b) => (Math.min(norm(a), norm(b)) > ZERO ? cosine(a, b) : 0);

export function compute(state) {
  const pair = makePair(state);
  const limitGradient = gradient(state, LIMIT, 1, pair);
  const measured = (who) => {
    const g = gradient(state, state[who], state.tau, pair);
    return {
      [`gradient_${who}`]: g,
      [`norm_${who}`]: norm(g),
      [`share_${who}`]: share(g),
      [`total_${who}`]: sum(g),
      [`radial_${who}`]: inner(g, pair.s),
      [`angle_${who}`]: angle(g, limitGradient),
    };
  };
  const v = { pair, limitGradient, ...measured("a"), ...measured("b") };
  return {
    ...v,
    cosine: angle(v.gradient_a, v.gradient_b),
    weight: v.norm_b > ZERO ? v.norm_a / v.norm_b : 0,
    limit: norm(limitGradient),
    rho: pearson(pair.teacher, pair.student),
  };
}

// ---- words ----

const START = {
  peak: 8,
  second: 4,
  ruled_out: -3,
  agreement: 0.8,
  classes: 10,
  teacher_scale: 3,
  student_scale: 2.5,
  label: "peak",
};
const scene = (a, b, tau, changes) => ({
  ...START,
  a,
  b,
  tau,
  bars: "as they are",
  curve: "strength",
  ...changes,
});
const SCENES = {
  "what does a teacher add?": scene("ce", "kd", 4),
  "what does standardizing take away?": scene("kd", "zkd", 2),
  "the same shape at half the size": scene("kd", "zkd", 2, { agreement: 1, student_scale: 1.5 }),
  "is MLT more than 1 − ρ?": scene("zkd+mlt", "correlation", 4, { curve: "angle" }),
  "where does β = 8 go?": scene("kd", "dkd", 4, { bars: "matched", curve: "peak" }),
  "without τ², the student at 1": scene("kd", "ttm", 10, { bars: "matched" }),
  "the label is wrong": scene("ce", "kd", 4, { label: "slip", curve: "angle" }),
};
const percent = (x) => `${Math.round(100 * x)} %`;

// A sum of rounding errors is none.
const isFlat = (v, who) => Math.abs(v[`radial_${who}`]) < 1e-9 * v[`norm_${who}`] * norm(v.pair.s);

function effect(v, who) {
  if (isFlat(v, who)) return "leaves their scale alone";
  return v[`radial_${who}`] < 0 ? "stretches them" : "shrinks them";
}

function direction(cosineOfBoth) {
  if (cosineOfBoth > 0.99) return "the same";
  if (cosineOfBoth > 0.9) return "nearly the same";
  if (cosineOfBoth > 0.5) return "a related";
  return cosineOfBoth > 0 ? "quite another" : "the opposite";
}

export function words(state, v) {
  const names = { a: NAME[state.a], b: NAME[state.b] };
  const silent = ["a", "b"].filter((who) => v[`norm_${who}`] <= ZERO);
  if (silent.length) {
    const other =
      `${names[silent[0] === "a" ? "b" : "a"]} also sees the scale, ` +
      `${num(state.student_scale)} against ${num(state.teacher_scale)}, and pulls on.`;
    return (
      `${silent.map((who) => names[who]).join(" and ")}: no pull at all. The student’s logits have the teacher’s shape, ` +
      `and after standardizing that is all there is. ${silent.length < 2 ? other : ""}`
    );
  }
  const along = "Along the student’s own logits, ";
  if (names.a === names.b) {
    return `Twice the same loss. ${percent(v.share_a)} of its pull is on the peak class. ${along}it ${effect(v, "a")}.`;
  }
  const [strong, weak, times] =
    v.weight >= 1 ? [names.a, names.b, v.weight] : [names.b, names.a, 1 / v.weight];
  const strength =
    times < 1.005
      ? `${names.a} and ${names.b} pull equally hard`
      : `${strong} pulls ${num(times)} times as hard as ${weak}`;
  const effects =
    effect(v, "a") === effect(v, "b")
      ? `each ${effect(v, "a")}`
      : `${names.a} ${effect(v, "a")} and ${names.b} ${effect(v, "b")}`;
  const lifting = ["a", "b"].find((who) => Math.abs(v[`total_${who}`]) > 1e-9 * v[`norm_${who}`]);
  const lift = ` ${names[lifting]} also shifts all of them at once: its gradient does not sum to 0.`;
  return (
    `${strength}, in ${direction(v.cosine)} direction (cosine ${num(v.cosine)}). ` +
    `The peak class has ${percent(v.share_a)} of ${names.a}’s pull and ${percent(v.share_b)} of ${names.b}’s. ` +
    `${along}${effects}.${lifting ? lift : ""}`
  );
}

// ---- bars ----

const LEFT = 44;

function drawBars(state, v, width) {
  const right = width - 4;
  const half = 56;
  const layout = barLayout(state.classes, LEFT, right);
  const factors = { a: 1, b: state.bars === "matched" && v.weight ? v.weight : 1 };
  const rows = ["a", "b"].map((who, i) => ({
    who,
    zero: 126 + i * 154,
    factor: factors[who],
    steps: v[`gradient_${who}`].map((g) => -factors[who] * g),
  }));
  const top = Math.max(1e-9, ...rows.map(({ steps }) => highest(steps.map(Math.abs))));
  const tick = ticks(top).pop();
  const shapes = rows.flatMap(({ who, zero, steps }) => [
    ...gridLines([tick, -tick], (x) => zero - (half * x) / top, LEFT, right),
    label(LEFT - 6, zero + 4, "0", "tick", "end"),
    ...rowOfBars(layout, steps, `bar-${who}`, (x) => [zero, (-half * x) / top]),
    line(LEFT, zero, right, zero, "axis"),
  ]);
  const values = rows.flatMap(({ who, zero, factor, steps }) => {
    const name = `${who.toUpperCase()}: ${NAME[state[who]]}${factor === 1 ? "" : ` × ${num(factor)}`}`;
    const numbers = steps.map((x, k) => {
      if (!layout.named(k) || Math.abs(x) <= top / 1e3) return null;
      const y = zero - (half * x) / top + (x > 0 ? -4 : 12);
      return label(layout.at(k) + layout.wide / 2, y, num(x), "value halo", "middle");
    });
    return [...numbers, label(LEFT, zero - half - 19, name, `name is-${who}`)];
  });
  const floor = 126 + 154 + half + 27;
  const read = rows.map(({ who, steps }) => {
    const named = [0, 1, 2, state.classes - 1].map((k) => num(steps[k]));
    return `${NAME[state[who]]}: ${named.join(", ")}`;
  });
  const sentence = `Pull on peak, second, slip, ruled-out class. ${read.join(". ")}.`;
  return picture(width, floor + 16, sentence, [
    ...shapes,
    ...classNames(layout, floor, LABELS.indexOf(state.label)),
    label(0, 14, `The pull on each logit, −g, at τ = ${num(state.tau)}`, "title"),
    label(0, 31, "above the line: pulled up · below: pushed down", "tick"),
    ...values,
  ]);
}

// ---- curves ----

const CURVES = {
  strength: ["strength", "How hard: the gradient’s length", norm],
  peak: ["peak class", "Where: share of the pull on the peak class", share],
  angle: [
    "direction",
    "Which way: cosine with the gradient of 1 − ρ",
    (g, limit) => angle(g, limit) || Number.NaN,
  ],
};

const known = {}; // the curves do not follow τ
function remember({ tau, bars, ...state }, who, make) {
  const key = JSON.stringify({ ...state, a: 0, b: 0, name: state[who] });
  if (known[who]?.key !== key) known[who] = { key, curve: make() };
  return known[who].curve;
}

// { who, name, points, now } of A, of B and of their limit.
function curvesOf(state, v, taus) {
  const measureOf = CURVES[state.curve][2];
  const measure = (g) => (norm(g) > ZERO ? measureOf(g, v.limitGradient) : Number.NaN);
  const flat = (value) => taus.map(() => value);
  const curves = ["a", "b"].map((who) => {
    const now = measure(v[`gradient_${who}`]);
    const follow = () => taus.map((tau) => measure(gradient(state, state[who], tau, v.pair)));
    const points = readsTau(state[who]) ? remember(state, who, follow) : flat(now);
    return { who, name: NAME[state[who]], points, now };
  });
  if (![state.a, state.b].includes(LIMIT)) {
    const points = flat(measure(v.limitGradient));
    curves.push({ who: "limit", name: NAME[LIMIT], points });
  }
  return curves;
}

// The vertical scale: { marks, at }, where `at` is from 0 to 1, and NaN below the axis.
function scaleOf(kind, curves) {
  const values = curves.flatMap(({ points }) => points).filter(Number.isFinite);
  if (kind === "strength") {
    const power = Math.ceil(Math.log10(Math.max(1e-3, ...values)) - 1e-9);
    const depth = ({ points }) => power - Math.floor(Math.log10(points.at(-1) || 1));
    const decades = Math.max(4, ...curves.map(depth));
    return {
      marks: Array.from({ length: decades + 1 }, (_, i) => 10 ** (power - i)),
      at: (value) => (Math.log10(value) - power) / decades + 1,
    };
  }
  if (kind === "peak") {
    const top = Math.max(0.5, ...values);
    return { marks: [0, 0.25, 0.5], at: (value) => value / top };
  }
  const bottom = lowest(values) < 0 ? -1 : 0;
  return {
    marks: bottom ? [-1, -0.5, 0, 0.5, 1] : [0, 0.5, 1],
    at: (value) => (value - bottom) / (1 - bottom),
  };
}

// Names where the curves end, 15 apart.
function namesAtTheEnd(curves, y, x, [roof, floor], none) {
  const ends = curves
    .map(({ who, name, points }) => {
      const end = y(points.at(-1));
      return { who, name: end ? name : name + none, wanted: end || floor };
    })
    .sort((one, two) => one.wanted - two.wanted);
  ends.forEach((end, i) => {
    end.y = Math.max(end.wanted, i ? ends[i - 1].y + 15 : roof);
  });
  for (let i = ends.length - 1; i >= 0; i -= 1) {
    ends[i].y = Math.min(ends[i].y, i < ends.length - 1 ? ends[i + 1].y - 15 : floor);
  }
  return ends.map((end) => label(x, end.y + 4, end.name, `name halo is-${end.who}`));
}

function drawCurve(state, v, width) {
  const roof = 46;
  const floor = 335;
  const right = width - 62;
  const plot = right - LEFT;
  const taus = tauGrid(state.classes > 200 ? 24 : 60);
  const curves = curvesOf(state, v, taus);
  const { marks, at } = scaleOf(state.curve, curves);
  const x = tauAxis(LEFT, plot);
  const y = (value) => (at(value) < -1e-9 ? Number.NaN : floor - (floor - roof) * at(value));
  const dots = curves.slice(0, 2).flatMap(({ who, now }) => {
    if (!(y(now) <= floor)) return [];
    const tau = tauOf(state, state[who], v.pair);
    const dot =
      who === "a"
        ? circle(x(tau), y(now), 5.5, "dot")
        : rect(x(tau) - 4.5, y(now) - 4.5, x(tau) + 4.5, y(now) + 4.5, "dot dot-b");
    const below = y(now) < roof + 30 ? 20 : -10;
    const note = `its τ = ${num(tau)}`;
    return [dot, tau !== state.tau && label(x(tau), y(now) + below, note, "tick halo", "middle")];
  });
  const title = CURVES[state.curve][1];
  const read = curves.map(({ name, points }) => `${name}: ${num(points.at(-1) || 0)} at 100`);
  const drawing = picture(width, floor + 44, `${title}, against τ. ${read.join("; ")}.`, [
    ...gridLines(marks, y, LEFT, right),
    ...ticksBelow(TAU_TICKS, x, floor),
    line(LEFT, floor, right, floor, "axis"),
    label(LEFT + plot / 2, floor + 34, "temperature τ", "name", "middle"),
    line(x(state.tau), roof, x(state.tau), floor, "now faint"),
    ...[...curves].reverse().map(({ who, points }) =>
      path(
        points.map((value, i) => [x(taus[i]), y(value)]),
        `curve line-${who}`,
      ),
    ),
    ...dots,
    ...namesAtTheEnd(
      curves,
      y,
      right + 8,
      [roof, floor],
      state.curve === "strength" ? ": 0" : ": –",
    ),
    label(0, 14, title, "title"),
    label(0, 31, "dotted: 1 − ρ, where zKD goes as τ grows", "tick"),
  ]);
  return draggable(drawing, { tauAt: tauUnder(LEFT, plot) });
}

// ---- stage ----

function render({ model, el }) {
  const names = [...Object.keys(START), "tau", "a", "b", "bars", "curve"];
  const made = traits(model, names);
  const { state, write, trait } = made;
  const current = { tauAt: null }; // of the last redraw
  return stage({
    model,
    el,
    kind: "gradient",
    title: "What the student feels",
    names,
    above: [
      scenes("Questions:", SCENES, write),
      [menu("A", LOSSES, trait("a")), menu("B", LOSSES, trait("b"))],
      logSlider("temperature τ", "CE, MLT and 1 − ρ do not read it", [0.1, 100], trait("tau")),
    ],
    below: [
      choice(
        "bars",
        { "as they are": ["as they are"], matched: ["B as strong as A", "B times λ"] },
        trait("bars"),
      ),
      choice("against τ", CURVES, trait("curve")),
      choice("label", LABEL_CHOICE, trait("label")),
      [...scaleSliders(made), ...pairSliders(made)],
    ],
    paint(width) {
      const v = compute(state());
      const curve = drawCurve(state(), v, width);
      current.tauAt = curve.tauAt;
      const radial = mapValues({ a: "a", b: "b" }, (who) =>
        isFlat(v, who) ? "0" : num(v[`radial_${who}`]),
      );
      return {
        pictures: [drawBars(state(), v, width), curve],
        numbers: [
          ["length A / B", both(v.norm_a, v.norm_b)],
          ["on the peak class", `${percent(v.share_a)} / ${percent(v.share_b)}`],
          ["cosine of A and B", v.weight ? num(v.cosine) : "–"],
          ["Σ g·s, A / B", `${radial.a} / ${radial.b}`],
          ["λ: B as hard as A", v.weight ? num(v.weight) : "–"],
        ],
        words: words(state(), v),
      };
    },
    dragged(_, x) {
      write({ tau: Number(current.tauAt(x).toPrecision(4)) });
    },
  });
}

export default { render };
