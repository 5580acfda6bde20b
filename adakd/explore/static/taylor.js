// Chapters 2 and 3: the Taylor softmax, the interval of its logarithm, and the complex plane around it.

// ---- mathematics ----

const once = (make, known = {}) => (...key) => (known[key] ??= make(...key));
const f = (n, x, t = 1) => (n ? f(n - 1, x, 1 + (t * x) / n) : t);

// Complex numbers are pairs; `plane` is f_n of one. The derivative of f_n is f_(n-1).
const add = ([a, b], [c, d]) => [a + c, b + d];
const minus = ([a, b], [c, d]) => [a - c, b - d];
const times = ([a, b], [c, d]) => [a * c - b * d, a * d + b * c];
const over = (x, [c, d]) => times(x, [c / (c * c + d * d), -d / (c * c + d * d)]);
const size = ([a, b]) => Math.hypot(a, b);
const polar = (r, angle) => [r * Math.cos(angle), r * Math.sin(angle)];
const plane = (n, [a, b], t = [1, 0]) => (n ? plane(n - 1, [a, b], add([1, 0], times(t, [a / n, b / n]))) : t);

const zeros = once((n) => { // of f_n, all at once (Durand-Kerner), the nearest to 0 first
  const w = Array.from({ length: n }, (_, j) => polar(0.6 * n, 0.4 + (2 * Math.PI * j) / n));
  for (let round = 0; round < 100; round++) {
    w.forEach((x, j) => {
      const rest = w.reduce((p, other, k) => times(k === j ? p : times(p, minus(x, other)), [1 / (k + 1), 0]), [1, 0]);
      w[j] = minus(x, over(plane(n, x), rest));
    });
  }
  return w.sort((p, q) => size(p) - size(q));
});

const ends = once((n) => [[-n - 2, n % 2 ? 0 : 2], [1, 2]].map(([x, level]) => { // of 0 < f_n <= 2, by Newton's method
  for (let i = 0; i < 100; i++) x -= (f(n, x) - level) / f(n - 1, x);
  return x;
}));

// Where |f_n - 1| < 1, as closed curves. On the edge f_n = 1 - e^(ia): from a zero (a = 0) follow the root of that once
// round, to a zero again, and on until the curve closes.
export const domain = once((n) => {
  const left = new Set(zeros(n)), curves = [];
  while (left.size) {
    let [zero] = left, curve = [];
    while (left.delete(zero)) {
      let x = zero;
      for (let angle = 0; angle < 2 * Math.PI;) {
        const slope = plane(n - 1, x), by = Math.min(0.04 * size(slope), 0.1, 2 * Math.PI - angle + 1e-12);
        curve.push(x);
        x = add(x, over(polar(by, angle - Math.PI / 2), slope));
        angle += by;
        for (let i = 0; i < 3; i++) x = minus(x, over(add(plane(n, x), minus(polar(1, angle), [1, 0])), plane(n - 1, x)));
      }
      zero = zeros(n).find((z) => size(minus(z, x)) < 1e-6);
    }
    curves.push(curve);
  }
  return curves;
});

const teacher = (peak, second, ruled_out) => ({ peak, second, ruled_out }), ONE = "one peak", OUT = "one class ruled out";
const ROWS = { [ONE]: teacher(8, 0, 0), "two peaks": teacher(8, 7, 0), [OUT]: teacher(1, 1, -16), undecided: teacher(1, 1, -1) };
const logits = once((row, classes) => standardize(teacherLogits({ ...ROWS[row], classes })));

// log Z in powers of 1/τ needs τ above 1/|s|, s the nearest zero of Z(s) = Σ e^(s z): Newton's method from 28 points.
const exactTau = once((row, classes) => {
  const z = logits(row, classes), unit = Math.PI / (highest(z) - lowest(z)); // no zero is nearer
  return highest(Array.from({ length: 28 }, (_, start) => {
    let s = polar(unit * 1.45 ** (start % 4), 0.3 + 0.09 * start), by = s;
    for (let i = 0; i < 15 && size(by) > 1e-12; i++) {
      let a = 0, b = 0, c = 0, d = 0; // Z and its derivative
      for (const v of z) {
        const [re, im] = polar(Math.exp(s[0] * v), s[1] * v);
        a += re; b += im; c += v * re; d += v * im;
      }
      s = minus(s, by = over([a, b], [c, d]));
    }
    return size(by) < 1e-9 ? 1 / size(s) : 0;
  }));
});

function distance(weights, p) { // total variation
  const total = sum(weights);
  return weights.reduce((d, w, k) => d + Math.abs(w / total - p[k]) / 2, 0);
}

const LOW = 0.1, HIGH = 20, tauAt = (share) => LOW * (HIGH / LOW) ** share, TAUS = Array.from({ length: 73 }, (_, i) => tauAt(i / 72));
const clamp = (low, value, high) => Math.max(low, Math.min(high, value));
const softmaxes = once((row, classes) => TAUS.map((tau) => softmax(logits(row, classes), tau)));
const errors = once((n, row, classes) => TAUS.map((tau, i) => distance(logits(row, classes).map((z) => f(n, z / tau)), softmaxes(row, classes)[i])));

export function compute({ order: n, tau, row, classes }) {
  const z = logits(row, classes), x = z.map((v) => v / tau), w = x.map((v) => f(n, v)), p = softmax(z, tau), total = mean(w);
  const top = highest(z), bottom = lowest(z), share = (v) => f(n, v / tau) / total / classes, radius = size(zeros(n)[0]), [lower_end, upper_end] = ends(n);
  const tau_upper = top / upper_end, tau_lower = bottom / lower_end, count = (test) => x.filter(test).length, inside = w.map((v) => v > 1e-12 && v < 2 + 1e-9);
  return {
    x, inside, total, radius, lower_end, upper_end, tau_upper, tau_lower, zeros: zeros(n), highest: top, lowest: bottom,
    upper_factor: 1 / upper_end, lower_factor: -1 / lower_end, required: Math.max(tau_upper, tau_lower),
    tau_disc: Math.max(top, -bottom) / radius, tau_exact: exactTau(row, classes), error: distance(w, p),
    outside: count((_, k) => !inside[k]), outside_disc: count((v) => Math.abs(v) >= radius), negative: count((_, k) => w[k] < 0),
    taylor_highest: share(top), exact_highest: highest(p), taylor_lowest: share(bottom), exact_lowest: lowest(p),
  };
}

// ---- words ----

const sub = (n) => String(n).replace(/\d/g, (digit) => String.fromCharCode(8320 + Number(digit)));
const scene = (order, tau, row, classes) => ({ order, tau, row, classes });
const SCENES = {
  "Algorithm 1’s blind end": scene(2, 1.36, OUT, 100), "a negative probability": scene(3, 1.2, OUT, 10),
  "interval, not disc": scene(2, 1.3, OUT, 10), "disc, not interval": scene(6, 1.5, ONE, 10),
};

export function words(s, v) {
  const fn = "f" + sub(s.order), low = v.tau_lower > v.tau_upper, end = low ? "lowest" : "highest", x = v[end] / s.tau, disc = `the disc |x| < ${num(v.radius)}`;
  const out = (k) => `${k} of ${s.classes} logits ${k === 1 ? "is" : "are"} outside`;
  return `At order ${s.order} and τ = ${num(s.tau)}, ` + (!v.outside ? "all logits are inside the interval. "
    : `${out(v.outside)} the interval: the ${end} is at x = ${num(x)}, where ${fn} = ${num(f(s.order, x))}. ` +
      `It takes τ = ${num(v.required)} to bring all in${low ? `; Algorithm 1 stops at ${num(v.tau_upper)}` : ""}. `)
    + (v.total < 0 ? `All ${fn} together are below 0: no softmax is left. `
      : v.negative ? `For ${v.negative}, ${fn} < 0: a negative probability, which has no logarithm. `
        : v.taylor_lowest > v.taylor_highest ? `Left of its valley ${fn} rises again, and the lowest logit gets the largest probability. ` : "")
    + (v.outside_disc ? `In powers of x it fails${v.outside ? " as well" : ", though"}: ${out(v.outside_disc)} ${disc}.`
      : `All are inside ${disc}: in powers of x, log ${fn} converges${v.outside ? "" : ", too"}.`);
}

// ---- drawing ----

const X0 = -5.8, X1 = 4.2, TICKS = [-4, -2, 0, 2, 4], VIOLET = "name interval halo";
function frame(width) {
  const left = 28, right = width - 8, unit = (right - left) / (X1 - X0), roof = 48, floor = roof + 8.6 * unit;
  return { left, right, unit, roof, floor, height: floor + 22, at: (x) => left + (x - X0) * unit };
}
const across = (values, at, y) => values.flatMap((t) => [line(at(t), y, at(t), y + 4, "axis"), label(at(t), y + 17, tickText(t), "tick", "middle")]);
const upward = (values, y, { left, right }, text = tickText) =>
  values.flatMap((t) => [line(left, y(t), right, y(t), "grid"), label(left - 6, y(t) + 4, text(t), "tick", "end")]);
const head = (title, ...signs) => [label(0, 14, title, "title"),
  label(0, 31, signs.flatMap(([kind, sign, text]) => [svg("tspan", { class: kind }, sign), ` ${text}\u2003`]), "tick")];

// The row: a dot inside the interval, a cross outside.
function row(v, { at }, y, spread) {
  let dots = "", crosses = "";
  v.x.forEach((x, k) => {
    if (x < X0 || x > X1) return;
    const place = `M${at(x).toFixed(1)} ${(y + spread * (2 * ((k * 0.6180339887498949) % 1) - 1)).toFixed(1)}`;
    if (v.inside[k]) dots += place + "h0"; else crosses += place + "m-3.5 -3.5l7 7m0 -7l-7 7";
  });
  return [svg("path", { d: dots, class: "logit" }), svg("path", { d: crosses, class: "logit out" })];
}

function drawSeries(s, v, width) {
  const box = frame(width), { left, right, at, roof, height } = box, n = s.order, fn = "f" + sub(n), g = (x) => f(n, x);
  const axis = height - 22, strip = axis - 20, bar = strip - 38, floor = bar - 13, top = v.highest / s.tau, bottom = v.lowest / s.tau;
  const y = (value) => (value > -1.2 && value < 4.2 ? floor - ((floor - roof) * (value + 1.2)) / 5.4 : NaN);
  const draw = (h, kind) => path(Array.from({ length: 401 }, (_, i) => X0 + i / 40).map((x) => [at(x), y(h(x))]), kind);
  const ends = [[v.lower_end, n % 2 ? 0 : 2, -6, "end"], [v.upper_end, 2, 6, "start"]];
  return picture(width, height, `The Taylor polynomial of order ${n}, its interval, and the logits at z/τ.`, [
    ...head(`${fn} for eˣ, and where log ${fn} may be expanded`, ["interval", "▬", "interval"], ["row", "●", "logit inside"], ["row", "×", "outside"]),
    rect(left, y(2), right, y(0), "band"), rect(at(v.lower_end), y(2), at(v.upper_end), y(0), "window"), ...upward([0, 1, 2, 3, 4], y, box),
    line(left, axis, right, axis, "axis"), ...across(TICKS, at, axis), label(at(3), axis + 17, "x = z/τ", "name", "middle"),
    ...[top, bottom].map((x) => x > X0 && x < X1 && line(at(x), axis, at(x), y(clamp(-1.1, g(x), 4.1)), "stem")),
    ...ends.flatMap(([x, level, by, anchor]) => [line(at(x), y(level), at(x), bar, "end"), label(at(x) + by, bar + 4, num(x), VIOLET, anchor)]),
    line(at(v.lower_end), bar, at(v.upper_end), bar, "bar"), label(right - 4, y(1) + 4, `0 < ${fn} ≤ 2`, VIOLET, "end"),
    draw(Math.exp, "exp"), draw(g, "curve"), ...[top, bottom].filter((x) => y(g(x))).map((x) => circle(at(x), y(g(x)), 4.5, "point")),
    label(at(Math.log(3.7)) - 9, y(3.7) + 4, "eˣ", "name halo", "end"), label(at(n > 1 ? 1.3 : 2.2) + 9, y(3.2) + 4, fn, VIOLET), ...row(v, box, strip, 8),
    label(Math.min(at(top) - 4, right - 46), strip - 16, top > X1 ? "max z ▸" : "max z", "row halo"),
    label(Math.max(at(bottom) + 4, left + 46), strip - 16, bottom < X0 ? "◂ min z" : "min z", "row halo", "end"),
  ]);
}

function drawPlane(s, v, width, id) {
  const box = frame(width), { left, right, at, roof, floor, unit, height } = box, n = s.order, fn = "f" + sub(n), R = "R" + sub(n);
  const middle = (roof + floor) / 2, y = (b) => middle - b * unit, place = ([a, b]) => `${at(a).toFixed(1)} ${y(b).toFixed(1)}`;
  const limit = Array.from({ length: 81 }, (_, i) => (Math.PI / 2) * Math.sin(Math.PI * (i / 80 - 0.5)));
  return picture(width, height, `The complex plane of x: where |${fn} − 1| < 1, the zeros of ${fn}, and the disc of radius ${num(v.radius)}.`, [
    ...head(`log ${fn} in the complex plane`, ["interval", "■", `|${fn} − 1| < 1`], ["reach", "○", `|x| < ${R}`], ["zero", "◆", `${fn} = 0`]),
    ...upward(TICKS, y, box, (t) => (t ? tickText(t) + "i" : "0")), ...across(TICKS, at, floor), label(at(3), floor + 17, "Re x", "name", "middle"),
    line(left, middle, right, middle, "axis"), line(at(0), roof, at(0), floor, "axis"), label(left, y(3) + 4, "Im x", "name halo", "middle"),
    svg("clipPath", { id }, rect(left, roof, right, floor)), svg("g", { "clip-path": `url(#${id})` }, [
      circle(at(0), middle, v.radius * unit, "disc"), svg("path", { d: domain(n).map((curve) => `M${curve.map(place).join("L")}z`).join(""), class: "region" }),
      path(limit.map((b) => [at(Math.log(2 * Math.cos(b))), y(b)]), "limit"), line(at(v.lower_end), middle, at(v.upper_end), middle, "bar"), ...row(v, box, middle, 0),
      ...v.zeros.map((zero) => svg("path", { d: `M${place(zero)}m-6 0l6 -6 6 6 -6 6z`, class: "zero" })),
    ]),
    label(left + 4, y(1.57) - 6, "n → ∞", "tick halo"), label(at(v.radius / 2) + 4, y(-0.87 * v.radius) + 14, `${R} = ${num(v.radius)}`, "name reach halo"),
  ]);
}

const MARGIN = 52; // of the lower picture
function drawErrors(s, v, width, id) {
  const left = MARGIN, right = width - 16, roof = 48, floor = 158, height = 262, plot = right - left, n = sub(s.order);
  const x = (tau) => left + (plot * Math.log(tau / LOW)) / Math.log(HIGH / LOW), y = (e) => (e > 9e-7 && e < 1.01 ? roof - ((floor - roof) * Math.log10(e)) / 6 : NaN), now = x(s.tau);
  const draw = (order, kind) => path(errors(order, s.row, s.classes).map((e, i) => [x(TAUS[i]), y(e)]), kind), bounds = [
    [v.tau_upper, `c${n}⁺·max z`, "interval", ", Eq. 20"], [v.tau_lower, `c${n}⁻·|min z|`, "interval", ""],
    [v.tau_disc, `max |z|/R${n}`, "reach", ", disc"], [v.tau_exact, "exact log Z in 1/τ", "", ""],
  ];
  return picture(width, height, `Total variation between Taylor softmax and softmax against τ: ${num(100 * v.error)} % at τ ${num(s.tau)}.`, [
    ...head("Error of the Taylor softmax, and the τ asked for", ["", "", "total variation by order; hatched: a logit is outside; bold: met"]),
    hatching(id), rect(left, roof, x(v.required), floor, "", { fill: `url(#${id})` }), line(left, floor, right, floor, "axis"),
    ...upward([1, 1e-2, 1e-4, 1e-6], y, { left, right }, (e) => tickText(100 * e) + " %"), ...across([0.1, 0.2, 0.5, 1, 2, 5, 10, 20], x, floor),
    ...Array.from({ length: 10 }, (_, i) => draw(i + 1, "other")), draw(s.order, "curve"),
    line(now, roof, now, height, "now"), label(now, floor + 17, "τ", "name halo", "middle"), circle(now, y(clamp(1e-6, v.error, 1)), 5.5, "dot"),
    ...bounds.flatMap(([tau, name, kind, note], i) => {
      const cx = x(tau), cy = floor + 42 + 19 * i, room = cx < right - 170;
      return [rect(cx, cy - 12, right, cy + 4, "span " + kind), line(cx, cy - 12, cx, cy + 4, "bound " + kind),
        label(cx + (room ? 9 : -9), cy, `${name} ${num(tau)}${note}`, s.tau < tau ? "halo" : "halo chosen", room ? "start" : "end")];
    }),
  ]);
}

// ---- stage ----

function render({ model, el }) {
  const names = ["order", "tau", "row", "classes"], { state, write } = traits(model, names), id = "ak" + Math.random().toString(36).slice(2);
  const pair = (a, b) => `${num(a)} / ${num(b)}`;
  let s, v, widths; // of the last redraw
  return stage({
    model, el, kind: "taylor", title: "Taylor explorer", names,
    above: [[
      slider("order n", "Of the Taylor polynomial", 1, 10, 1, () => s.order, (order) => write({ order }), () => s.order),
      slider("temperature τ", "It divides the logits", -1, 1.3, 0.01, () => Math.log10(s.tau), (value) => write({ tau: 10 ** value }), () => num(s.tau)),
    ]],
    below: [
      choice("Logits", Object.fromEntries(Object.keys(ROWS).map((name) => [name, [name, ""]])), () => s.row, (row) => write({ row })),
      scenes("See:", { "τ just enough": () => ({ tau: Math.ceil(100 * v.required) / 100 }), ...SCENES }, write),
      [classSlider(model, write)],
    ],
    paint(width, two) {
      s = state();
      v = compute(s);
      widths = [width, width, two ? 2 * width + 24 : width];
      const pictures = [drawSeries(s, v, width), drawPlane(s, v, width, id), drawErrors(s, v, widths[2], id + "h")];
      pictures.forEach((drawing) => drawing.classList.add("ak-drags"));
      return {
        pictures, words: words(s, v),
        numbers: [
          [`c${sub(s.order)}⁻ / c${sub(s.order)}⁺`, pair(v.lower_factor, v.upper_factor)],
          ["outside interval / disc", `${v.outside} / ${v.outside_disc}`], ["p of max z: Taylor / softmax", pair(v.taylor_highest, v.exact_highest)],
          ["p of min z", pair(v.taylor_lowest, v.exact_lowest)], ["total variation", num(100 * v.error) + " %"],
        ],
      };
    },
    dragged(index, px) { // above, the highest or the lowest logit follows the pointer
      const { left, unit } = frame(widths[0]), x = (px - left) / unit + X0;
      write({ tau: clamp(LOW, index === 2 ? tauAt((px - MARGIN) / (widths[2] - MARGIN - 16)) : (x >= 0 ? v.highest : v.lowest) / x, HIGH) });
    },
  });
}

export default { render };
