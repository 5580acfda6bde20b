// Chapter 8: what two losses do to each of a student's logits, in closed formulas.

const LOSSES = { // heading: { method: name }
  "on raw logits": { ce: "CE", kd: "KD", dkd: "DKD", ttm: "TTM", dtkd: "DTKD", dist: "DIST" },
  "on standardized logits": { zkd: "zKD", zdkd: "zDKD", "zkd+mlt": "MLT", correlation: "1 − ρ" },
};
const NAME = Object.assign({}, ...Object.values(LOSSES)), LABELS = ["peak", "second", "slip"];
const ZERO = 1e-12; // shorter ones are rounding

// ---- gradients ----

const at = (p, f) => sum(p.map((x, k) => x * f[k])); // the mean of f under p
const size = (g) => Math.sqrt(at(g, g));
const minus = (a, b) => a.map((x, k) => x - b[k]);

const kd = (s, t, tau) => minus(softmax(s, tau), softmax(t, tau)).map((x) => tau * x);

function dkd(s, t, tau, y, alpha = 1, beta = 8) {
  const others = (v) => softmax(v.filter((_, k) => k !== y), tau), q = others(s), p = others(t);
  const binary = softmax(s, tau)[y] - softmax(t, tau)[y], g = q.map((x, k) => tau * (beta * (x - p[k]) - alpha * binary * x));
  g.splice(y, 0, tau * alpha * binary);
  return g;
}

function dtkd(s, t, tau) { // 3 at the two temperatures, which follow the student, and 1 at τ
  const [ms, mt] = [s, t].map((v) => v[0] - logSoftmax(v, 1)[0]); // log Σ exp
  const hot = (2 * tau * ms) / (ms + mt), cold = 2 * tau - hot; // of student and teacher
  const q = softmax(s, hot), p = softmax(t, cold), kl = loss(s, t, hot, cold) / (hot * cold);
  const bySelf = cold * kl - (cold / hot) * (at(q, s) - at(p, s));
  const d = t.map((x, k) => x / cold - s[k] / hot), byTeacher = hot * kl - (hot / cold) * (at(p, t.map((x, k) => x * d[k])) - at(p, t) * at(p, d));
  const slope = ((2 * tau * mt) / (ms + mt) ** 2) * (bySelf - byTeacher), sharp = softmax(s, 1), fixed = kd(s, t, tau);
  return s.map((_, k) => 3 * (cold * (q[k] - p[k]) + slope * sharp[k]) + fixed[k]);
}

function dist(s, t, tau) {
  const q = softmax(s, tau), p = softmax(t, tau), a = q.map((x) => x - 1 / q.length), b = p.map((x) => x - 1 / p.length);
  const [na, nb] = [size(a), size(b)], whole = na * nb + 1e-8, h = b.map((x, k) => x / whole - (at(a, b) * nb * a[k]) / (na * whole * whole));
  const middle = at(q, h);
  return q.map((x, k) => -tau * x * (h[k] - middle));
}

// Through the standardization: no part along 1, none along z, and 1/σ.
function through(g, z, sigma) {
  const m = mean(g), along = dot(g, z);
  return g.map((x, k) => (x - m - along * z[k]) / sigma);
}

function makePair(s) {
  const teacher = standardize(teacherLogits(s)), student = studentLogits(teacher, s.agreement);
  return { teacher, student, t: teacher.map((x) => s.teacher_scale * x), v: student.map((x) => s.student_scale * x), sigma: s.student_scale, y: LABELS.indexOf(s.label) };
}

export function gradient(s, name, tau = s.tau, pair = makePair(s)) {
  const { teacher, student, t, v, sigma, y } = pair;
  switch (name) {
    case "ce": return softmax(v, 1).map((q, k) => q - (k === y));
    case "kd": return kd(v, t, tau);
    case "dkd": return dkd(v, t, tau, y);
    case "ttm": return minus(softmax(v, 1), softmax(t, tau));
    case "dtkd": return dtkd(v, t, tau);
    case "dist": return dist(v, t, tau);
    case "zkd": return through(kd(student, teacher, tau), student, sigma);
    case "zdkd": return through(dkd(student, teacher, tau, y), student, sigma);
    case "zkd+mlt": return through(kd(student, teacher, mlt(pair)), student, sigma);
    default: return through(teacher.map((x) => -x / teacher.length), student, sigma);
  }
}
const mlt = ({ teacher, student }) => C_UPPER * Math.max(highest(teacher), highest(student));
const share = (g) => (size(g) > ZERO ? Math.abs(g[0]) / sum(g.map(Math.abs)) : 0);
const cosine = (a, b) => (Math.min(size(a), size(b)) > ZERO ? at(a, b) / (size(a) * size(b)) : 0);

export function compute(s) {
  const pair = makePair(s), limit = gradient(s, "correlation", 1, pair), v = { pair, limitGradient: limit };
  for (const who of ["a", "b"]) {
    const g = gradient(s, s[who], s.tau, pair);
    Object.assign(v, {
      ["gradient_" + who]: g, ["norm_" + who]: size(g), ["share_" + who]: share(g), ["total_" + who]: sum(g),
      ["radial_" + who]: at(g, pair.v), ["angle_" + who]: cosine(g, limit),
    });
  }
  return Object.assign(v, {
    cosine: cosine(v.gradient_a, v.gradient_b), weight: v.norm_b > ZERO ? v.norm_a / v.norm_b : 0,
    limit: size(limit), rho: dot(pair.teacher, pair.student),
  });
}
// ---- words ----

const START = { peak: 8, second: 4, ruled_out: -3, agreement: 0.8, classes: 10, teacher_scale: 3, student_scale: 2.5, label: "peak" };
const scene = (a, b, tau, changes) => ({ ...START, a, b, tau, bars: "as they are", curve: "strength", ...changes });
const SCENES = {
  "what does a teacher add?": scene("ce", "kd", 4), "what does standardizing take away?": scene("kd", "zkd", 2),
  "the same shape at half the size": scene("kd", "zkd", 2, { agreement: 1, student_scale: 1.5 }),
  "is MLT more than 1 − ρ?": scene("zkd+mlt", "correlation", 4, { curve: "angle" }),
  "where does β = 8 go?": scene("kd", "dkd", 4, { bars: "matched", curve: "peak" }),
  "without τ², the student at 1": scene("kd", "ttm", 10, { bars: "matched" }),
  "the label is wrong": scene("ce", "kd", 4, { label: "slip", curve: "angle" }),
};
const flat = (v, who) => Math.abs(v["radial_" + who]) < 1e-9 * v["norm_" + who] * size(v.pair.v);
const percent = (x) => `${Math.round(100 * x)} %`;

export function words(s, v) {
  const [a, b] = [NAME[s.a], NAME[s.b]], silent = [["a", a], ["b", b]].filter(([who]) => v["norm_" + who] <= ZERO).map(([, name]) => name);
  if (silent.length) {
    return `${silent.join(" and ")}: no pull at all. The student’s logits have the teacher’s shape, and after standardizing that is all there is. ` +
      (silent.length < 2 ? `${silent[0] === a ? b : a} also sees the scale, ${num(s.student_scale)} against ${num(s.teacher_scale)}, and pulls on.` : "");
  }
  const [strong, weak, times] = v.weight >= 1 ? [a, b, v.weight] : [b, a, 1 / v.weight], c = v.cosine;
  const way = c > 0.99 ? "the same" : c > 0.9 ? "nearly the same" : c > 0.5 ? "a related" : c > 0 ? "quite another" : "the opposite";
  const verb = (who) => (flat(v, who) ? "leaves their scale alone" : v["radial_" + who] < 0 ? "stretches them" : "shrinks them"), own = "Along the student’s own logits, ";
  const lift = a !== b && [["a", a], ["b", b]].find(([who]) => Math.abs(v["total_" + who]) > 1e-9 * v["norm_" + who]);
  if (a === b) return `Twice the same loss. ${percent(v.share_a)} of its pull is on the peak class. ${own}it ${verb("a")}.`;
  return `${times < 1.005 ? `${a} and ${b} pull equally hard` : `${strong} pulls ${num(times)} times as hard as ${weak}`}, in ${way} direction (cosine ${num(c)}). ` +
    `The peak class has ${percent(v.share_a)} of ${a}’s pull and ${percent(v.share_b)} of ${b}’s. ` +
    `${own}${verb("a") === verb("b") ? `each ${verb("a")}` : `${a} ${verb("a")} and ${b} ${verb("b")}`}.` + (lift ? ` ${lift[1]} also shifts all of them at once: its gradient does not sum to 0.` : "");
}

// ---- drawing ----

function drawBars(s, v, width) {
  const left = 44, right = 4, half = 56, plot = width - left - right, parts = [], values = [], factor = { a: 1, b: s.bars === "matched" && v.weight ? v.weight : 1 };
  const pulls = ["a", "b"].map((who) => v["gradient_" + who].map((g) => -factor[who] * g)), top = Math.max(1e-9, ...pulls.map((p) => highest(p.map(Math.abs))));
  const wide = Math.max(plot / s.classes, Math.min(46, plot / 8)), thin = (plot - 4 * wide) / (s.classes - 4);
  const place = (k) => left + (k < 3 ? k * wide : k === s.classes - 1 ? plot - wide : 3 * wide + (k - 3) * thin);
  pulls.forEach((pull, i) => {
    const who = "ab"[i], zero = 126 + i * 154, tick = ticks(top).pop(), y = (x) => zero - (half * x) / top;
    for (const t of [tick, -tick]) parts.push(line(left, y(t), width - right, y(t), "grid"), label(left - 6, y(t) + 4, tickText(t), "tick", "end"));
    parts.push(label(left - 6, zero + 4, "0", "tick", "end"));
    let rest = "";
    pull.forEach((x, k) => {
      const named = k < 3 || k === s.classes - 1, w = named ? wide : thin, gap = w > 6 ? 2 : 0;
      const bar = `M${(place(k) + gap).toFixed(2)} ${zero}v${(y(x) - zero).toFixed(2)}h${(w - 2 * gap).toFixed(2)}V${zero}z`;
      if (!named) { rest += bar; return; }
      parts.push(svg("path", { d: bar, class: "bar-" + who }));
      if (Math.abs(x) > top / 1e3) values.push(label(place(k) + w / 2, y(x) + (x > 0 ? -4 : 12), num(x), "value halo", "middle"));
    });
    parts.push(svg("path", { d: rest, class: `bar-${who} rest` }), line(left, zero, width - right, zero, "axis"));
    const times = factor[who] === 1 ? "" : ` × ${num(factor[who])}`;
    values.push(label(left, zero - half - 19, `${"AB"[i]}: ${NAME[s[who]]}${times}`, `name is-${who}`));
  });
  const floor = 126 + 154 + half + 27;
  ["peak", "2nd", "slip"].forEach((name, k) => {
    parts.push(label(place(k) + wide / 2, floor, name, LABELS.indexOf(s.label) === k ? "tick chosen" : "tick", "middle"));
    if (LABELS.indexOf(s.label) === k) parts.push(label(place(k) + wide / 2, floor + 13, "label", "tick", "middle"));
  });
  parts.push(label((place(3) + place(s.classes - 1)) / 2, floor, s.classes > 50 ? `${s.classes - 4} others` : "others", "tick", "middle"));
  ["ruled", "out"].forEach((row, i) => parts.push(label(place(s.classes - 1) + wide / 2, floor + 13 * i, row, "tick", "middle")));
  parts.push(label(0, 14, `The pull on each logit, −g, at τ = ${num(s.tau)}`, "title"), label(0, 31, "above the line: pulled up · below: pushed down", "tick"));
  const sentence = `Pull on peak, second, slip, ruled-out class. ${["a", "b"].map((who, i) => `${NAME[s[who]]}: ${[0, 1, 2, s.classes - 1].map((k) => num(pulls[i][k])).join(", ")}`).join(". ")}.`;
  return picture(width, floor + 16, sentence, [...parts, ...values]);
}

const CURVES = {
  strength: ["strength", "How hard: the gradient’s length", size],
  peak: ["peak class", "Where: share of the pull on the peak class", share],
  angle: ["direction", "Which way: cosine with the gradient of 1 − ρ", (g, to) => cosine(g, to) || NaN],
};

const known = {}; // the curves do not follow τ
function remember({ tau, bars, ...s }, who, make) {
  const key = JSON.stringify({ ...s, a: 0, b: 0, name: s[who] });
  if (known[who]?.key !== key) known[who] = { key, curve: make() };
  return known[who].curve;
}

function drawCurve(s, v, width) {
  const left = 44, right = 62, roof = 46, floor = 335, plot = width - left - right, parts = [];
  const [, title, of] = CURVES[s.curve], measure = (g) => (size(g) > ZERO ? of(g, v.limitGradient) : NaN), count = s.classes > 200 ? 24 : 60;
  const taus = Array.from({ length: count + 1 }, (_, i) => 0.1 * 1000 ** (i / count));
  const still = (name) => ["ce", "zkd+mlt", "correlation"].includes(name); // does not read τ
  const lines = ["a", "b"].map((who) => {
    const now = measure(v["gradient_" + who]);
    return [who, NAME[s[who]], still(s[who]) ? taus.map(() => now) : remember(s, who, () => taus.map((tau) => measure(gradient(s, s[who], tau, v.pair)))), now];
  });
  if (![s.a, s.b].includes("correlation")) lines.push(["limit", "1 − ρ", taus.map(() => measure(v.limitGradient))]);
  const all = lines.flatMap(([, , points]) => points).filter(Number.isFinite), log = s.curve === "strength";
  const power = Math.ceil(Math.log10(Math.max(1e-3, ...all)) - 1e-9), bottom = s.curve === "angle" && lowest(all) < 0 ? -1 : 0;
  const top = log ? power : s.curve === "peak" ? Math.max(0.5, ...all) : 1;
  const decades = Math.max(4, ...lines.map(([, , points]) => power - Math.floor(Math.log10(points[count] || 1))));
  const y = (n) => { // NaN below the axis
    const height = log ? (Math.log10(n) - power) / decades + 1 : (n - bottom) / (top - bottom);
    return height < -1e-9 ? NaN : floor - (floor - roof) * height;
  };
  const x = (tau) => left + (plot * Math.log10(tau / 0.1)) / 3;
  const marks = log ? Array.from({ length: decades + 1 }, (_, i) => 10 ** (power - i)) : s.curve === "peak" ? [0, 0.25, 0.5] : bottom ? [-1, -0.5, 0, 0.5, 1] : [0, 0.5, 1];
  for (const n of marks) parts.push(line(left, y(n), left + plot, y(n), "grid"), label(left - 6, y(n) + 4, tickText(n), "tick", "end"));
  for (const t of [0.1, 1, 10, 100]) parts.push(line(x(t), floor, x(t), floor + 4, "axis"), label(x(t), floor + 17, String(t), "tick", "middle"));
  parts.push(line(left, floor, left + plot, floor, "axis"), label(left + plot / 2, floor + 34, "temperature τ", "name", "middle"));
  parts.push(line(x(s.tau), roof, x(s.tau), floor, "now faint"));
  for (const [who, , points] of [...lines].reverse()) parts.push(path(points.map((n, i) => [x(taus[i]), y(n)]), `curve line-${who}`));
  const own = mlt(v.pair);
  for (const [who, , , now] of lines.slice(0, 2)) {
    const tau = s[who] === "zkd+mlt" ? own : s.tau;
    if (!(y(now) <= floor)) continue;
    parts.push(who === "a" ? circle(x(tau), y(now), 5.5, "dot") : rect(x(tau) - 4.5, y(now) - 4.5, x(tau) + 4.5, y(now) + 4.5, "dot dot-b"));
    if (tau === own && s.tau !== own) parts.push(label(x(tau), y(now) + (y(now) < roof + 30 ? 20 : -10), `its τ = ${num(own)}`, "tick halo", "middle"));
  }
  const ends = lines.map(([who, name, points]) => ({ who, name: y(points[count]) ? name : name + (log ? ": 0" : ": –"), want: y(points[count]) || floor })).sort((one, two) => one.want - two.want);
  ends.forEach((end, i) => { end.y = Math.max(end.want, i ? ends[i - 1].y + 15 : roof); });
  for (let i = ends.length - 1; i >= 0; i--) ends[i].y = Math.min(ends[i].y, i < ends.length - 1 ? ends[i + 1].y - 15 : floor);
  for (const { who, name, y: at } of ends) parts.push(label(left + plot + 8, at + 4, name, `name halo is-${who}`));
  parts.push(label(0, 14, title, "title"), label(0, 31, "dotted: 1 − ρ, where zKD goes as τ grows", "tick"));
  const drawing = picture(width, floor + 44, `${title}, against τ. ${lines.map(([, name, points]) => `${name}: ${num(points[count] || 0)} at 100`).join("; ")}.`, parts);
  drawing.classList.add("ak-drags");
  drawing.tauAt = (px) => Math.min(100, Math.max(0.1, 0.1 * 1000 ** ((px - left) / plot)));
  return drawing;
}

// ---- stage ----

function render({ model, el }) {
  const names = [...Object.keys(START), "tau", "a", "b", "bars", "curve"], { state, write } = traits(model, names), current = {};
  const get = (name) => () => model.get(name), set = (name) => (value) => write({ [name]: value });
  return stage({
    model, el, kind: "gradient", title: "What the student feels", names,
    above: [
      scenes("Ask:", SCENES, write), [menu("A", LOSSES, get("a"), set("a")), menu("B", LOSSES, get("b"), set("b"))],
      logSlider(model, write, "tau", "temperature τ", "CE, MLT and 1 − ρ do not read it"),
    ],
    below: [
      choice("bars", { "as they are": ["as they are", ""], matched: ["B as strong as A", "B times λ"] }, get("bars"), set("bars")),
      choice("against τ", CURVES, get("curve"), set("curve")),
      choice("label", { peak: ["the peak", ""], second: ["2nd class", ""], slip: ["the slip", ""] }, get("label"), set("label")),
      [...scaleSliders(model, write), ...pairSliders(model, write)],
    ],
    paint(width) {
      const s = state(), v = compute(s), two = (name, show = num) => `${show(v[name + "_a"])} / ${show(v[name + "_b"])}`;
      const curve = drawCurve(s, v, width), clean = (who) => (flat(v, who) ? "0" : num(v["radial_" + who]));
      current.tauAt = curve.tauAt;
      return {
        pictures: [drawBars(s, v, width), curve],
        numbers: [
          ["length A / B", two("norm")], ["on the peak class", two("share", percent)], ["cosine of A and B", v.weight ? num(v.cosine) : "–"],
          ["Σ g·s, A / B", `${clean("a")} / ${clean("b")}`], ["λ: B as hard as A", v.weight ? num(v.weight) : "–"],
        ],
        words: words(s, v),
      };
    },
    dragged(_, x) { write({ tau: Number(current.tauAt(x).toPrecision(4)) }); },
  });
}

export default { render };
