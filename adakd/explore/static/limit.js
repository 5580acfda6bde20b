// Chapter 4: τ²·KL between its bounds, on its way to 1 − ρ.

import { choice, logSlider, scenes, slider, traits } from "./controls.js";
import {
  circle,
  draggable,
  gridLines,
  label,
  line,
  path,
  picture,
  rect,
  svg,
  ticks,
  ticksBelow,
} from "./drawing.js";
import { TEACHER } from "./from-python.js";
import {
  centered,
  clamp,
  highest,
  lowest,
  pearson,
  softLoss,
  softmax,
  standardize,
} from "./math.js";
import { rowOfBars, teacherLogits } from "./pair.js";
import { readBatch, temperatures } from "./rules.js";
import { stage } from "./stage.js";
import { both, num } from "./words.js";

// ---- the pair ----

function teacherOf(classes) {
  const [peak, second, ruledOut] = TEACHER;
  return standardize(teacherLogits({ peak, second, ruled_out: ruledOut, classes }));
}

// Where the student errs, a row of K numbers.
const ERRORS = {
  everywhere: (k, last) => (k < 2 || k === last ? 0 : (((k + 1) * 0.6180339887498949) % 1) - 0.5),
  top: (k) => [-1, 1][k] ?? 0,
  bottom: (k, last) => Number(k === last),
};

// The teacher turned towards an error at a right angle to it: the correlation of the two is exactly `agreement`.
function studentOf(teacher, error, agreement) {
  const row = centered(teacher.map((_, k) => ERRORS[error](k, teacher.length - 1)));
  const along = pearson(row, teacher);
  const side = standardize(row.map((x, k) => x - along * teacher[k]));
  const rest = Math.sqrt(1 - agreement * agreement);
  return teacher.map((z, k) => agreement * z + rest * side[k]);
}

const ROW_OF = { teacher: "mlt-teacher", both: "mlt", absolute: "mlt-abs" };
const lowerBound = (v, tau) => Math.exp((v.lowest - v.highest) / tau) * v.limit;
const upperBound = (v, tau) => Math.exp(v.highest / tau) * v.limit;

export function compute({ error, classes, agreement, tau }) {
  const teacher = teacherOf(classes);
  const student = studentOf(teacher, error, agreement);
  const rho = pearson(student, teacher);
  const top = Math.max(highest(teacher), highest(student));
  const v = {
    teacher,
    student,
    p: softmax(teacher, tau),
    q: softmax(student, tau),
    rho,
    limit: 1 - rho,
    loss: softLoss(student, teacher, tau),
    highest: top,
    lowest: Math.min(lowest(teacher), lowest(student)),
    near: top / Math.log(1.1),
  };
  for (const [name, rule] of Object.entries(ROW_OF)) {
    const at = temperatures(rule, readBatch(rule, [{ student, teacher }], 1)[0])[1];
    v[`tau_${name}`] = at;
    v[`loss_${name}`] = softLoss(student, teacher, at);
  }
  return {
    ...v,
    ratio: v.loss / v.limit,
    lower: lowerBound(v, tau),
    upper: upperBound(v, tau),
    teacher_peak: v.p[0],
    student_peak: v.q[0],
    teacher_last: v.p[classes - 1],
    student_last: v.q[classes - 1],
  };
}

// ---- words ----

const CHOICES = {
  everywhere: ["everywhere", "errs a little everywhere"],
  top: ["exchange at the top", "takes the second class for the first"],
  bottom: ["last class not seen", "has not learned that the last class is ruled out"],
};
const SHORT = { everywhere: "everywhere", top: "top", bottom: "last class" };

function comparedWithLimit({ ratio }) {
  if (Math.abs(ratio - 1) < 0.005) return "equal to its limit";
  return ratio > 1 ? `${num(ratio)} times its limit` : `${num(100 * ratio)} % of its limit`;
}

// Far from the limit a bound says little.
const bound = (x) => (x > 1e4 ? "> 10 000" : x < 1e-4 ? "< 0.0001" : num(x));

export function words(state, v) {
  return (
    `The student ${CHOICES[state.error][1]}. At τ = ${num(state.tau)} this costs τ²·KL = ${num(v.loss)}, ` +
    `${comparedWithLimit(v)} 1 − ρ = ${num(v.limit)}; the lower bound is ${bound(v.lower)}, the upper one ${bound(v.upper)}. ` +
    `Algorithm 1 takes τ = ${num(v.tau_both)}, where it costs ${num(v.loss_both)}. ` +
    `From τ = ${num(v.near)} on the upper bound is less than 10 % above the limit.`
  );
}

// ---- drawing ----

const HEIGHT = 322;
const LEFT = 44;
const RIGHT = 8;
const LOW = 0.1; // of τ
const HIGH = 1000;
const TAUS = Array.from({ length: 121 }, (_, i) => LOW * (HIGH / LOW) ** (i / 120));
const FLOOR = 1e-4; // of the loss
const ROOF = 10;

const axisOf = (width) => (tau) =>
  LEFT + ((width - RIGHT - LEFT) * Math.log(tau / LOW)) / Math.log(HIGH / LOW);
const tauUnder = (width, px) =>
  clamp(LOW, LOW * (HIGH / LOW) ** ((px - LEFT) / (width - RIGHT - LEFT)), HIGH);

const RULES_BELOW = [
  ["teacher", "teacher only"],
  ["both", "both, signed"],
  ["absolute", "both, absolute"],
];

const diamond = (x, y) => svg("path", { d: `M${x - 5} ${y}l5 -5 5 5 -5 5z`, class: "rule" });

function drawLoss(state, v, width) {
  const roof = 46;
  const floor = 216;
  const right = width - RIGHT;
  const x = axisOf(width);
  const level = (loss) =>
    floor - ((floor - roof) * Math.log(loss / FLOOR)) / Math.log(ROOF / FLOOR);
  const shown = (loss) => (loss > 0.999 * FLOOR && loss < 1.001 * ROOF ? level(loss) : Number.NaN);
  const held = (loss) => level(clamp(FLOOR, loss, ROOF));
  const curveOf = (error) => {
    const student =
      error === state.error ? v.student : studentOf(v.teacher, error, state.agreement);
    return TAUS.map((tau) => [tau, softLoss(student, v.teacher, tau)]);
  };
  const drawn = (curve, kind) =>
    path(
      curve.map(([tau, loss]) => [x(tau), shown(loss)]),
      kind,
    );
  const place = (bounds) => (tau) => `${x(tau).toFixed(1)} ${held(bounds(v, tau)).toFixed(1)}`;
  const band = [...TAUS.map(place(upperBound)), ...TAUS.toReversed().map(place(lowerBound))];
  // The two other errors, named where they rise: the first on its left, if there is room.
  const others = Object.keys(ERRORS)
    .filter((error) => error !== state.error)
    .map((error) => {
      const curve = curveOf(error);
      const [tau, loss] = curve.find(([, y]) => y > 60 * FLOOR) ?? [HIGH, FLOOR];
      return { error, curve, at: x(tau), y: held(loss) };
    })
    .sort((a, b) => a.at - b.at);
  const named = others.flatMap(({ error, curve, at, y }, i) => {
    const [px, anchor] = i === 0 && at > LEFT + 62 ? [at - 5, "end"] : [at + 5, "start"];
    return [drawn(curve, "other"), label(px, y - 4, SHORT[error], "tick halo", anchor)];
  });
  const now = x(state.tau);
  const below = (text, at, i, mark) => {
    const y = floor + 38 + 19 * i;
    const [px, anchor] = at + 12 + 6.4 * text.length < width ? [9, "start"] : [-9, "end"];
    return [...mark(at, y), label(at + px, y + 4, text, "halo", anchor)];
  };
  const sentence =
    `τ²·KL against τ, from ${LOW} to ${HIGH}, on logarithmic axes: ${num(v.loss)} at τ ${num(state.tau)}, ` +
    `between ${bound(v.lower)} and ${bound(v.upper)}; limit 1 − ρ ${num(v.limit)}.`;
  const drawing = picture(width, HEIGHT, sentence, [
    svg("path", { d: `M${band.join("L")}z`, class: "band" }),
    ...gridLines([1e-4, 1e-3, 0.01, 0.1, 1, 10], level, LEFT, right),
    line(LEFT, floor, right, floor, "axis"),
    ...ticksBelow([0.1, 1, 10, 100], x, floor),
    label(right, floor + 17, "1000", "tick", "end"),
    label(x(30), floor + 17, "τ", "name", "middle"),
    line(LEFT, level(v.limit), right, level(v.limit), "limit"),
    ...named,
    ...RULES_BELOW.flatMap(([name, text], i) => {
      const tau = v[`tau_${name}`];
      return [
        line(x(tau), held(v[`loss_${name}`]), x(tau), floor + 38 + 19 * i, "stem"),
        ...below(`${text} ${num(tau)}`, x(tau), i, (px, y) => [diamond(px, y)]),
      ];
    }),
    ...below(`≤ 1.1 (1 − ρ) from ${num(v.near)}`, x(v.near), 3, (px, y) => [
      rect(px, y - 8, right, y + 8, "near"),
      line(px, y - 8, px, y + 8, "edge"),
    ]),
    drawn(curveOf(state.error), "curve"),
    ...RULES_BELOW.map(([name]) => diamond(x(v[`tau_${name}`]), held(v[`loss_${name}`]))),
    label(right, level(v.limit) - 6, `1 − ρ = ${num(v.limit)}`, "name halo", "end"),
    line(now, floor, now, HEIGHT, "now faint"),
    line(now, roof, now, floor, "now"),
    circle(now, held(v.loss), 5.5, "dot"),
    label(0, 14, "The loss τ²·KL between its bounds", "title"),
    label(0, 31, "thin: the two other errors; ◆ the maximum logit’s τ", "tick"),
  ]);
  return draggable(drawing);
}

// Wide bars for the two strong classes and the last, thin ones for the others.
function barsBetween(classes, left, right) {
  const plot = right - left;
  const last = classes - 1;
  const wide = Math.max(plot / classes, Math.min(46, plot / 8));
  const thin = (plot - 3 * wide) / (classes - 3);
  const named = (k) => k < 2 || k === last;
  return {
    wide,
    named,
    at: (k) => left + (k < 2 ? k * wide : k === last ? plot - wide : 2 * wide + (k - 2) * thin),
    width: (k) => (named(k) ? wide : thin),
  };
}

function drawBars(state, v, width) {
  const { classes, tau } = state;
  const middle = 166;
  const half = 92;
  const right = width - 4;
  const top = Math.max(highest(v.p), highest(v.q));
  const scale = half / top;
  const layout = barsBetween(classes, LEFT, right);
  const center = (k) => layout.at(k) + layout.wide / 2;
  const sides = [
    { row: v.p, side: -1, who: "teacher", index: "t" },
    { row: v.q, side: 1, who: "student", index: "s" },
  ];
  const bars = sides.flatMap(({ row, side, who, index }) => {
    const base = middle + side * 1.5;
    const uniform = base + (side * scale) / classes;
    const sign = svg("tspan", { dy: -5, "font-size": 9.5 }, index);
    const name = middle + side * half + (side < 0 ? -19 : 27);
    return [
      ...rowOfBars(layout, row, who, (value) => [base, side * value * scale]),
      line(LEFT, uniform, right, uniform, "uniform"),
      label(right, name, [`${who} p`, sign], `name ${who}`, "end"),
      ...[0, 1, classes - 1].map((k) =>
        label(
          center(k),
          middle + side * (1.5 + row[k] * scale) + (side < 0 ? -4 : 12),
          num(row[k]),
          "value halo",
          "middle",
        ),
      ),
    ];
  });
  const names = ["peak", "2nd"].map((name, k) =>
    label(center(k), HEIGHT - 10, name, "tick", "middle"),
  );
  const sentence = `Softmax probabilities at τ ${num(tau)}: teacher above the axis, student below.`;
  return picture(width, HEIGHT, sentence, [
    ...ticks(top).flatMap((t) =>
      [-1, 1].flatMap((side) => gridLines([t], () => middle + side * t * scale, LEFT, right)),
    ),
    ...bars,
    line(LEFT, middle, right, middle, "axis"),
    label(0, 14, `Softmax at τ = ${num(tau)}`, "title"),
    label(0, 31, `dotted: 1/K = ${num(1 / classes)}, where every class counts alike`, "tick"),
    ...names,
    label(
      (layout.at(2) + layout.at(classes - 1)) / 2,
      HEIGHT - 10,
      `${classes - 3} others`,
      "tick",
      "middle",
    ),
    label(center(classes - 1), HEIGHT - 10, "last", "tick", "middle"),
  ]);
}

// ---- stage ----

function render({ model, el }) {
  const names = ["error", "classes", "agreement", "tau"];
  const { state, write, trait, decimal } = traits(model, names);
  let v; // of the last redraw
  let drawn;
  return stage({
    model,
    el,
    kind: "limit",
    title: "Limit explorer",
    names,
    above: [
      choice("The student errs", CHOICES, trait("error")),
      logSlider("temperature τ", "It divides the logits of both", [LOW, HIGH], trait("tau")),
    ],
    below: [
      scenes(
        "Go to:",
        {
          "τ = 1": { tau: 1 },
          "τ of Algorithm 1": () => ({ tau: v.tau_both }),
          "at most 10 % above": () => ({ tau: v.near }),
          "τ = 1000": { tau: HIGH },
        },
        write,
      ),
      choice(
        "Classes K",
        { 10: ["10"], 100: ["100"] },
        {
          read: () => String(model.get("classes")),
          write: (classes) => write({ classes: Number(classes) }),
        },
      ),
      [
        slider(
          "agreement ρ",
          "Correlation of the student’s logits with the teacher’s",
          [0, 0.99, 0.01],
          decimal("agreement", 2),
        ),
      ],
    ],
    paint(width) {
      v = compute(state());
      drawn = width;
      return {
        pictures: [drawLoss(state(), v, width), drawBars(state(), v, width)],
        numbers: [
          ["τ", num(state().tau)],
          ["lower bound", bound(v.lower)],
          ["τ²·KL", num(v.loss)],
          ["upper bound", bound(v.upper)],
          ["1 − ρ", num(v.limit)],
          ["τ²·KL / (1 − ρ)", num(v.ratio)],
          ["p of the peak, teacher / student", both(v.teacher_peak, v.student_peak)],
          ["p of the last class", both(v.teacher_last, v.student_last)],
        ],
        words: words(state(), v),
      };
    },
    dragged(_, px) {
      write({ tau: tauUnder(drawn, px) });
    },
  });
}

export default { render };
