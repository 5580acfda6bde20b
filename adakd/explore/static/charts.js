// The playground's four charts: the soft label at the cross, accuracy, losses, temperatures.

import { circle, gridLines, label, line, path, picture, rect } from "./drawing.js";
import { CLASSES, LENGTH } from "./from-python.js";
import { STUDENTS } from "./lesson.js";
import { clamp, highest, lowest, softmax } from "./math.js";
import { rowOf } from "./objective.js";
import { mapValues, num } from "./words.js";

export const NAME = { a: "A", b: "B" };
export const percent = (x) => `${x.toFixed(1)} %`;
// Of both students what `show` makes of it; a dash where there is none.
export const ofBoth = (v, key, show) =>
  STUDENTS.map((who) => (v[key + who] === null ? "–" : show(v[key + who]))).join(" / ");

const HEIGHT = 164;
const ROOF = 36;
const FLOOR = HEIGHT - 24;
const LEFT = 40;
const RIGHT = 52;

// What the charts share for one width: places along the axis, its right end, the title.
const frameOf = (width) => ({
  width,
  right: width - RIGHT,
  along: (most) => (value) => LEFT + ((width - LEFT - RIGHT) * value) / most,
});
const heading = ({ right }, title, hint) => [
  label(0, 13, title, "title"),
  hint && label(0, 27, hint, "tick"),
  line(LEFT, FLOOR, right, FLOOR, "axis"),
];
const stepAxis = (x, most) =>
  [0, most / 2, most].map((t) =>
    label(x(t), FLOOR + 15, t ? String(t) : "step 0", "tick", t ? "middle" : "start"),
  );

// The last step of the axis.
const mostOf = (lesson) => Math.max(LENGTH, LENGTH * Math.ceil(lesson.steps / LENGTH));

// Names where the lines end, 12 apart: lines of { name, y, kind }.
function namesAtTheEnd({ right }, lines) {
  let free = Infinity;
  return lines
    .filter(({ y }) => Number.isFinite(y))
    .sort((one, two) => two.y - one.y)
    .map(({ name, y, kind }) => {
      free = Math.min(y, free - 12);
      return label(right + 5, free + 4, name, `end ${kind}`);
    });
}

// Whose soft label is shown at the cross.
export const shownAt = (state) => (state.view === "tau" ? "b" : state.view);

export function drawProbe(state, lesson, probe, width) {
  const frame = frameOf(width);
  const K = state.classes;
  const at = frame.along(K);
  const middle = (k) => at(k + 0.5);
  const y = (p) => FLOOR - (FLOOR - ROOF - 4) * p;
  const x = Float64Array.from(probe);
  const who = shownAt(state);
  const { p, q, tau } = lesson.soft(who, x, 1);
  // Of the teacher's own view both students are seen, as they are.
  const own = (one) => softmax(rowOf(lesson.students[one].network.forward(x, 1), 0, K));
  const students = who === "teacher" ? mapValues(NAME, (_, one) => own(one)) : { [who]: q };
  const count = Object.keys(students).length;
  const bars = Array.from(p).flatMap((value, k) => [
    rect(at(k) + 2, y(value), at(k + 1) - 2, FLOOR, "bar", { fill: CLASSES[k] }),
    label(middle(k), FLOOR + 15, String(k), "tick", "middle"),
  ]);
  const dots = Object.entries(students).flatMap(([one, probabilities], i) => {
    const shift = count > 1 ? (i - 0.5) * (at(1) - at(0)) * 0.4 : 0;
    return [
      ...Array.from(probabilities, (value, k) =>
        circle(middle(k) + shift, y(value), 4, `q ${one}`),
      ),
      label(frame.right + 5, 46 + 14 * i, `● ${NAME[one]}`, `end ${one}`),
    ];
  });
  const title = tau
    ? `Soft label at the cross, τ = ${num(tau[0])}`
    : "Labels at the cross, as they are";
  const top = p.indexOf(highest(p));
  const sentence = `${title}: the teacher gives class ${top} ${num(p[top])}.`;
  return picture(width, HEIGHT, sentence, [
    ...heading(frame, title, "bars: the teacher; class 0, 1, 2, …"),
    ...gridLines([0.5, 1], y, LEFT, frame.right),
    ...bars,
    ...dots,
  ]);
}

function drawAccuracy(lesson, v, width) {
  const frame = frameOf(width);
  const x = frame.along(mostOf(lesson));
  const low = Math.max(0, 10 * Math.floor(v.teacher / 10 - 4));
  const y = (value) => FLOOR - ((FLOOR - ROOF) * (Math.max(low, value) - low)) / (100 - low);
  const lines = STUDENTS.map((who) =>
    path(
      lesson.rows.map((row) => [x(row.step), y(row[`accuracy_${who}`])]),
      `line ${who}`,
    ),
  );
  const names = [
    { name: "teacher", y: y(v.teacher), kind: "teacher" },
    ...STUDENTS.map((who) => ({ name: NAME[who], y: y(v[`accuracy_${who}`]), kind: who })),
  ];
  const sentence = `Held-out accuracy against the step: A ${percent(v.accuracy_a)}, B ${percent(v.accuracy_b)}.`;
  return picture(width, HEIGHT, sentence, [
    ...heading(frame, "Held-out accuracy, %"),
    ...stepAxis(x, mostOf(lesson)),
    ...gridLines([low, (low + 100) / 2, 100], y, LEFT, frame.right),
    line(LEFT, y(v.teacher), frame.right, y(v.teacher), "line teacher"),
    ...lines,
    ...namesAtTheEnd(frame, names),
  ]);
}

function drawLosses(lesson, v, width) {
  const frame = frameOf(width);
  const x = frame.along(mostOf(lesson));
  const keys = ["distance_a", "distance_b", "kl_a", "kl_b"];
  const values = lesson.rows.flatMap((row) => keys.map((key) => row[key]));
  const logs = values.filter((value) => value > 0).map(Math.log10);
  const bottom = Math.max(-4, Math.floor(lowest(logs)));
  const top = Math.max(bottom + 1, Math.ceil(highest(logs)));
  const y = (value) => {
    if (!(value > 0)) return Number.NaN;
    return (
      FLOOR - ((FLOOR - ROOF) * (Math.max(bottom, Math.log10(value)) - bottom)) / (top - bottom)
    );
  };
  const powers = Array.from({ length: top - bottom + 1 }, (_, i) => 10 ** (bottom + i));
  const lines = keys.map((key) =>
    path(
      lesson.rows.map((row) => [x(row.step), y(row[key])]),
      `line ${key.at(-1)}${key.startsWith("distance") ? " dashed" : ""}`,
    ),
  );
  const names = STUDENTS.map((who) => ({ name: NAME[who], y: y(v[`distance_${who}`]), kind: who }));
  const sentence = `τ²·KL and 1 − ρ against the step: ${ofBoth(v, "kl_", num)} and ${ofBoth(v, "distance_", num)}.`;
  return picture(width, HEIGHT, sentence, [
    ...heading(frame, "τ²·KL, and dashed 1 − ρ", "of standardized logits; logarithmic"),
    ...stepAxis(x, mostOf(lesson)),
    ...gridLines(powers, y, LEFT, frame.right, String),
    ...lines,
    ...namesAtTheEnd(frame, names),
  ]);
}

const LOWEST = 0.5; // of the temperatures that are drawn
const HIGHEST = 50;
const BINS = 48;
const shareOf = (tau) =>
  Math.log(clamp(LOWEST, tau, HIGHEST) / LOWEST) / Math.log(HIGHEST / LOWEST);

function countBins(temperatures) {
  const counts = new Array(BINS).fill(0);
  for (const tau of temperatures) counts[Math.min(BINS - 1, Math.floor(BINS * shareOf(tau)))] += 1;
  return counts;
}

function drawTemperatures(lesson, width) {
  const frame = frameOf(width);
  const at = frame.along(1);
  const x = (tau) => at(shareOf(tau));
  const middle = (ROOF + FLOOR) / 2;
  const reach = middle - ROOF - 4;
  const read = [];
  const histograms = STUDENTS.flatMap((who, i) => {
    const side = i ? 1 : -1; // A above, B below
    const name = label(frame.right + 5, middle + side * 22 + 4, NAME[who], `end ${who}`);
    const temperatures = lesson.watchedTemperatures(who)?.map(([tau]) => tau);
    if (!temperatures) {
      const none = "no teacher, no temperature";
      return [name, label(at(0.5), middle + side * 22 + 4, none, "tick", "middle")];
    }
    read.push(`${NAME[who]} from ${num(lowest(temperatures))} to ${num(highest(temperatures))}`);
    const counts = countBins(temperatures);
    const bars = counts.map((count, bin) => {
      const height = (reach * count) / highest(counts);
      const [top, bottom] = side < 0 ? [middle - height, middle] : [middle, middle + height];
      return count && rect(at(bin / BINS), top, at((bin + 1) / BINS) + 0.5, bottom, `fill ${who}`);
    });
    return [name, ...bars];
  });
  const grid = [0.5, 1, 2, 5, 10, 20, 50].flatMap((t) => [
    line(x(t), ROOF, x(t), FLOOR, "grid"),
    label(x(t), FLOOR + 15, String(t), "tick", "middle"),
  ]);
  return picture(width, HEIGHT, `Temperatures of the points: ${read.join(", ") || "none"}.`, [
    ...heading(frame, "Temperatures, A above, B below"),
    line(LEFT, middle, frame.right, middle, "axis"),
    ...grid,
    ...histograms,
  ]);
}

export const drawCharts = (state, lesson, v, probe, width) => [
  drawProbe(state, lesson, probe, width),
  drawAccuracy(lesson, v, width),
  drawLosses(lesson, v, width),
  drawTemperatures(lesson, width),
];
