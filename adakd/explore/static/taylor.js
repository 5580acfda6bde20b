// Chapters 2 and 3: the Taylor softmax, the interval of its logarithm, and the complex plane around it.

import { add, divide, modulus, polar, subtract, times } from "./complex.js";
import { choice, scenes, slider, traits } from "./controls.js";
import {
  circle,
  draggable,
  gridLines,
  hatching,
  label,
  line,
  newId,
  path,
  picture,
  rect,
  svg,
  ticksBelow,
  tickText,
} from "./drawing.js";
import { ROWS } from "./from-python.js";
import { clamp, highest, lowest, mean, softmax, standardize, sum } from "./math.js";
import { classSlider, teacherLogits } from "./pair.js";
import { stage } from "./stage.js";
import { both, mapValues, num, subscript } from "./words.js";

// ---- f_n and its zeros ----

// Remembers what it gave.
const once =
  (make, known = {}) =>
  (...key) => {
    known[key] ??= make(...key);
    return known[key];
  };

// f_n of a number and of a complex one, by Horner; the derivative of f_n is f_(n−1).
function taylor(n, x) {
  let total = 1;
  for (let i = n; i > 0; i -= 1) total = 1 + (total * x) / i;
  return total;
}
function taylorComplex(n, [re, im]) {
  let total = [1, 0];
  for (let i = n; i > 0; i -= 1) total = add([1, 0], times(total, [re / i, im / i]));
  return total;
}

// Zeros of f_n, all at once (Durand-Kerner), the nearest to 0 first.
const zerosOf = once((n) => {
  const zeros = Array.from({ length: n }, (_, j) => polar(0.6 * n, 0.4 + (2 * Math.PI * j) / n));
  for (let round = 0; round < 100; round += 1) {
    zeros.forEach((x, j) => {
      const rest = zeros.reduce(
        (product, other, k) => {
          const factor = k === j ? product : times(product, subtract(x, other));
          return times(factor, [1 / (k + 1), 0]);
        },
        [1, 0],
      );
      zeros[j] = subtract(x, divide(taylorComplex(n, x), rest));
    });
  }
  return zeros.sort((p, q) => modulus(p) - modulus(q));
});

// Ends of 0 < f_n <= 2, by Newton's method.
const endsOf = once((n) =>
  [
    [-n - 2, n % 2 ? 0 : 2],
    [1, 2],
  ].map(([start, level]) => {
    let x = start;
    for (let i = 0; i < 100; i += 1) x -= (taylor(n, x) - level) / taylor(n - 1, x);
    return x;
  }),
);

// Once round the edge of |f_n − 1| < 1 from a zero of f_n: there f_n = 1 − e^(ia), and its root is followed from a = 0 to
// 2π. Gives the points, and the root where it ends.
function followEdge(n, zero) {
  const points = [];
  let x = zero;
  let angle = 0;
  while (angle < 2 * Math.PI) {
    points.push(x);
    const slope = taylorComplex(n - 1, x);
    const by = Math.min(0.04 * modulus(slope), 0.1, 2 * Math.PI - angle + 1e-12);
    x = add(x, divide(polar(by, angle - Math.PI / 2), slope));
    angle += by;
    for (let i = 0; i < 3; i += 1) {
      const miss = add(taylorComplex(n, x), subtract(polar(1, angle), [1, 0]));
      x = subtract(x, divide(miss, taylorComplex(n - 1, x)));
    }
  }
  return [points, x];
}

// Where |f_n − 1| < 1, as closed curves: each goes from zero to zero until it is back.
export const domain = once((n) => {
  const left = new Set(zerosOf(n));
  const curves = [];
  while (left.size) {
    const curve = [];
    let [zero] = left;
    while (left.delete(zero)) {
      const [points, end] = followEdge(n, zero);
      curve.push(...points);
      zero = zerosOf(n).find((other) => modulus(subtract(other, end)) < 1e-6);
    }
    curves.push(curve);
  }
  return curves;
});

// ---- rows of logits ----

const logitsOf = once((row, classes) => {
  const [peak, second, ruledOut] = ROWS[row];
  return standardize(teacherLogits({ peak, second, ruled_out: ruledOut, classes }));
});

// Z(s) = Σ e^(s z) and its derivative.
function partition(z, [re, im]) {
  let value = [0, 0];
  let slope = [0, 0];
  for (const x of z) {
    const term = polar(Math.exp(re * x), im * x);
    value = add(value, term);
    slope = add(slope, times(term, [x, 0]));
  }
  return [value, slope];
}

// log Z in powers of 1/τ needs τ above 1/|s|, s the nearest zero of Z: Newton's method from 28 points.
const exactTau = once((row, classes) => {
  const z = logitsOf(row, classes);
  const unit = Math.PI / (highest(z) - lowest(z)); // no zero is nearer
  const found = Array.from({ length: 28 }, (_, start) => {
    let s = polar(unit * 1.45 ** (start % 4), 0.3 + 0.09 * start);
    let by = s;
    for (let i = 0; i < 15 && modulus(by) > 1e-12; i += 1) {
      by = divide(...partition(z, s));
      s = subtract(s, by);
    }
    return modulus(by) < 1e-9 ? 1 / modulus(s) : 0;
  });
  return highest(found);
});

// Total variation between the softmax p and the Taylor softmax of these weights.
function totalVariation(weights, p) {
  const total = sum(weights);
  return weights.reduce((distance, w, k) => distance + Math.abs(w / total - p[k]) / 2, 0);
}

const LOW = 0.1;
const HIGH = 20;
const tauAt = (share) => LOW * (HIGH / LOW) ** share;
const TAUS = Array.from({ length: 73 }, (_, i) => tauAt(i / 72));
const softmaxesOf = once((row, classes) => TAUS.map((tau) => softmax(logitsOf(row, classes), tau)));
const errorsOf = once((n, row, classes) =>
  TAUS.map((tau, i) => {
    const weights = logitsOf(row, classes).map((z) => taylor(n, z / tau));
    return totalVariation(weights, softmaxesOf(row, classes)[i]);
  }),
);

export function compute({ order: n, tau, row, classes }) {
  const z = logitsOf(row, classes);
  const x = z.map((logit) => logit / tau);
  const weights = x.map((at) => taylor(n, at));
  const p = softmax(z, tau);
  const total = mean(weights);
  const [top, bottom] = [highest(z), lowest(z)];
  const share = (logit) => taylor(n, logit / tau) / total / classes;
  const radius = modulus(zerosOf(n)[0]);
  const [lowerEnd, upperEnd] = endsOf(n);
  // To rounding: a logit that τ puts on an end f_n = 2 is inside, on a zero of f_n outside.
  const inside = weights.map((weight) => weight > 1e-12 && weight < 2 + 1e-9);
  const count = (test) => x.filter(test).length;
  return {
    x,
    inside,
    total,
    radius,
    lower_end: lowerEnd,
    upper_end: upperEnd,
    tau_upper: top / upperEnd,
    tau_lower: bottom / lowerEnd,
    zeros: zerosOf(n),
    highest: top,
    lowest: bottom,
    upper_factor: 1 / upperEnd,
    lower_factor: -1 / lowerEnd,
    required: Math.max(top / upperEnd, bottom / lowerEnd),
    tau_disc: Math.max(top, -bottom) / radius,
    tau_exact: exactTau(row, classes),
    error: totalVariation(weights, p),
    outside: count((_, k) => !inside[k]),
    outside_disc: count((at) => Math.abs(at) >= radius),
    negative: count((_, k) => weights[k] < 0),
    taylor_highest: share(top),
    exact_highest: highest(p),
    taylor_lowest: share(bottom),
    exact_lowest: lowest(p),
  };
}

// ---- words ----

const scene = (order, tau, row, classes) => ({ order, tau, row, classes });
const SCENES = {
  "Algorithm 1’s blind end": scene(2, 1.36, "one class ruled out", 100),
  "a negative probability": scene(3, 1.2, "one class ruled out", 10),
  "interval, not disc": scene(2, 1.3, "one class ruled out", 10),
  "disc, not interval": scene(6, 1.5, "one peak", 10),
};

const outside = (count, classes) =>
  `${count} of ${classes} logits ${count === 1 ? "is" : "are"} outside`;

function aboutInterval(state, v, fn) {
  if (!v.outside) return "all logits are inside the interval. ";
  const low = v.tau_lower > v.tau_upper;
  const end = low ? "lowest" : "highest";
  const x = v[end] / state.tau;
  const blind = low ? `; Algorithm 1 stops at ${num(v.tau_upper)}` : "";
  return (
    `${outside(v.outside, state.classes)} the interval: the ${end} is at x = ${num(x)}, ` +
    `where ${fn} = ${num(taylor(state.order, x))}. It takes τ = ${num(v.required)} to bring all in${blind}. `
  );
}

function aboutProbabilities(v, fn) {
  if (v.total < 0) return `All ${fn} together are below 0: no softmax is left. `;
  if (v.negative) {
    return `For ${v.negative}, ${fn} < 0: a negative probability, which has no logarithm. `;
  }
  return v.taylor_lowest > v.taylor_highest
    ? `Left of its valley ${fn} rises again, and the lowest logit gets the largest probability. `
    : "";
}

function aboutDisc(state, v, fn) {
  const disc = `the disc |x| < ${num(v.radius)}`;
  if (v.outside_disc) {
    const also = v.outside ? " as well" : ", though";
    return `In powers of x it fails${also}: ${outside(v.outside_disc, state.classes)} ${disc}.`;
  }
  return `All are inside ${disc}: in powers of x, log ${fn} converges${v.outside ? "" : ", too"}.`;
}

export function words(state, v) {
  const fn = `f${subscript(state.order)}`;
  return (
    `At order ${state.order} and τ = ${num(state.tau)}, ${aboutInterval(state, v, fn)}` +
    `${aboutProbabilities(v, fn)}${aboutDisc(state, v, fn)}`
  );
}

// ---- drawing ----

const LEFTMOST = -5.8; // of x
const RIGHTMOST = 4.2;
const X_TICKS = [-4, -2, 0, 2, 4];
const VIOLET = "name interval halo";

function frameOf(width) {
  const left = 28;
  const right = width - 8;
  const unit = (right - left) / (RIGHTMOST - LEFTMOST);
  const roof = 48;
  const floor = roof + 8.6 * unit;
  const at = (x) => left + (x - LEFTMOST) * unit;
  return { left, right, unit, roof, floor, height: floor + 22, at };
}

// Title, and under it signs with what they stand for.
const heading = (title, ...signs) => [
  label(0, 14, title, "title"),
  label(
    0,
    31,
    signs.flatMap(([kind, sign, text]) => [svg("tspan", { class: kind }, sign), ` ${text}\u2003`]),
    "tick",
  ),
];

// The row: a dot inside the interval, a cross outside, scattered by `height` about y.
function drawLogits(v, { at }, y, height) {
  let dots = "";
  let crosses = "";
  v.x.forEach((x, k) => {
    if (x < LEFTMOST || x > RIGHTMOST) return;
    const scatter = height * (2 * ((k * 0.6180339887498949) % 1) - 1);
    const place = `M${at(x).toFixed(1)} ${(y + scatter).toFixed(1)}`;
    if (v.inside[k]) dots += `${place}h0`;
    else crosses += `${place}m-3.5 -3.5l7 7m0 -7l-7 7`;
  });
  return [
    svg("path", { d: dots, class: "logit" }),
    svg("path", { d: crosses, class: "logit out" }),
  ];
}

function drawSeries(state, v, width) {
  const frame = frameOf(width);
  const { left, right, at, roof, height } = frame;
  const n = state.order;
  const fn = `f${subscript(n)}`;
  const f = (x) => taylor(n, x);
  const axis = height - 22;
  const strip = axis - 20;
  const bar = strip - 38;
  const floor = bar - 13;
  const top = v.highest / state.tau;
  const bottom = v.lowest / state.tau;
  const y = (value) =>
    value > -1.2 && value < 4.2 ? floor - ((floor - roof) * (value + 1.2)) / 5.4 : Number.NaN;
  const xs = Array.from({ length: 401 }, (_, i) => LEFTMOST + i / 40);
  const curve = (height, kind) =>
    path(
      xs.map((x) => [at(x), y(height(x))]),
      kind,
    );
  const ends = [
    [v.lower_end, n % 2 ? 0 : 2, -6, "end"],
    [v.upper_end, 2, 6, "start"],
  ];
  const shown = [top, bottom].filter((x) => x > LEFTMOST && x < RIGHTMOST);
  const sentence = `The Taylor polynomial of order ${n}, its interval, and the logits at z/τ.`;
  return picture(width, height, sentence, [
    ...heading(
      `${fn} for eˣ, and where log ${fn} may be expanded`,
      ["interval", "▬", "interval"],
      ["row", "●", "logit inside"],
      ["row", "×", "outside"],
    ),
    rect(left, y(2), right, y(0), "band"),
    rect(at(v.lower_end), y(2), at(v.upper_end), y(0), "window"),
    ...gridLines([0, 1, 2, 3, 4], y, left, right),
    line(left, axis, right, axis, "axis"),
    ...ticksBelow(X_TICKS, at, axis),
    label(at(3), axis + 17, "x = z/τ", "name", "middle"),
    ...shown.map((x) => line(at(x), axis, at(x), y(clamp(-1.1, f(x), 4.1)), "stem")),
    ...ends.flatMap(([x, level, by, anchor]) => [
      line(at(x), y(level), at(x), bar, "end"),
      label(at(x) + by, bar + 4, num(x), VIOLET, anchor),
    ]),
    line(at(v.lower_end), bar, at(v.upper_end), bar, "bar"),
    label(right - 4, y(1) + 4, `0 < ${fn} ≤ 2`, VIOLET, "end"),
    curve(Math.exp, "exp"),
    curve(f, "curve"),
    ...[top, bottom].filter((x) => y(f(x))).map((x) => circle(at(x), y(f(x)), 4.5, "point")),
    label(at(Math.log(3.7)) - 9, y(3.7) + 4, "eˣ", "name halo", "end"),
    label(at(n > 1 ? 1.3 : 2.2) + 9, y(3.2) + 4, fn, VIOLET),
    ...drawLogits(v, frame, strip, 8),
    label(
      Math.min(at(top) - 4, right - 46),
      strip - 16,
      top > RIGHTMOST ? "max z ▸" : "max z",
      "row halo",
    ),
    label(
      Math.max(at(bottom) + 4, left + 46),
      strip - 16,
      bottom < LEFTMOST ? "◂ min z" : "min z",
      "row halo",
      "end",
    ),
  ]);
}

function drawPlane(state, v, width, id) {
  const frame = frameOf(width);
  const { left, right, at, roof, floor, unit, height } = frame;
  const n = state.order;
  const fn = `f${subscript(n)}`;
  const radius = `R${subscript(n)}`;
  const middle = (roof + floor) / 2;
  const y = (b) => middle - b * unit;
  const place = ([a, b]) => `${at(a).toFixed(1)} ${y(b).toFixed(1)}`;
  const closed = (curve) => `M${curve.map(place).join("L")}z`;
  // Of n → ∞: |eˣ − 1| = 1.
  const rise = Array.from(
    { length: 81 },
    (_, i) => (Math.PI / 2) * Math.sin(Math.PI * (i / 80 - 0.5)),
  );
  const sentence =
    `The complex plane of x: where |${fn} − 1| < 1, the zeros of ${fn}, ` +
    `and the disc of radius ${num(v.radius)}.`;
  return picture(width, height, sentence, [
    ...heading(
      `log ${fn} in the complex plane`,
      ["interval", "■", `|${fn} − 1| < 1`],
      ["reach", "○", `|x| < ${radius}`],
      ["zero", "◆", `${fn} = 0`],
    ),
    ...gridLines(X_TICKS, y, left, right, (t) => (t ? `${tickText(t)}i` : "0")),
    ...ticksBelow(X_TICKS, at, floor),
    label(at(3), floor + 17, "Re x", "name", "middle"),
    line(left, middle, right, middle, "axis"),
    line(at(0), roof, at(0), floor, "axis"),
    label(left, y(3) + 4, "Im x", "name halo", "middle"),
    svg("clipPath", { id }, rect(left, roof, right, floor)),
    svg("g", { "clip-path": `url(#${id})` }, [
      circle(at(0), middle, v.radius * unit, "disc"),
      svg("path", { d: domain(n).map(closed).join(""), class: "region" }),
      path(
        rise.map((b) => [at(Math.log(2 * Math.cos(b))), y(b)]),
        "limit",
      ),
      line(at(v.lower_end), middle, at(v.upper_end), middle, "bar"),
      ...drawLogits(v, frame, middle, 0),
      ...v.zeros.map((zero) =>
        svg("path", { d: `M${place(zero)}m-6 0l6 -6 6 6 -6 6z`, class: "zero" }),
      ),
    ]),
    label(left + 4, y(1.57) - 6, "n → ∞", "tick halo"),
    label(
      at(v.radius / 2) + 4,
      y(-0.87 * v.radius) + 14,
      `${radius} = ${num(v.radius)}`,
      "name reach halo",
    ),
  ]);
}

const MARGIN = 52; // of the lower picture, on the left
const FAR_MARGIN = 16;

function drawErrors(state, v, width, id) {
  const left = MARGIN;
  const right = width - FAR_MARGIN;
  const roof = 48;
  const floor = 158;
  const height = 262;
  const x = (tau) => left + ((right - left) * Math.log(tau / LOW)) / Math.log(HIGH / LOW);
  const y = (error) =>
    error > 9e-7 && error < 1.01 ? roof - ((floor - roof) * Math.log10(error)) / 6 : Number.NaN;
  const now = x(state.tau);
  const index = subscript(state.order);
  const curve = (order, kind) =>
    path(
      errorsOf(order, state.row, state.classes).map((error, i) => [x(TAUS[i]), y(error)]),
      kind,
    );
  const bounds = [
    [v.tau_upper, `c${index}⁺·max z`, "interval", ", Eq. 20"],
    [v.tau_lower, `c${index}⁻·|min z|`, "interval", ""],
    [v.tau_disc, `max |z|/R${index}`, "reach", ", disc"],
    [v.tau_exact, "exact log Z in 1/τ", "", ""],
  ];
  const drawBound = ([tau, name, kind, note], i) => {
    const y = floor + 42 + 19 * i;
    const [place, anchor] = x(tau) < right - 170 ? [x(tau) + 9, "start"] : [x(tau) - 9, "end"];
    return [
      rect(x(tau), y - 12, right, y + 4, `span ${kind}`),
      line(x(tau), y - 12, x(tau), y + 4, `bound ${kind}`),
      label(
        place,
        y,
        `${name} ${num(tau)}${note}`,
        state.tau < tau ? "halo" : "halo chosen",
        anchor,
      ),
    ];
  };
  const sentence =
    `Total variation between Taylor softmax and softmax against τ: ` +
    `${num(100 * v.error)} % at τ ${num(state.tau)}.`;
  return picture(width, height, sentence, [
    ...heading("Error of the Taylor softmax, and the τ it needs", [
      "",
      "",
      "total variation by order; hatched: a logit is outside; bold: met",
    ]),
    hatching(id),
    rect(left, roof, x(v.required), floor, "", { fill: `url(#${id})` }),
    line(left, floor, right, floor, "axis"),
    ...gridLines([1, 1e-2, 1e-4, 1e-6], y, left, right, (e) => `${tickText(100 * e)} %`),
    ...ticksBelow([0.1, 0.2, 0.5, 1, 2, 5, 10, 20], x, floor),
    ...Array.from({ length: 10 }, (_, i) => curve(i + 1, "other")),
    curve(state.order, "curve"),
    line(now, roof, now, height, "now"),
    label(now, floor + 17, "τ", "name halo", "middle"),
    circle(now, y(clamp(1e-6, v.error, 1)), 5.5, "dot"),
    ...bounds.flatMap(drawBound),
  ]);
}

// ---- stage ----

function render({ model, el }) {
  const names = ["order", "tau", "row", "classes"];
  const { state, write, trait } = traits(model, names);
  const id = newId();
  let v; // of the last redraw
  let widths;
  return stage({
    model,
    el,
    kind: "taylor",
    title: "Taylor explorer",
    names,
    above: [
      [
        slider("order n", "Of the Taylor polynomial", [1, 10, 1], trait("order")),
        slider("temperature τ", "It divides the logits", [-1, 1.3, 0.01], {
          read: () => Math.log10(model.get("tau")),
          write: (value) => write({ tau: 10 ** value }),
          show: () => num(model.get("tau")),
        }),
      ],
    ],
    below: [
      choice(
        "Logits",
        mapValues(ROWS, (_, name) => [name]),
        trait("row"),
      ),
      scenes(
        "See:",
        { "τ just enough": () => ({ tau: Math.ceil(100 * v.required) / 100 }), ...SCENES },
        write,
      ),
      [classSlider(trait("classes"))],
    ],
    paint(width, two) {
      v = compute(state());
      widths = [width, width, two ? 2 * width + 24 : width];
      const drawings = [
        drawSeries(state(), v, width),
        drawPlane(state(), v, width, id),
        drawErrors(state(), v, widths[2], `${id}h`),
      ];
      const index = subscript(model.get("order"));
      return {
        pictures: drawings.map((drawing) => draggable(drawing)),
        words: words(state(), v),
        numbers: [
          [`c${index}⁻ / c${index}⁺`, both(v.lower_factor, v.upper_factor)],
          ["outside interval / disc", `${v.outside} / ${v.outside_disc}`],
          ["p of max z: Taylor / softmax", both(v.taylor_highest, v.exact_highest)],
          ["p of min z", both(v.taylor_lowest, v.exact_lowest)],
          ["total variation", `${num(100 * v.error)} %`],
        ],
      };
    },
    // Below τ itself follows the pointer, above the highest or the lowest logit.
    dragged(index, px) {
      const { left, unit } = frameOf(widths[0]);
      const x = (px - left) / unit + LEFTMOST;
      const tau =
        index === 2
          ? tauAt((px - MARGIN) / (widths[2] - MARGIN - FAR_MARGIN))
          : (x >= 0 ? v.highest : v.lowest) / x;
      write({ tau: clamp(LOW, tau, HIGH) });
    },
  });
}

export default { render };
