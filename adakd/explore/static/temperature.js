// Chapter 1: two softmaxes at one temperature, and what it does to their divergence.

export function compute(state) {
  const teacher = standardize(teacherLogits(state)), student = studentLogits(teacher, state.agreement);
  const top = Math.max(highest(teacher), highest(student)), bottom = Math.min(lowest(teacher), lowest(student));
  const v = {
    tau_teacher: C_UPPER * highest(teacher), tau_both: C_UPPER * top, tau_absolute: C_UPPER * Math.max(top, -bottom),
    upper: C_UPPER * top, lower: C_LOWER * -bottom,
  };
  v.tau = state.rule === "hand" ? state.tau : v["tau_" + state.rule];
  v.required = Math.max(v.upper, v.lower);
  return Object.assign(v, {
    max_teacher: highest(teacher), max_student: highest(student), min_teacher: lowest(teacher), min_student: lowest(student),
    entropy: entropy(teacher, v.tau), rho: dot(teacher, student), limit: 1 - dot(teacher, student),
    loss: loss(student, teacher, v.tau), teacher, student,
    p: softmax(teacher, v.tau), q: softmax(student, v.tau),
  });
}

// ---- words ----------------------------------------------------------------------------------------------------

const RULES = {
  hand: ["by hand", "set by hand"],
  teacher: ["teacher only", "the teacher’s maximum (abstract)"],
  both: ["both, signed", "the larger signed maximum (Algorithm 1)"],
  absolute: ["both, absolute", "the larger absolute maximum (released code)"],
};
const scene = (peak, second, ruled_out, agreement, classes) => ({ peak, second, ruled_out, agreement, classes });
const SCENES = {
  "one peak": scene(8, 0, 0, 0.8, 10), "two peaks": scene(8, 7, 0, 0.8, 10),
  "one class ruled out": scene(1, 1, -16, 0.95, 100), "undecided": scene(1, 1, -1, 0.8, 10),
};
const CLASSES = [6, 10, 20, 50, 100, 200, 1000];
const TAU = [0.1, 100], inside = (tau, need) => tau >= need * (1 - 1e-9);

export function words(s, v) {
  const by = s.rule === "hand" ? "set by hand" : "chosen by " + RULES[s.rule][1];
  const gap = v.limit > 1e-9 ? 100 * (v.loss / v.limit - 1) : 0;
  const compared = Math.abs(gap) < 0.5 ? "equal to its limit" : `${Math.abs(gap).toFixed(Math.abs(gap) < 10 ? 1 : 0)} % ${gap > 0 ? "above" : "below"} its limit`;
  return `At τ = ${num(v.tau)}, ${by}, the teacher gives its peak class probability ${num(v.p[0])} and the student ${num(v.q[0])}; ` +
    `blind guessing gives ${num(1 / s.classes)}. The loss τ²·KL is ${num(v.loss)}, ${compared} 1 − ρ = ${num(v.limit)}. ` +
    (inside(v.tau, v.required) ? "Every logit is inside the interval of convergence."
      : `The interval needs τ of at least ${num(v.required)}: ` +
        (inside(v.tau, v.upper) ? "the class ruled out most strongly is outside." : "the highest logit is outside."));
}

// ---- drawing --------------------------------------------------------------------------------------------------

function drawBars(s, v, width) {
  const height = 322, left = 40, right = 4, middle = 166, half = 92, plot = width - left - right;
  const top = Math.max(highest(v.p), highest(v.q)), scale = half / top, parts = [], values = [];
  const wide = Math.max(plot / s.classes, Math.min(46, plot / 8)), thin = (plot - 4 * wide) / (s.classes - 4);
  const at = (k) => left + (k < 3 ? k * wide : k === s.classes - 1 ? plot - wide : 3 * wide + (k - 3) * thin);
  for (const t of ticks(top)) {
    for (const y of [middle - t * scale, middle + t * scale]) {
      parts.push(line(left, y, width - right, y, "grid"), label(left - 6, y + 4, tickText(t), "tick", "end"));
    }
  }
  [[v.p, -1, "teacher", "t"], [v.q, 1, "student", "s"]].forEach(([p, sign, who, index]) => {
    let rest = "";
    p.forEach((value, k) => {
      const named = k < 3 || k === s.classes - 1, w = named ? wide : thin, gap = w > 6 ? 2 : 0;
      const h = value * scale, y = middle + sign * 1.5;
      const bar = `M${(at(k) + gap).toFixed(2)} ${y}v${(sign * h).toFixed(2)}h${(w - 2 * gap).toFixed(2)}v${(-sign * h).toFixed(2)}z`;
      if (!named) { rest += bar; return; }
      parts.push(svg("path", { d: bar, class: who }));
      if (value > 5e-5) values.push(label(at(k) + w / 2, y + sign * h + (sign < 0 ? -4 : 12), num(value), "value halo", "middle"));
    });
    parts.push(svg("path", { d: rest, class: who + " rest" }));
    const u = middle + sign * (scale / s.classes + 1.5);
    parts.push(line(left, u, width - right, u, "uniform"));
    parts.push(label(width - right, sign < 0 ? middle - half - 6 : middle + half + 14, [`${who} p`, svg("tspan", { dy: -5, "font-size": 9.5 }, index)], "name " + who, "end"));
  });
  parts.push(line(left, middle, width - right, middle, "axis"), label(0, 14, `Softmax at τ = ${num(v.tau)}`, "title"),
    label(0, 31, `dotted: a blind guess, 1/K = ${num(1 / s.classes)}`, "tick"));
  ["peak", "2nd", "slip"].forEach((name, k) => parts.push(label(at(k) + wide / 2, height - 30, name, "tick", "middle")));
  parts.push(label((at(3) + at(s.classes - 1)) / 2, height - 30, s.classes > 50 ? `${s.classes - 4} others` : "others", "tick", "middle"));
  ["ruled", "out"].forEach((row, i) => parts.push(label(at(s.classes - 1) + wide / 2, height - 30 + 13 * i, row, "tick", "middle")));
  const summary = `Softmax probabilities at τ ${num(v.tau)}: teacher above the axis, student below.`;
  return picture(width, height, summary, [...parts, ...values]);
}

function drawLoss(s, v, width, hatch) {
  const height = 322, left = 40, right = 4, roof = 46, floor = 194, plot = width - left - right, parts = [];
  const curve = Array.from({ length: 121 }, (_, i) => {
    const tau = TAU[0] * (TAU[1] / TAU[0]) ** (i / 120);
    return [tau, loss(v.student, v.teacher, tau)];
  });
  const top = 1.08 * Math.max(0.02, v.limit, ...curve.map((c) => c[1]));
  const x = (tau) => left + (plot * Math.log(tau / TAU[0])) / Math.log(TAU[1] / TAU[0]);
  const y = (value) => floor - ((floor - roof) * value) / top;
  const clamp = (tau) => Math.min(TAU[1], Math.max(TAU[0], tau));
  const pattern = svg("pattern", { id: hatch, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    line(0, 0, 0, 6, "hatch"));
  const wall = x(clamp(v.required));
  parts.push(svg("defs", {}, pattern), svg("rect", { x: left, y: roof, width: wall - left, height: floor - roof, fill: `url(#${hatch})` }));
  for (const t of ticks(top)) parts.push(line(left, y(t), width - right, y(t), "grid"), label(left - 6, y(t) + 4, tickText(t), "tick", "end"));
  for (const t of [0.1, 1, 10, 100]) {
    parts.push(line(x(t), floor, x(t), floor + 4, "axis"), label(x(t), floor + 17, String(t), "tick", t === 100 ? "end" : "middle"));
  }
  parts.push(line(left, floor, width - right, floor, "axis"), label(left + plot / 2, floor + 17, "τ", "name", "middle"));
  parts.push(line(left, y(v.limit), width - right, y(v.limit), "limit"));
  parts.push(path(curve.map(([t, l]) => [x(t), y(l)]), "curve"));
  const above = y(v.limit) < floor - 20 && loss(v.student, v.teacher, 10) >= v.limit; // the label goes where the curve is not
  parts.push(label(width - right, y(v.limit) + (above ? 15 : -7), `limit 1 − ρ = ${num(v.limit)}`, "halo name", "end"));
  const now = x(clamp(v.tau));
  parts.push(line(now, floor, now, height, "now faint"), line(now, roof, now, floor, "now"), svg("circle", { cx: now, cy: y(v.loss), r: 5.5, class: "dot" }));
  parts.push(label(0, 14, "The loss τ²·KL, and who chooses which τ", "title"),
    label(0, 31, "hatched: some logit is outside the interval", "tick"));
  const rows = [
    ["upper", "c₂⁺·max z", true], ["lower", "c₂⁻·|min z|", true],
    ["tau_teacher", "teacher only"], ["tau_both", "both, signed"], ["tau_absolute", "both, absolute"],
  ];
  rows.forEach(([key, name, bound], i) => {
    const cx = x(clamp(v[key])), cy = floor + 34 + 19 * i, ok = bound || inside(v[key], v.required);
    const text = `${name} ${num(v[key])}${ok ? "" : " too low"}`, chosen = key === "tau_" + s.rule;
    const roomRight = cx + 12 + 6.4 * text.length < width;
    if (bound) parts.push(svg("rect", { x: cx, y: cy - 8, width: width - right - cx, height: 16, class: "band" }), line(cx, cy - 8, cx, cy + 8, "bound"));
    else if (ok) parts.push(svg("circle", { cx, cy, r: 4, class: "mark" }));
    else parts.push(svg("path", { d: `M${cx - 4} ${cy - 4}l8 8m0 -8l-8 8`, class: "cross" }));
    parts.push(label(cx + (roomRight ? 9 : -9), cy + 4, text, (bound ? "row" : "halo row") + (chosen ? " chosen" : ""), roomRight ? "start" : "end"));
  });
  const summary = `τ²·KL against τ, from ${TAU[0]} to ${TAU[1]}: ${num(v.loss)} at τ ${num(v.tau)}; limit 1 − ρ ${num(v.limit)}.`;
  const drawing = picture(width, height, summary, parts);
  drawing.classList.add("ak-drags");
  drawing.tauAt = (px) => clamp(TAU[0] * (TAU[1] / TAU[0]) ** ((px - left) / plot));
  return drawing;
}

// ---- stage ----------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const names = ["peak", "second", "ruled_out", "classes", "agreement", "tau", "rule"];
  const { state, write } = traits(model, names), hatch = "ak" + Math.random().toString(36).slice(2);
  const current = { tau: 1, tauAt: null }; // of the last redraw
  const set = (name) => (value) => write({ [name]: value });
  const logit = (name, text, hint, low, high) =>
    slider(text, hint, low, high, 0.1, () => model.get(name), set(name), () => signed(model.get(name).toFixed(1)));
  const far = (k) => Math.abs(Math.log(k / model.get("classes")));
  const nearest = () => CLASSES.reduce((best, k, i) => (far(k) < far(CLASSES[best]) ? i : best), 0);
  const pair = (a, b) => `${num(a)} / ${num(b)}`;
  return stage({
    model, el, kind: "temperature", title: "Temperature explorer", names,
    above: [
      choice("τ is set", RULES, () => model.get("rule"), (rule) => write(rule === "hand" ? { rule, tau: current.tau } : { rule })),
      slider("temperature τ", "Moving it sets τ by hand", -1, 2, 0.01, () => Math.log10(current.tau),
        (value) => write({ tau: 10 ** value, rule: "hand" }), () => num(current.tau)),
    ],
    below: [
      scenes("Teacher:", SCENES, write),
      [
        logit("peak", "peak", "The teacher’s logit of its first class, in spreads of the other classes", 0, 20),
        logit("second", "second peak", "The teacher’s logit of its second class", 0, 20),
        logit("ruled_out", "ruled-out class", "The teacher’s logit of its last class", -20, 0),
        slider("agreement ρ", "Correlation of the student’s logits with the teacher’s", 0, 1, 0.01, () => model.get("agreement"),
          set("agreement"), () => model.get("agreement").toFixed(2)),
        slider("classes K", "Number of classes", 0, CLASSES.length - 1, 1, nearest, (i) => write({ classes: CLASSES[i] }), () => String(model.get("classes"))),
      ],
    ],
    paint(width) {
      const s = state(), v = compute(s), curve = drawLoss(s, v, width, hatch);
      Object.assign(current, { tau: v.tau, tauAt: curve.tauAt });
      return {
        pictures: [drawBars(s, v, width), curve],
        numbers: [
          ["τ", num(v.tau)], ["max z, teacher / student", pair(v.max_teacher, v.max_student)],
          ["min z, teacher / student", pair(v.min_teacher, v.min_student)],
          ["teacher’s entropy, nats", `${num(v.entropy)} of ${num(Math.log(s.classes))}`],
          ["ρ", num(v.rho)], ["τ²·KL", num(v.loss)], ["1 − ρ", num(v.limit)],
        ],
        words: words(s, v),
      };
    },
    dragged(_, x) { write({ tau: current.tauAt(x), rule: "hand" }); },
  });
}

export default { render };
