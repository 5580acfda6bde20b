// Chapters 9 and 10: runs as they train. The page draws what the state holds, while a cell runs and afterwards.

const READ = ["loss", "train", "test", "rho", "tau"];

export function compute(state) {
  const last = highest([0, ...state.runs.flatMap((run) => run.epoch)]);
  const epoch = state.epoch ? Math.min(state.epoch, last) : last, shown = Object.create(null); // a run may have any name
  for (const run of drawn(state)) {
    const known = run.epoch.flatMap((e, i) => (e <= epoch ? [i] : [])), now = known.at(-1);
    if (now === undefined) continue;
    const measured = known.filter((i) => run.test[i] !== null).at(-1);
    shown[run.name] = READ.map((key) => (key === "test" ? run.test[measured] ?? null : run[key][now]));
  }
  return { epoch, last, total: highest([1, last, ...state.runs.map((run) => run.epochs)]), shown };
}

const drawn = (state) => state.runs.filter((run) => run.epoch.length && !state.hidden.includes(run.name));
const group = (name) => name.split(",")[0];
const look = (state, name) => { // runs of one group share colour and dash
  const groups = [...new Set(state.runs.map((run) => group(run.name)))];
  return "g" + Math.min(4, groups.indexOf(group(name)));
};

// ---- words ----------------------------------------------------------------------------------------------------

const PARTS = { loss: ["total", "The whole loss", "Loss"], kd: ["distillation", "What the teacher says", "Distillation loss"],
  ce: ["labels", "What the labels say", "Cross entropy"] };
const percent = (x) => (x === null ? "not yet measured" : x.toFixed(1) + " %");

function readings(shown) { // of each group its mean: one entry per colour
  const rows = Object.entries(shown), groups = [...new Set(rows.map(([name]) => group(name)))];
  return groups.map((one) => {
    const own = rows.filter(([name]) => group(name) === one).map(([, row]) => row);
    const [loss, , test, rho, tau] = READ.map((_, at) => own.map((row) => row[at])).map((all) => (all.includes(null) ? null : mean(all)));
    const parts = [`test ${percent(test)}`, `loss ${num(loss)}`, rho !== null && `ρ ${num(rho)}`, tau !== null && `τ ${num(tau)}`];
    return [own.length > 1 ? `${one}, mean of ${own.length}` : rows.find(([name]) => group(name) === one)[0], parts.filter(Boolean).join(" · ")];
  });
}

const best = (shown, at) => Object.entries(shown).filter(([, row]) => row[at] !== null).sort((a, b) => b[1][at] - a[1][at])[0];

export function words(state, v) {
  const count = Object.keys(v.shown).length;
  if (!count) {
    return state.runs.some((run) => run.epoch.length) ? "No run is shown: choose one above the curves."
      : "No run yet: as runs train, each draws a point an epoch in the four panels.";
  }
  const top = best(v.shown, 2), near = best(v.shown, 3), of = count > 1 ? `Of ${count} runs, the highest test accuracy is that of` : "Test accuracy of";
  return `Epoch ${v.epoch} of ${v.total}. ` +
    (top ? `${of} ${top[0]}: ${percent(top[1][2])}. ` : "No test accuracy has been measured so far. ") +
    (near ? `${count > 1 ? "Closest to its teacher is" : "Correlation with the teacher of"} ${near[0]}, ρ = ${num(near[1][3])}.` : "");
}

// ---- drawing --------------------------------------------------------------------------------------------------

const LEFT = 40, RIGHT = 8, ROOF = 34;

function linear(low, high) { // ticks and their place between 0 and 1
  const steps = ticks(high - low), step = steps[0] || 1, first = Math.ceil(low / step - 1e-9);
  const marks = [];
  for (let i = first; i * step <= high + 1e-9; i += 1) marks.push(i * step);
  return { marks, at: (y) => (y - low) / (high - low) };
}

function logarithmic(low, high) {
  const a = Math.log10(low), b = Math.max(Math.log10(high), a + 0.05), marks = [];
  const each = b - a > 2.2 ? [1] : b - a > 0.9 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
  for (let k = Math.floor(a); k <= b; k += 1) marks.push(...each.map((m) => m * 10 ** k).filter((t) => t >= low * 0.999 && t <= high * 1.001));
  return { marks, at: (y) => (Math.log10(y) - a) / (b - a) };
}

// One panel: lines of { name, points: [[epoch, y]], thin, dots }, all runs on one scale.
function panel(state, v, size, title, lines, scaleOf, empty) {
  const { width, height } = size, floor = height - 24, plot = width - LEFT - RIGHT, parts = [];
  const ys = lines.flatMap((one) => one.points.map(([, y]) => y));
  const x = (e) => LEFT + (plot * (e - 1)) / Math.max(1, v.total - 1);
  parts.push(label(0, 14, title, "title"), line(LEFT, floor, width - RIGHT, floor, "axis"));
  const steps = ticks(v.total);
  for (const e of new Set([1, ...steps.filter((t) => Number.isInteger(t) && t > 1)])) {
    parts.push(line(x(e), floor, x(e), floor + 4, "axis"), label(x(e), floor + 17, String(e), "tick", "middle"));
  }
  if (ys.length) {
    const scale = scaleOf(lowest(ys), highest(ys)), y = (value) => floor - 4 - (floor - 4 - ROOF) * scale.at(value);
    for (const t of scale.marks) parts.push(line(LEFT, y(t), width - RIGHT, y(t), "grid"), label(LEFT - 6, y(t) + 4, tickText(t), "tick", "end"));
    if (v.epoch) parts.push(line(x(v.epoch), ROOF - 6, x(v.epoch), floor, "now"));
    for (const { name, points, thin, dots } of lines) {
      const kind = look(state, name) + (thin ? " thin" : "");
      parts.push(path(points.map(([e, value]) => [x(e), y(value)]), "run " + kind));
      if (dots) parts.push(...points.map(([e, value]) => circle(x(e), y(value), 2.4, "point " + kind)));
      const here = points.filter(([e]) => e <= v.epoch).at(-1);
      if (here && !thin) parts.push(circle(x(here[0]), y(here[1]), 4.2, "here " + kind));
    }
  } else parts.push(label(LEFT + plot / 2, (ROOF + floor) / 2, empty, "tick", "middle"));
  const said = lines.filter((one) => !one.thin).flatMap(({ name, points }) => {
    const here = points.filter(([e]) => e <= v.epoch).at(-1);
    return here ? [`${name} ${num(here[1])}`] : [];
  });
  const drawing = picture(width, height, `${title}, against the epoch. ${said.length ? `At epoch ${v.epoch}: ${said.join(", ")}.` : "Nothing yet."}`, parts);
  drawing.classList.add("ak-drags");
  drawing.epochAt = (px) => Math.min(v.last, Math.max(1, Math.round(1 + ((px - LEFT) / plot) * Math.max(1, v.total - 1))));
  return drawing;
}

function panels(state, v, width, two) {
  const size = { width, height: two ? 210 : 180 }, runs = drawn(state);
  const points = (run, key) => run.epoch.flatMap((e, i) => (run[key][i] === null ? [] : [[e, run[key][i]]]));
  const lines = (key) => runs.map((run) => ({ name: run.name, points: points(run, key) }));
  const measured = runs.map((run) => ({ name: run.name, points: points(run, "test"), dots: points(run, "test").length <= 30 }));
  const tens = (low, high) => linear(10 * Math.floor(low / 10), 10 * Math.ceil(high / 10));
  const alone = runs.length && runs.every((run) => run.tau.every((tau) => tau === null)); // no teacher, half the panels
  const positive = lines(state.part).map((one) => ({ ...one, points: one.points.filter(([, y]) => y > 0) }));
  const one = (title, drawn, scale, empty = "no run yet") => panel(state, v, size, title, drawn, scale, empty);
  return [
    one(`${PARTS[state.part][2]}, logarithmic`, positive, logarithmic, alone ? "no teacher, no such loss" : undefined),
    one("Accuracy, %: test, and training (thin)", [...lines("train").map((run) => ({ ...run, thin: true })), ...measured], tens),
    ...(alone ? [] : [
      one("Correlation of the logits, ρ", lines("rho"), (low) => linear(Math.min(low, 0.9), 1)),
      one("Temperature τ", lines("tau"), (_, high) => linear(0, 1.1 * high)),
    ]),
  ];
}

// ---- controls -------------------------------------------------------------------------------------------------

function epochSlider(model, write, current) {
  const row = slider("epoch", "Which epoch is read out", 1, Infinity, 1, () => current.epoch || 1,
    (e) => write({ epoch: e >= current.last ? 0 : e }), () => (current.last ? `${current.epoch}/${current.total}` : "–"));
  const input = row.querySelector("input"), refresh = row.refresh;
  row.refresh = () => { // its end moves while runs train
    input.max = Math.max(1, current.last);
    input.disabled = current.last < 2;
    refresh();
  };
  return row;
}

function toggles(model, write, state) { // one box a run, and the legend
  const row = html("fieldset", { class: "ak-runs" }, html("legend", {}, "runs"));
  let names = [];
  const build = () => row.replaceChildren(row.firstChild, ...names.map((name) => {
    const input = html("input", { type: "checkbox", value: name });
    input.addEventListener("change", () => {
      const hidden = model.get("hidden").filter((other) => other !== name);
      write({ hidden: input.checked ? hidden : [...hidden, name] });
    });
    input.addEventListener("keydown", (event) => { if (event.key !== "Tab") event.stopPropagation(); });
    const kind = look(state(), name), sample = svg("svg", { width: 24, height: 10, "aria-hidden": "true" }, line(1, 5, 23, 5, "run " + kind));
    return html("label", { title: "Show this run or hide it" }, [input, sample, html("span", {}, name)]);
  }));
  row.refresh = () => {
    const now = model.get("runs").map((run) => run.name);
    if (now.join("\n") !== names.join("\n")) { names = now; build(); }
    row.hidden = !names.length;
    row.querySelectorAll("input").forEach((input) => { input.checked = !model.get("hidden").includes(input.value); });
  };
  return row;
}

// ---- stage ----------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const names = ["runs", "epoch", "part", "hidden"], { state, write } = traits(model, names);
  const current = { epoch: 0, last: 0, total: 0 }; // of the last redraw
  let before = null; // the epoch to return to when the mouse leaves
  const stop = stage({
    model, el, kind: "progress", title: "Training progress", names,
    above: [
      toggles(model, write, state), choice("loss drawn", PARTS, () => model.get("part"), (part) => write({ part })),
      epochSlider(model, write, current),
    ],
    below: [],
    paint(width, two) {
      const s = state(), v = compute(s);
      Object.assign(current, { epoch: v.epoch, last: v.last, total: v.total });
      return {
        pictures: panels(s, v, width, two),
        numbers: readings(v.shown),
        words: words(s, v),
      };
    },
    dragged(index, x) {
      const epoch = el.querySelectorAll("svg.ak-drags")[index].epochAt(x);
      before = epoch >= current.last ? 0 : epoch;
      write({ epoch: before });
    },
  });
  // The mouse reads out an epoch by passing over it. That stays in the page: a kernel that trains is not asked to listen.
  const leave = () => {
    if (before !== null) model.set("epoch", before);
    before = null;
  };
  const hover = (event) => {
    if (event.pointerType === "touch" || event.buttons) return;
    const drawing = event.target.closest("svg.ak-drags");
    if (!drawing || !current.last) { leave(); return; }
    before ??= model.get("epoch");
    const box = drawing.getBoundingClientRect();
    model.set("epoch", drawing.epochAt(((event.clientX - box.left) * drawing.viewBox.baseVal.width) / box.width));
  };
  el.addEventListener("pointermove", hover);
  el.addEventListener("pointerleave", leave);
  return () => {
    el.removeEventListener("pointermove", hover);
    el.removeEventListener("pointerleave", leave);
    stop();
  };
}

export default { render };
