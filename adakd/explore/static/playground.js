// The playground: a teacher and two students in the plane, trained while the reader watches.
// METHODS, MENU, CLASSES, LENGTH, GALLERY and START come from adakd/explore/playground.py.

const EDGE = 1.25, GRID = 48, PACE = { 1: "slow", 3: "medium", 10: "fast" }; // training steps a frame
const MOST = RANGES.step[1];
const CALLED = Object.fromEntries(Object.entries(MENU).map(([heading, names]) => // names in the menu
  [heading, Object.fromEntries(Object.entries(names).map(([name, text]) => [name, `${name}: ${text}`]))]));
const called = (name) => Object.assign({}, ...Object.values(CALLED))[name];
const WHO = ["teacher", "a", "b"], NAME = { a: "A", b: "B" };
const SETTING = Object.keys(START).filter((name) => !["view", "probe", "step"].includes(name)); // what a lesson depends on

const settingKey = (state) => JSON.stringify(SETTING.map((name) => state[name]));
const reads = (state, who) => { // which sliders a student's method answers to
  const row = METHODS[state[who]];
  return { tau: "tau" in row.rule_options && row.divergence !== "correlation", weight: Boolean(row.divergence) };
};
const tauOf = (state, who) => state["tau_" + who] ?? METHODS[state[who]].rule_options.tau;
const heard = (state) => (state.view === "tau" ? "b" : state.view); // whose soft label is shown at the cross
const warm = (state) => ["b", "a"].find((who) => METHODS[state[who]].divergence); // whose temperature colours the plane
const weightOf = (state, who) => state["weight_" + who] ?? METHODS[state[who]].kd_weight;

export function compute(state) {
  const lesson = new Lesson(state);
  lesson.train(state.step);
  return measured(lesson, state, lesson.measure());
}

function measured(lesson, state, row) { // all that is shown; the row is the last one measured
  const { a, b, teacher } = lesson.named, n = a.length;
  let lead = 0, apart = 0;
  for (let i = 0; i < n; i += 1) { lead += b[i] - a[i]; apart += b[i] !== a[i]; }
  const probe = lesson.soft(heard(state), Float64Array.from(state.probe), 1);
  return { ...row, teacher: (100 * sum(teacher)) / n, lead: (100 * lead) / n,
    error: (100 * Math.sqrt((apart - lead ** 2 / n) / n)) / Math.sqrt(n), student: [...probe.q], told: [...probe.p], told_tau: probe.tau && probe.tau[0] };
}

// ---- words ----------------------------------------------------------------------------------------------------

const percent = (x) => x.toFixed(1) + " %";
const lead = (v) => `${v.lead < 0 ? "−" : "+"}${Math.abs(v.lead).toFixed(1)} ± ${(1.96 * v.error).toFixed(1)}`;
const both = (v, key, show) => ["a", "b"].map((who) => (v[key + who] === null ? "–" : show(v[key + who]))).join(" / ");

export function words(state, v) {
  if (!v.step) return "Two students with the same first weights, which name classes at random. Press play: both see the same batches, and each learns by its own loss.";
  const clear = Math.abs(v.lead) > 1.96 * v.error, ahead = v.lead > 0 ? "B" : "A";
  const verdict = clear ? `${ahead} is ahead by ${Math.abs(v.lead).toFixed(1)} points, more than chance would do`
    : `the two are ${Math.abs(v.lead).toFixed(1)} points apart, which may be chance`;
  const soft = ["a", "b"].filter((who) => v["tau_" + who] !== null).map((who) => `${NAME[who]} is taught at τ = ${num(v["tau_" + who])}`).join(", ");
  return `After ${v.step} steps on ${state.transfer} points A (${state.a}) names ${percent(v.accuracy_a)} of 1000 held-out points, ` +
    `B (${state.b}) ${percent(v.accuracy_b)}, and their teacher ${percent(v.teacher)}: ${verdict}. ${soft ? soft + "." : ""}`;
}

// ---- the plane ------------------------------------------------------------------------------------------------

const GRID_POINTS = Float64Array.from({ length: 2 * GRID * GRID }, (_, i) => {
  const cell = i >> 1, at = (i % 2 ? GRID - 1 - Math.floor(cell / GRID) : cell % GRID);
  return EDGE * ((2 * at + 1) / GRID - 1);
});
const RGB = CLASSES.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));

function softmaxRows(logits, rows, K, into) {
  for (let r = 0; r < rows; r += 1) {
    let top = -Infinity, total = 0;
    for (let k = r * K; k < (r + 1) * K; k += 1) top = Math.max(top, logits[k]);
    for (let k = r * K; k < (r + 1) * K; k += 1) total += into[k] = Math.exp(logits[k] - top);
    for (let k = r * K; k < (r + 1) * K; k += 1) into[k] /= total;
  }
  return into;
}

// A square of canvas, coloured by probabilities, under an SVG with the points, and the cross that the reader moves.
function plane(who) {
  const canvas = html("canvas", { width: GRID, height: GRID, "aria-hidden": "true" }), context = canvas.getContext("2d");
  const pixels = context.createImageData(GRID, GRID), over = html("div", { class: "ak-over" }), title = html("b", { class: "ak-name " + who });
  const box = html("div", { class: "ak-square", tabindex: 0, role: "application" }, [canvas, over]);
  const figure = html("div", { class: "ak-plane" }, [title, box]);
  const cross = svg("path", { class: "cross" });
  return Object.assign(figure, {
    box,
    paint(p, K) {
      const { data } = pixels;
      for (let cell = 0; cell < GRID * GRID; cell += 1) {
        let red = 0, green = 0, blue = 0;
        for (let k = 0; k < K; k += 1) {
          const part = p[cell * K + k], colour = RGB[k];
          red += part * colour[0]; green += part * colour[1]; blue += part * colour[2];
        }
        data[4 * cell] = red; data[4 * cell + 1] = green; data[4 * cell + 2] = blue; data[4 * cell + 3] = 150;
      }
      context.putImageData(pixels, 0, 0);
    },
    heat(taus) { // blue where it is lowest, orange where it is highest; returns both
      const [low, high] = [lowest(taus), highest(taus)], ends = [RGB[0], RGB[1]];
      taus.forEach((tau, cell) => {
        const part = high > low ? Math.log(tau / low) / Math.log(high / low) : 0;
        for (const c of [0, 1, 2]) pixels.data[4 * cell + c] = ends[0][c] + part * (ends[1][c] - ends[0][c]);
        pixels.data[4 * cell + 3] = 170;
      });
      context.putImageData(pixels, 0, 0);
      return [low, high];
    },
    points({ x, y }, state) { // of the transfer set, and the names of the classes
      const at = (v, sign) => 100 + (sign * 100 * v) / EDGE, K = state.classes, dots = Array.from({ length: K }, () => "");
      const r = state.transfer > 300 ? 1.1 : 2.2;
      for (let i = 0; i < state.transfer; i += 1) {
        dots[y[i]] += `M${(at(x[2 * i], 1) - r).toFixed(1)} ${at(x[2 * i + 1], -1).toFixed(1)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;
      }
      const names = Array.from({ length: K }, (_, k) => CENTRE[state.data](k, K));
      const drawing = picture(200, 200, `${state.transfer} points of ${K} classes`, [
        ...dots.map((d, k) => svg("path", { d, class: "points", fill: CLASSES[k] })),
        ...names.map(([cx, cy], k) => label(at(cx, 1), at(cy, -1) + 3.5, String(k), "class", "middle")), cross,
      ]);
      drawing.removeAttribute("width");
      drawing.removeAttribute("height");
      over.replaceChildren(drawing);
    },
    mark([px, py]) {
      const [cx, cy] = [100 + (100 * px) / EDGE, 100 - (100 * py) / EDGE];
      cross.setAttribute("d", `M${cx - 7} ${cy}h5m4 0h5M${cx} ${cy - 7}v5m0 4v5`);
    },
    say(name, sentence) {
      title.textContent = name;
      box.setAttribute("aria-label", sentence + " The arrow keys move the cross.");
      over.firstChild?.setAttribute("aria-label", sentence);
    },
    place(event) { // of a pointer, in the plane
      const { left, top, width } = box.getBoundingClientRect(), inside = (v) => Math.min(EDGE, Math.max(-EDGE, Number(v.toFixed(2))));
      return [inside(EDGE * ((2 * (event.clientX - left)) / width - 1)), inside(EDGE * (1 - (2 * (event.clientY - top)) / width))];
    },
  });
}

// ---- charts ---------------------------------------------------------------------------------------------------

const HEIGHT = 164, ROOF = 36, FLOOR = HEIGHT - 24, LEFT = 40, RIGHT = 52;
const along = (width, most) => (step) => LEFT + ((width - LEFT - RIGHT) * step) / most;
const frame = (width, title, hint) => [label(0, 13, title, "title"), hint && label(0, 27, hint, "tick"), line(LEFT, FLOOR, width - RIGHT, FLOOR, "axis")].filter(Boolean);
const steps = (width, most) => [0, most / 2, most].map((t) => label(along(width, most)(t), FLOOR + 15, t ? String(t) : "step 0", "tick", t ? "middle" : "start"));

function ends(width, lines) { // names where the lines end, apart from each other
  let lowest = Infinity;
  return lines.filter((one) => Number.isFinite(one.y)).sort((one, two) => two.y - one.y).map(({ name, y, kind }) => {
    lowest = Math.min(y, lowest - 12);
    return label(width - RIGHT + 5, lowest + 4, name, "end " + kind);
  });
}

function drawProbe(state, lesson, v, probe, width) {
  const K = state.classes, at = along(width, K), wide = at(1) - at(0), y = (p) => FLOOR - (FLOOR - ROOF - 4) * p, parts = [];
  const x = Float64Array.from(probe), who = heard(state), { p, tau } = lesson.soft(who, x, 1);
  const students = who === "teacher" ? ["a", "b"] : [who];
  const title = who === "teacher" || tau === null ? "Labels at the cross, as they are" : `Soft label at the cross, τ = ${num(tau[0])}`;
  for (const t of [0.5, 1]) parts.push(line(LEFT, y(t), width - RIGHT, y(t), "grid"), label(LEFT - 5, y(t) + 4, String(t), "tick", "end"));
  p.forEach((value, k) => {
    parts.push(rect(at(k) + 2, y(value), at(k + 1) - 2, FLOOR, "bar", { fill: CLASSES[k] }), label(at(k) + wide / 2, FLOOR + 15, String(k), "tick", "middle"));
  });
  students.forEach((one, i) => {
    const q = who === "teacher" ? softmax([...lesson.students[one].network.forward(x, 1).subarray(0, K)], 1) : lesson.soft(one, x, 1).q;
    const shift = students.length > 1 ? (i - 0.5) * wide * 0.4 : 0;
    q.forEach((value, k) => parts.push(circle(at(k) + wide / 2 + shift, y(value), 4, "q " + one)));
    parts.push(label(width - RIGHT + 5, 46 + 14 * i, `● ${NAME[one]}`, "end " + one));
  });
  const top = p.indexOf(highest(p));
  return picture(width, HEIGHT, `${title}: the teacher gives class ${top} ${num(p[top])}.`, [...frame(width, title, "bars: the teacher; class 0, 1, 2, …"), ...parts]);
}

function drawAccuracy(lesson, v, most, width) {
  const x = along(width, most), low = Math.max(0, 10 * Math.floor(v.teacher / 10 - 4)), clamp = (a) => Math.max(low, a), parts = [];
  const y = (a) => FLOOR - ((FLOOR - ROOF) * (clamp(a) - low)) / (100 - low);
  for (let t = low; t <= 100; t += (100 - low) / 2) parts.push(line(LEFT, y(t), width - RIGHT, y(t), "grid"), label(LEFT - 5, y(t) + 4, String(t), "tick", "end"));
  parts.push(line(LEFT, y(v.teacher), width - RIGHT, y(v.teacher), "line teacher"));
  for (const who of ["a", "b"]) parts.push(path(lesson.rows.map((row) => [x(row.step), y(row["accuracy_" + who])]), "line " + who));
  const names = [{ name: "teacher", y: y(v.teacher), kind: "teacher" }, ...["a", "b"].map((who) => ({ name: NAME[who], y: y(v["accuracy_" + who]), kind: who }))];
  return picture(width, HEIGHT, `Held-out accuracy against the step: A ${percent(v.accuracy_a)}, B ${percent(v.accuracy_b)}.`,
    [...frame(width, "Held-out accuracy, %"), ...steps(width, most), ...parts, ...ends(width, names)]);
}

function drawLosses(lesson, v, most, width) {
  const keys = ["distance_a", "distance_b", "kl_a", "kl_b"], all = lesson.rows.flatMap((row) => keys.map((key) => row[key])).filter((value) => value > 0);
  const bottom = Math.max(-4, Math.floor(Math.log10(lowest(all)))), roof = Math.max(bottom + 1, Math.ceil(Math.log10(highest(all)))), parts = [];
  const x = along(width, most), y = (value) => (value > 0 ? FLOOR - ((FLOOR - ROOF) * (Math.max(bottom, Math.log10(value)) - bottom)) / (roof - bottom) : NaN);
  for (let e = bottom; e <= roof; e += 1) parts.push(line(LEFT, y(10 ** e), width - RIGHT, y(10 ** e), "grid"), label(LEFT - 5, y(10 ** e) + 4, String(10 ** e), "tick", "end"));
  for (const key of keys) parts.push(path(lesson.rows.map((row) => [x(row.step), row[key] === null ? NaN : y(row[key])]), `line ${key.at(-1)}${key[0] === "d" ? " dashed" : ""}`));
  return picture(width, HEIGHT, `τ²·KL and 1 − ρ against the step: ${both(v, "kl_", num)} and ${both(v, "distance_", num)}.`,
    [...frame(width, "τ²·KL, and dashed 1 − ρ", "of standardized logits; logarithmic"), ...steps(width, most), ...parts,
      ...ends(width, ["a", "b"].map((who) => ({ name: NAME[who], y: y(v["distance_" + who]), kind: who })))]);
}

const LOW = 0.5, HIGH = 50, BINS = 48;
function drawTemperatures(lesson, v, width) {
  const x = (tau) => LEFT + ((width - LEFT - RIGHT) * Math.log(Math.min(HIGH, Math.max(LOW, tau)) / LOW)) / Math.log(HIGH / LOW);
  const middle = (ROOF + FLOOR) / 2, parts = [line(LEFT, middle, width - RIGHT, middle, "axis")], said = [];
  for (const t of [0.5, 1, 2, 5, 10, 20, 50]) parts.push(line(x(t), ROOF, x(t), FLOOR, "grid"), label(x(t), FLOOR + 15, String(t), "tick", "middle"));
  for (const [who, sign] of [["a", -1], ["b", 1]]) {
    const taus = lesson.watchedTemperatures(who)?.map(([tau]) => tau), counts = new Array(BINS).fill(0);
    parts.push(label(width - RIGHT + 5, middle + sign * 22 + 4, NAME[who], "end " + who));
    if (!taus) { parts.push(label((LEFT + width - RIGHT) / 2, middle + sign * 22 + 4, "no teacher, no temperature", "tick", "middle")); continue; }
    for (const tau of taus) counts[Math.min(BINS - 1, Math.max(0, Math.floor((BINS * Math.log(tau / LOW)) / Math.log(HIGH / LOW))))] += 1;
    const most = highest(counts), edge = (bin) => LEFT + ((width - LEFT - RIGHT) * bin) / BINS, reach = middle - ROOF - 4;
    counts.forEach((count, bin) => {
      const h = (reach * count) / most;
      if (count) parts.push(rect(edge(bin), sign < 0 ? middle - h : middle, edge(bin + 1) + 0.5, sign < 0 ? middle : middle + h, "fill " + who));
    });
    said.push(`${NAME[who]} from ${num(lowest(taus))} to ${num(highest(taus))}`);
  }
  return picture(width, HEIGHT, `Temperatures of the points: ${said.join(", ") || "none"}.`, [...frame(width, "Temperatures, A above, B below"), ...parts]);
}

// ---- address --------------------------------------------------------------------------------------------------

const MARK = "#playground?";
RANGES.a = RANGES.b = Object.keys(METHODS);

export function toAddress(state) { // what is not as at the start
  const changed = Object.keys(START).filter((name) => name !== "step" && JSON.stringify(state[name]) !== JSON.stringify(START[name]));
  return MARK + new URLSearchParams(changed.map((name) => [name, String(state[name])]));
}

export function fromAddress(hash) { // a whole state; what cannot be is left at the start
  if (!hash.startsWith(MARK)) return null;
  const state = { ...START };
  for (const [name, text] of new URLSearchParams(hash.slice(MARK.length))) {
    const range = entryOf(RANGES, name), value = name === "probe" ? text.split(",").map(Number) : range && typeof range[0] === "number" ? Number(text) : text;
    const fits = (x) => Number.isFinite(x) && x >= range[0] && x <= range[1];
    if (!range || name === "step") continue;
    if (name === "probe" ? value.length === 2 && value.every(fits) : typeof value === "number" ? fits(value) && (!WHOLE.includes(name) || Number.isInteger(value)) : range.includes(value)) state[name] = value;
  }
  return state;
}

// ---- controls -------------------------------------------------------------------------------------------------

const hiding = (row, when) => { // a control that is not there where it would do nothing
  const refresh = row.refresh;
  row.refresh = () => { row.hidden = !when(); if (!row.hidden) refresh(); };
  return row;
};
const logarithm = (name, hint, low, high, read, write) => slider(name, hint, Math.log10(low), Math.log10(high), 0.01,
  () => Math.log10(read()), (x) => write(Math.min(high, Math.max(low, Number((10 ** x).toPrecision(3))))), () => num(read()));

function studentControls(who, state, write) {
  const one = (name) => (value) => write({ [`${name}_${who}`]: value });
  const choose = (method) => write({ [who]: method, ["tau_" + who]: null, ["weight_" + who]: null, ["standardize_" + who]: "published" });
  const formula = Object.assign(html("p", { class: "ak-formula" }), { refresh() { formula.textContent = METHODS[state()[who]].formula; } });
  const published = () => METHODS[state()[who]].standardize || "off";
  const standardized = menu("standardize", { "": { published: "as published", off: "off", population: "population σ", sample: "sample σ" } },
    () => state()["standardize_" + who], one("standardize")), refresh = standardized.refresh;
  standardized.refresh = () => { refresh(); standardized.querySelector("option").textContent = `as published: ${published()}`; };
  const controls = [
    menu(`student ${NAME[who]}`, CALLED, () => state()[who], choose), formula,
    hiding(logarithm("temperature τ", "How soft the teacher’s word is", 0.5, 50, () => tauOf(state(), who), one("tau")), () => reads(state(), who).tau),
    hiding(logarithm("weight λ", "Of the teacher’s word in the loss", 0.01, 100, () => weightOf(state(), who), one("weight")), () => reads(state(), who).weight),
    hiding(standardized, () => reads(state(), who).weight),
  ];
  return Object.assign(html("div", { class: "ak-student " + who }, controls), { refresh() { controls.forEach((control) => control.refresh()); } });
}

function sharedControls(state, write) {
  const one = (name) => (value) => write({ [name]: value }), read = (name) => () => state()[name];
  const whole = (name, text, hint, low, high) => slider(text, hint, low, high, 1, read(name), one(name), () => String(state()[name]));
  return [
    whole("classes", "classes K", "Number of classes", 3, 10),
    slider("noise", "How far points lie from their place", 0.02, 0.4, 0.01, read("noise"), (x) => write({ noise: Number(x.toFixed(2)) }), () => state().noise.toFixed(2)),
    slider("transfer set", "Points that the students see; the teacher saw 1000", 1, 3, 0.05, () => Math.log10(state().transfer), (x) => write({ transfer: Math.round(10 ** x) }), () => String(state().transfer)),
    whole("width", "student’s width", "Units in each of the students’ two hidden layers; the teacher has 24", 2, 32),
    logarithm("learning rate", "Of the students", 0.001, 0.5, read("lr"), one("lr")),
    whole("seed", "seed", "Of points, first weights and batches", 0, 19),
  ];
}

// ---- stage ----------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const { state, write } = traits(model, Object.keys(START));
  let lesson = null, key = "", goal = 0, playing = false, pace = 3, hover = null, frameId = 0, speaking = 0, quiet = true, waitingSince = 0, drawn = {};
  const page = el.closest(".live-figure"); // on a page without a kernel: its address keeps the setting
  const tell = () => {
    if (!page || document.querySelector(".ak-playground") !== root) return;
    try { history.replaceState(null, "", toAddress(state())); } catch { /* a page that may not say where it is */ }
  };
  const change = (changes) => { write(changes); tell(); };

  const button = (text, hint, act) => {
    const one = html("button", { type: "button", title: hint }, text);
    one.addEventListener("click", act);
    return one;
  };
  const play = button("▶ play", "Train, and watch", () => (playing ? pause() : start()));
  play.classList.add("ak-play");
  const once = button("one step", "Train on one batch", () => { pause(); setGoal(Math.min(MOST, goal + 1)); });
  const again = button("restart", "Back to the first weights", () => { pause(); setGoal(0); });
  const speed = menu("pace", { "": PACE }, () => String(pace), (value) => { pace = Number(value); });
  const timeline = slider("step", "How long both have trained", 0, LENGTH, 1, () => goal, (step) => { pause(); setGoal(step); }, () => `${lesson ? lesson.steps : 0}`);
  const stretch = timeline.refresh;
  timeline.refresh = () => { timeline.querySelector("input").max = Math.max(LENGTH, LENGTH * Math.ceil(goal / LENGTH)); stretch(); };
  const asked = html("div", { class: "ak-asked" }), question = html("p", {}), answer = html("details", {}, [html("summary", {}, "What is there to be found"), html("p", {})]);
  asked.append(question, answer);
  asked.refresh = () => {
    const s = settingKey(state()), found = GALLERY.find((one) => settingKey({ ...START, seed: state().seed, ...one.state }) === s);
    const told = found ? found.question : "A setting of your own. Its address can be shared.";
    if (question.textContent !== told) { question.textContent = told; answer.open = false; answer.lastChild.textContent = found ? found.answer : ""; }
    answer.hidden = !found;
    gallery.querySelectorAll("button").forEach((one) => one.setAttribute("aria-pressed", String(one.textContent === found?.name)));
  };
  const gallery = scenes("Questions:", Object.fromEntries(GALLERY.map((one) => [one.name, () => ({ ...START, step: 0, ...one.state })])), (changes) => { pause(); change(changes); });
  const views = choice("Teacher shown", { teacher: ["as it predicts", ""], a: ["as A is told", ""], b: ["as B is told", ""], tau: ["how soft, where", "B’s temperature"] },
    () => model.get("view"), (view) => change({ view }));
  const worlds = choice("Classes", { ring: ["ring", ""], pair: ["confusable pair", ""], sunflower: ["sunflower", ""], spirals: ["spirals", ""] },
    () => model.get("data"), (data) => change({ data }));

  const planes = Object.fromEntries(WHO.map((who) => [who, plane(who)])), charts = html("div", { class: "ak-charts" });
  const pictures = html("div", { class: "ak-pictures" }, [html("div", { class: "ak-planes" }, Object.values(planes)), charts]);
  const numbers = html("div", { class: "ak-numbers" }), caption = html("p", { class: "ak-words" }), spoken = html("p", { class: "ak-spoken", "aria-live": "polite" });
  const students = ["a", "b"].map((who) => studentControls(who, state, change)), shared = sharedControls(state, change);
  const controls = [timeline, gallery, asked, speed, views, worlds, ...students, ...shared];
  const root = html("div", { class: "ak ak-playground", role: "group", "aria-label": "Playground of distillation" }, [
    gallery, asked, html("div", { class: "ak-bar" }, [play, once, again, speed, timeline]), views, pictures, numbers, caption, spoken,
    html("div", { class: "ak-students" }, students), worlds, html("div", { class: "ak-sliders" }, shared),
  ]);
  root.frames = 0; // drawn while playing
  el.replaceChildren(root);

  for (const [who, one] of Object.entries(planes)) {
    one.box.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" && !event.buttons) { hover = one.place(event); schedule(); } else if (event.buttons) change({ probe: one.place(event) });
    });
    one.box.addEventListener("pointerleave", () => { hover = null; schedule(); });
    one.box.addEventListener("pointerdown", (event) => { hover = null; change({ probe: one.place(event) }); });
    one.box.addEventListener("keydown", (event) => {
      if (!/^Arrow/.test(event.key) || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation();
      const axis = /Up|Down/.test(event.key) ? 1 : 0, probe = [...model.get("probe")];
      probe[axis] = Math.min(EDGE, Math.max(-EDGE, Number((probe[axis] + 0.05 * KEYS[event.key]).toFixed(2))));
      change({ probe });
    });
  }

  // What the page tells a kernel: how far it is, what it measured, what the networks are.
  const report = () => write({ step: lesson.steps, history: [...lesson.rows],
    weights: { teacher: [...lesson.teacher.weights], a: [...lesson.students.a.network.weights], b: [...lesson.students.b.network.weights] } });
  const start = () => {
    limit = Math.min(MOST, LENGTH * Math.floor(goal / LENGTH + 1));
    playing = true;
    schedule();
  };
  const pause = () => {
    if (playing && lesson) report();
    playing = false;
    schedule();
  };
  let limit = LENGTH, turn = false;
  const setGoal = (step) => {
    goal = step;
    write({ step });
    schedule();
  };

  function prepare() { // a lesson for the setting as it is, not yet trained
    const s = state();
    lesson = new Lesson(s);
    key = settingKey(s);
    drawn = {};
    WHO.forEach((who) => planes[who].points(lesson, s));
    waitingSince = performance.now();
  }

  function tick() {
    frameId = 0;
    const s = state();
    if (settingKey(s) !== key || lesson.steps > goal) prepare();
    if (playing) goal = Math.min(limit, goal + pace);
    const now = performance.now(), arrived = lesson.train(goal, now + 14);
    root.setAttribute("aria-busy", String(!arrived));
    if (arrived || now - waitingSince > 400) { draw(s, arrived); if (playing) root.frames += 1; }
    if (arrived && playing && goal >= limit) pause();
    if (arrived && playing && goal % 100 < pace) report();
    if (!arrived || playing) schedule();
  }
  const schedule = () => { frameId ||= requestAnimationFrame(tick); };

  // On the way to a far step it shows how far it is, and does not say so.
  function draw(s, arrived) {
    const K = s.classes, width = root.clientWidth || 680, two = width >= 640, wide = Math.floor(two ? (width - 24) / 2 : width), probe = hover ?? s.probe;
    const coarse = Math.floor(lesson.steps / 10), settled = [coarse, key, s.view, width, playing].join(), moved = [lesson.steps, probe, s.view, width].join();
    const rows = GRID * GRID, into = (drawn.into ??= new Float64Array(rows * 10));
    turn = !turn; // while they train the students are painted in turn, and a map that moves now and then
    for (const who of playing ? [turn ? "a" : "b"] : ["a", "b"]) planes[who].paint(softmaxRows(lesson.students[who].network.forward(GRID_POINTS, rows), rows, K, into), K);
    const who = s.view === "tau" ? warm(s) : s.view, moves = /maxlogit|dtkd|ctkd/.test(METHODS[s[who]]?.rule ?? ""), told = [s.view, moves && (playing ? coarse >> 1 : lesson.steps)].join();
    if (drawn.told !== told) {
      const { p, tau } = lesson.soft(who ?? "teacher", GRID_POINTS, rows);
      if (s.view === "tau" && tau) drawn.title = `${NAME[who]}’s τ, ${[...new Set(planes.teacher.heat(tau).map(num))].join(" to ")}`;
      else {
        planes.teacher.paint(p, K);
        drawn.title = tau ? `Teacher, as ${NAME[who]} is told` : "Teacher";
      }
      drawn.told = told;
    }
    WHO.forEach((who) => planes[who].mark(probe));
    if (drawn.settled !== settled || !playing) {
      const v = measured(lesson, s, playing ? lesson.rows.at(-1) : lesson.measure()), most = Math.max(LENGTH, LENGTH * Math.ceil(lesson.steps / LENGTH));
      drawn.v = v;
      charts.replaceChildren(drawProbe(s, lesson, v, probe, wide), drawAccuracy(lesson, v, most, wide), drawLosses(lesson, v, most, wide), drawTemperatures(lesson, v, wide));
      numbers.replaceChildren(...[
        ["teacher", percent(v.teacher)], ["A, held out", percent(v.accuracy_a)], ["B, held out", percent(v.accuracy_b)], ["B − A, points", lead(v)],
        ["τ, A / B", both(v, "tau_", num)], ["ρ, A / B", both(v, "distance_", (d) => (1 - d).toFixed(3))],
      ].map(([name, value]) => html("div", {}, [html("span", {}, name), html("b", {}, value)])));
      caption.textContent = words(s, v);
      planes.teacher.say(drawn.title, `The teacher’s regions: ${percent(v.teacher)} of held-out points.`);
      for (const who of ["a", "b"]) planes[who].say(`${NAME[who]} · ${called(s[who])}`, `Regions of student ${NAME[who]}, ${s[who]}: ${percent(v["accuracy_" + who])} of held-out points.`);
      clearTimeout(speaking);
      if (!quiet && !playing && arrived) speaking = setTimeout(() => { spoken.textContent = caption.textContent; }, 600);
      quiet &&= !arrived;
    } else if (drawn.moved !== moved) {
      charts.replaceChild(drawProbe(s, lesson, drawn.v, probe, wide), charts.firstChild);
    }
    Object.assign(drawn, { settled, moved, width });
    play.textContent = playing ? "❚❚ pause" : lesson.steps && lesson.steps % LENGTH === 0 ? "▶ play on" : "▶ play";
    controls.forEach((control) => control.refresh());
  }

  const onStep = () => { if (model.get("step") !== lesson?.steps) { goal = model.get("step"); schedule(); } };
  const watched = Object.keys(START).filter((name) => name !== "step"), onHash = () => { const found = fromAddress(location.hash); if (found) write(found); };
  if (page && document.querySelector(".ak-playground") === root) { onHash(); addEventListener("hashchange", onHash); }
  goal = model.get("step");
  watched.forEach((name) => model.on("change:" + name, schedule));
  model.on("change:step", onStep);
  const watcher = new ResizeObserver(() => { if (root.clientWidth !== drawn.width) schedule(); });
  watcher.observe(root);
  tick();
  return () => {
    playing = false;
    cancelAnimationFrame(frameId);
    frameId = -1; // nothing is scheduled any more
    clearTimeout(speaking);
    watcher.disconnect();
    removeEventListener("hashchange", onHash);
    watched.forEach((name) => model.off("change:" + name, schedule));
    model.off("change:step", onStep);
  };
}

export default { render };
