// The temperature of a softmax, computed in the page: no kernel, no framework, no request.
// The pure functions below restate adakd in JavaScript; tests/explore compares the two to 1e-6.

// ---- mathematics ----------------------------------------------------------------------------------------------

export const C_UPPER = (1 + Math.sqrt(3)) / 2; // c2+, Eq. 20
export const C_LOWER = (Math.sqrt(3) - 1) / 2; // c2-, the end the paper leaves out

const mean = (v) => v.reduce((a, b) => a + b, 0) / v.length;
const dot = (a, b) => mean(a.map((x, k) => x * b[k]));
const highest = (v) => v.reduce((a, b) => Math.max(a, b), -Infinity);
const lowest = (v) => v.reduce((a, b) => Math.min(a, b), Infinity);

export function standardize(v) { // population standard deviation
  const m = mean(v), c = v.map((x) => x - m), s = Math.sqrt(dot(c, c));
  return c.map((x) => x / s);
}

export function softmax(z, tau) {
  const top = highest(z), e = z.map((x) => Math.exp((x - top) / tau)), sum = e.reduce((a, b) => a + b, 0);
  return e.map((x) => x / sum);
}

function logSoftmax(z, tau) {
  const top = highest(z), sum = z.reduce((a, x) => a + Math.exp((x - top) / tau), 0);
  return z.map((x) => (x - top) / tau - Math.log(sum));
}

export const entropy = (z, tau) => -logSoftmax(z, tau).reduce((a, l) => a + Math.exp(l) * l, 0);

export function loss(student, teacher, tau) { // tau^2 KL(teacher || student)
  const p = logSoftmax(teacher, tau), q = logSoftmax(student, tau);
  return tau * tau * p.reduce((a, l, k) => a + Math.exp(l) * (l - q[k]), 0);
}

// Classes 0 peak, 1 second peak, 2 the student's slip, 3.. a ramp of unit spread, K - 1 ruled out.
export function teacherLogits({ peak, second, ruled_out, classes }) {
  const rest = classes - 4;
  return Array.from({ length: classes }, (_, k) =>
    k === 0 ? peak : k === 1 ? second : k === 2 ? 0 : k === classes - 1 ? ruled_out
      : Math.sqrt(3) * (1 - (2 * (k - 3) + 1) / rest));
}

// The teacher turned by an error of its own: the correlation of the two is exactly `agreement`.
export function studentLogits(zTeacher, agreement) {
  const slip = zTeacher.map((_, k) => (k === 2 ? 4 : Math.sqrt(12) * (((k + 1) * 0.6180339887498949) % 1 - 0.5)));
  const centred = slip.map((x) => x - mean(slip)), along = dot(centred, zTeacher);
  const error = standardize(centred.map((x, k) => x - along * zTeacher[k]));
  return zTeacher.map((z, k) => agreement * z + Math.sqrt(1 - agreement * agreement) * error[k]);
}

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

// ---- words and numbers ----------------------------------------------------------------------------------------

const RULES = {
  hand: ["by hand", "set by hand"],
  teacher: ["teacher only", "the teacher’s maximum (abstract)"],
  both: ["both, signed", "the larger signed maximum (Algorithm 1)"],
  absolute: ["both, absolute", "the larger absolute maximum (released code)"],
};
const SCENES = { // peak, second, ruled_out, agreement, classes
  "one peak": [8, 0, 0, 0.8, 10], "two peaks": [8, 7, 0, 0.8, 10],
  "one class ruled out": [1, 1, -16, 0.95, 100], "undecided": [1, 1, -1, 0.8, 10],
};
const CLASSES = [6, 10, 20, 50, 100, 200, 1000];
const TAU = [0.1, 100], inside = (tau, need) => tau >= need * (1 - 1e-9);

function num(x) {
  const a = Math.abs(x), digits = a >= 100 ? 0 : a >= 10 ? 1 : a >= 1 ? 2 : 3;
  if (a < 5e-5) return "0";
  return (a < 0.01 ? String(Number(x.toPrecision(2))) : x.toFixed(digits)).replace("-", "−");
}

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

function node(space, tag, attributes, children) {
  const e = space ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    e.setAttribute(key, typeof value === "number" ? Math.round(value * 100) / 100 : value);
  }
  e.append(...[].concat(children ?? []));
  return e;
}
const html = (tag, attributes, children) => node(false, tag, attributes, children);
const svg = (tag, attributes, children) => node(true, tag, attributes, children);
const label = (x, y, words, kind = "", anchor = "start") => svg("text", { x, y, class: kind, "text-anchor": anchor }, words);
const line = (x1, y1, x2, y2, kind) => svg("line", { x1, y1, x2, y2, class: kind });

function ticks(top) { // two to four round values in (0, top]
  const power = 10 ** Math.floor(Math.log10(top));
  const step = [0.2, 0.5, 1, 2].map((m) => m * power).find((s) => top / s < 4.5) || 5 * power;
  return Array.from({ length: Math.floor(top / step + 1e-9) }, (_, i) => (i + 1) * step);
}

function picture(width, height, title, parts) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title }, parts.filter(Boolean));
}

function drawBars(s, v, width) {
  const height = 322, left = 40, right = 4, middle = 166, half = 92, plot = width - left - right;
  const top = Math.max(highest(v.p), highest(v.q)), scale = half / top, parts = [], values = [];
  const wide = Math.max(plot / s.classes, Math.min(46, plot / 8)), thin = (plot - 4 * wide) / (s.classes - 4);
  const at = (k) => left + (k < 3 ? k * wide : k === s.classes - 1 ? plot - wide : 3 * wide + (k - 3) * thin);
  for (const t of ticks(top)) {
    for (const y of [middle - t * scale, middle + t * scale]) {
      parts.push(line(left, y, width - right, y, "grid"), label(left - 6, y + 4, String(Number(t.toPrecision(6))), "tick", "end"));
    }
  }
  [[v.p, -1, "teacher", "t"], [v.q, 1, "student", "s"]].forEach(([p, sign, who, index]) => {
    let rest = "";
    p.forEach((value, k) => {
      const named = k < 3 || k === s.classes - 1, w = named ? wide : thin, gap = w > 6 ? 2 : 0;
      const h = value * scale, y = middle + sign * 1.5;
      const path = `M${(at(k) + gap).toFixed(2)} ${y}v${(sign * h).toFixed(2)}h${(w - 2 * gap).toFixed(2)}v${(-sign * h).toFixed(2)}z`;
      if (!named) { rest += path; return; }
      parts.push(svg("path", { d: path, class: who }));
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
  for (const t of ticks(top)) parts.push(line(left, y(t), width - right, y(t), "grid"), label(left - 6, y(t) + 4, String(Number(t.toPrecision(6))), "tick", "end"));
  for (const t of [0.1, 1, 10, 100]) {
    parts.push(line(x(t), floor, x(t), floor + 4, "axis"), label(x(t), floor + 17, String(t), "tick", t === 100 ? "end" : "middle"));
  }
  parts.push(line(left, floor, width - right, floor, "axis"), label(left + plot / 2, floor + 17, "τ", "name", "middle"));
  parts.push(line(left, y(v.limit), width - right, y(v.limit), "limit"));
  parts.push(svg("path", { d: "M" + curve.map(([t, l]) => `${x(t).toFixed(2)} ${y(l).toFixed(2)}`).join("L"), class: "curve" }));
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
  drawing.tauAt = (px) => clamp(TAU[0] * (TAU[1] / TAU[0]) ** ((px - left) / plot));
  return drawing;
}

// ---- controls -------------------------------------------------------------------------------------------------

// JupyterLab takes the arrow keys for its cells, and the book's theme for its pages: handle them here.
const KEYS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -1e9, End: 1e9 };

function slider(name, hint, low, high, step, read, write, show) {
  const input = html("input", { type: "range", min: low, max: high, step });
  const output = html("output", {}), row = html("label", { title: hint }, [html("span", {}, name), input, output]);
  input.addEventListener("input", () => write(Number(input.value)));
  input.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    input.value = Math.min(high, Math.max(low, Number(input.value) + KEYS[event.key] * step));
    write(Number(input.value));
  });
  row.refresh = () => {
    if (Math.abs(Number(input.value) - read()) > step / 2) input.value = read();
    output.textContent = show();
    input.setAttribute("aria-valuetext", show());
  };
  return row;
}

function render({ model, el }) {
  const names = ["peak", "second", "ruled_out", "classes", "agreement", "tau", "rule"];
  const state = () => Object.fromEntries(names.map((name) => [name, model.get(name)]));
  const write = (changes) => {
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    model.save_changes();
    schedule();
  };
  const id = "ak" + Math.random().toString(36).slice(2), plain = (name) => (value) => write({ [name]: value });
  const logit = (name, text, hint, low, high) =>
    slider(text, hint, low, high, 0.1, () => model.get(name), plain(name), () => model.get(name).toFixed(1).replace("-", "−"));
  const place = () => CLASSES.reduce((best, k, i) => (Math.abs(Math.log(k / model.get("classes"))) < Math.abs(Math.log(CLASSES[best] / model.get("classes"))) ? i : best), 0);
  const current = { tau: 1 };
  const sliders = [
    slider("temperature τ", "Moving it sets τ by hand", -1, 2, 0.01, () => Math.log10(current.tau),
      (value) => write({ tau: 10 ** value, rule: "hand" }), () => num(current.tau)),
    logit("peak", "peak", "The teacher’s logit of its first class, in spreads of the other classes", 0, 20),
    logit("second", "second peak", "The teacher’s logit of its second class", 0, 20),
    logit("ruled_out", "ruled-out class", "The teacher’s logit of its last class", -20, 0),
    slider("agreement ρ", "Correlation of the student’s logits with the teacher’s", 0, 1, 0.01, () => model.get("agreement"),
      plain("agreement"), () => model.get("agreement").toFixed(2)),
    slider("classes K", "Number of classes", 0, CLASSES.length - 1, 1, place, (i) => write({ classes: CLASSES[i] }), () => String(model.get("classes"))),
  ];
  const radios = Object.entries(RULES).map(([key, [text, hint]]) => {
    const input = html("input", { type: "radio", name: id, value: key });
    const choose = (which) => write(which === "hand" ? { rule: which, tau: current.tau } : { rule: which });
    input.addEventListener("change", () => choose(key));
    input.addEventListener("keydown", (event) => {
      if (!/^Arrow/.test(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      const next = (Object.keys(RULES).indexOf(key) + KEYS[event.key] + 4) % 4;
      radios[next].firstChild.focus();
      choose(Object.keys(RULES)[next]);
    });
    return html("label", { title: hint }, [input, html("span", {}, text)]);
  });
  const scenes = Object.entries(SCENES).map(([name, [peak, second, ruled_out, agreement, classes]]) => {
    const button = html("button", { type: "button" }, name);
    button.addEventListener("click", () => write({ peak, second, ruled_out, agreement, classes }));
    return button;
  });
  const pictures = html("div", { class: "ak-pictures" }), numbers = html("div", { class: "ak-numbers" });
  const caption = html("p", { class: "ak-words" }), spoken = html("p", { class: "ak-spoken", "aria-live": "polite" });
  const root = html("div", { class: "ak-temperature", role: "group", "aria-label": "Temperature explorer" }, [
    html("fieldset", { class: "ak-rule" }, [html("legend", {}, "τ is set"), ...radios]),
    html("div", { class: "ak-tau" }, sliders[0]), pictures, numbers, caption, spoken,
    html("div", { class: "ak-scenes" }, [html("span", {}, "Teacher:"), ...scenes]),
    html("div", { class: "ak-sliders" }, sliders.slice(1)),
  ]);
  el.replaceChildren(root);

  // Dragging in the second picture sets τ; each redraw replaces the picture, so the place is asked for anew.
  const drag = (event) => {
    const drawing = pictures.lastChild, box = drawing.getBoundingClientRect();
    write({ tau: drawing.tauAt(((event.clientX - box.left) * drawing.viewBox.baseVal.width) / box.width), rule: "hand" });
  };
  const release = () => removeEventListener("pointermove", drag);
  pictures.addEventListener("pointerdown", (event) => {
    if (event.button || !pictures.lastChild.contains(event.target)) return;
    drag(event);
    addEventListener("pointermove", drag);
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, release, { once: true });
  });

  let waiting = 0, speaking = 0, known = 0, first = true;
  function draw() {
    waiting = 0;
    const s = state(), v = compute(s);
    current.tau = v.tau;
    sliders.forEach((row) => row.refresh());
    radios.forEach((row) => { row.firstChild.checked = row.firstChild.value === s.rule; });
    known = root.clientWidth;
    const room = known || 680, two = room >= 640, width = Math.floor(two ? (room - 24) / 2 : room);
    pictures.replaceChildren(drawBars(s, v, width), drawLoss(s, v, width, id));
    const pair = (a, b) => `${num(a)} / ${num(b)}`;
    numbers.replaceChildren(...[
      ["τ", num(v.tau)], ["max z, teacher / student", pair(v.max_teacher, v.max_student)],
      ["min z, teacher / student", pair(v.min_teacher, v.min_student)],
      ["teacher’s entropy, nats", `${num(v.entropy)} of ${num(Math.log(s.classes))}`],
      ["ρ", num(v.rho)], ["τ²·KL", num(v.loss)], ["1 − ρ", num(v.limit)],
    ].map(([name, value]) => html("div", {}, [html("span", {}, name), html("b", {}, value)])));
    caption.textContent = words(s, v);
    clearTimeout(speaking);
    if (!first) speaking = setTimeout(() => { spoken.textContent = caption.textContent; }, 600);
    first = false;
  }
  const schedule = () => { waiting ||= requestAnimationFrame(draw); };
  names.forEach((name) => model.on("change:" + name, schedule));
  const watcher = new ResizeObserver(() => { if (root.clientWidth !== known) schedule(); });
  watcher.observe(root);
  draw();
  return () => {
    release();
    watcher.disconnect();
    cancelAnimationFrame(waiting);
    clearTimeout(speaking);
    names.forEach((name) => model.off("change:" + name, schedule));
  };
}

export default { render };
