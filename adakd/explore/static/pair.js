// The made-up pair of a teacher and a student that several figures are about: its logits, its controls, its bars.

import { logSlider, slider } from "./controls.js";
import { label, svg } from "./drawing.js";
import { centered, pearson, standardize } from "./math.js";

const GOLDEN = 0.6180339887498949; // scatters evenly
const scattered = (k) => ((k + 1) * GOLDEN) % 1;

export const LABELS = ["peak", "second", "slip"]; // classes 0, 1 and 2
export const LABEL_CHOICE = { peak: ["the peak"], second: ["2nd class"], slip: ["the slip"] };

// Classes: 0 peak, 1 second peak, 2 the student's slip, 3… a ramp of unit spread, K − 1 ruled out.
export function teacherLogits({ peak, second, ruled_out: ruledOut, classes }) {
  const others = classes - 4;
  const ramp = Array.from({ length: others }, (_, k) => Math.sqrt(3) * (1 - (2 * k + 1) / others));
  return [peak, second, 0, ...ramp, ruledOut];
}

// The teacher turned by an error of its own: the correlation of the two is exactly `agreement`.
export function studentLogits(zTeacher, agreement) {
  const slip = zTeacher.map((_, k) => (k === 2 ? 4 : Math.sqrt(12) * (scattered(k) - 0.5)));
  const own = centered(slip);
  const along = pearson(own, zTeacher);
  const error = standardize(own.map((x, k) => x - along * zTeacher[k]));
  const rest = Math.sqrt(1 - agreement * agreement);
  return zTeacher.map((z, k) => agreement * z + rest * error[k]);
}

// ---- controls ----

const CLASSES = [6, 10, 20, 50, 100, 200, 1000];

export function classSlider({ read, write, show }) {
  const far = (i) => Math.abs(Math.log(CLASSES[i] / read()));
  const nearest = () => CLASSES.reduce((best, _, i) => (far(i) < far(best) ? i : best), 0);
  return slider("classes K", "Number of classes", [0, CLASSES.length - 1, 1], {
    read: nearest,
    write: (i) => write(CLASSES[i]),
    show,
  });
}

// Of the traits peak, second, ruled_out, agreement and classes; `made` comes from `traits`.
export const pairSliders = ({ decimal, trait }) => [
  slider(
    "peak",
    "The teacher’s logit of its first class, in spreads of the other classes",
    [0, 20, 0.1],
    decimal("peak", 1),
  ),
  slider(
    "second peak",
    "The teacher’s logit of its second class",
    [0, 20, 0.1],
    decimal("second", 1),
  ),
  slider(
    "ruled-out class",
    "The teacher’s logit of its last class",
    [-20, 0, 0.1],
    decimal("ruled_out", 1),
  ),
  slider(
    "agreement ρ",
    "Correlation of the student’s logits with the teacher’s",
    [0, 1, 0.01],
    decimal("agreement", 2),
  ),
  classSlider(trait("classes")),
];

// Of the traits teacher_scale and student_scale.
export const scaleSliders = ({ trait }) =>
  ["teacher", "student"].map((who) =>
    logSlider(
      `${who}’s scale`,
      `Standard deviation of the ${who}’s logits`,
      [0.1, 100],
      trait(`${who}_scale`),
    ),
  );

// ---- bars, one a class ----

// Where the bars of K classes stand between left and right: wide ones for the named classes, thin ones for the others.
export function barLayout(classes, left, right) {
  const plot = right - left;
  const wide = Math.max(plot / classes, Math.min(46, plot / 8));
  const thin = (plot - 4 * wide) / (classes - 4);
  const last = classes - 1;
  const named = (k) => k < 3 || k === last;
  return {
    classes,
    wide,
    named,
    at: (k) => left + (k < 3 ? k * wide : k === last ? plot - wide : 3 * wide + (k - 3) * thin),
    width: (k) => (named(k) ? wide : thin),
  };
}

// The bars of one row of values; all without a name are one shape. `bar(value, k)` gives [y, height].
export function rowOfBars(layout, values, kind, bar) {
  const shapes = [];
  let others = "";
  values.forEach((value, k) => {
    const width = layout.width(k);
    const gap = width > 6 ? 2 : 0;
    const [y, height] = bar(value, k);
    const x = (layout.at(k) + gap).toFixed(2);
    const across = (width - 2 * gap).toFixed(2);
    const d = `M${x} ${y}v${height.toFixed(2)}h${across}v${(-height).toFixed(2)}z`;
    if (layout.named(k)) shapes.push(svg("path", { d, class: kind }));
    else others += d;
  });
  return [...shapes, svg("path", { d: others, class: `${kind} rest` })];
}

// Names of the classes under the bars; the labelled one is marked.
export function classNames(layout, y, labelled = -1) {
  const { at, wide, classes } = layout;
  const middle = (k) => at(k) + wide / 2;
  const names = ["peak", "2nd", "slip"].flatMap((name, k) =>
    k === labelled
      ? [
          label(middle(k), y, name, "tick chosen", "middle"),
          label(middle(k), y + 13, "label", "tick", "middle"),
        ]
      : [label(middle(k), y, name, "tick", "middle")],
  );
  const others = classes > 50 ? `${classes - 4} others` : "others";
  const last = ["ruled", "out"].map((text, i) =>
    label(middle(classes - 1), y + 13 * i, text, "tick", "middle"),
  );
  return [...names, label((at(3) + at(classes - 1)) / 2, y, others, "tick", "middle"), ...last];
}
