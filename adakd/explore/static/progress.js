// Chapters 9 and 10: runs as they train. The page draws what the state holds, while a cell runs and afterwards.

import { choice, slider, toggle, traits } from "./controls.js";
import {
  circle,
  draggable,
  gridLines,
  html,
  label,
  line,
  path,
  picture,
  svg,
  ticks,
  ticksBelow,
} from "./drawing.js";
import { clamp, highest, lowest, mean } from "./math.js";
import { stage } from "./stage.js";
import { num } from "./words.js";

const READ = ["loss", "train", "test", "rho", "tau"]; // what `shown` has of each run, in this order

const isDrawn = (state, run) => run.epoch.length && !state.hidden.includes(run.name);
const drawnRuns = (state) => state.runs.filter((run) => isDrawn(state, run));

export function compute(state) {
  const last = highest([0, ...state.runs.flatMap((run) => run.epoch)]);
  const epoch = state.epoch ? Math.min(state.epoch, last) : last;
  const shown = Object.create(null); // a run may have any name
  for (const run of drawnRuns(state)) {
    const known = run.epoch.flatMap((e, i) => (e <= epoch ? [i] : []));
    const now = known.at(-1);
    if (now !== undefined) {
      const measured = known.filter((i) => run.test[i] !== null).at(-1);
      const read = (key) => (key === "test" ? (run.test[measured] ?? null) : run[key][now]);
      shown[run.name] = READ.map(read);
    }
  }
  return { epoch, last, total: highest([1, last, ...state.runs.map((run) => run.epochs)]), shown };
}

// Runs of one group share color and dash.
const groupOf = (name) => name.split(",")[0];
function lookOf(state, name) {
  const groups = [...new Set(state.runs.map((run) => groupOf(run.name)))];
  return `g${Math.min(4, groups.indexOf(groupOf(name)))}`;
}

// ---- words ----

const PARTS = {
  loss: ["total", "The whole loss", "Loss"],
  kd: ["distillation", "The teacher’s part", "Distillation loss"],
  ce: ["labels", "The labels’ part", "Cross entropy"],
};
const percent = (x) => (x === null ? "not yet measured" : `${x.toFixed(1)} %`);

// Of each group its mean: one entry a color.
function readings(shown) {
  const rows = Object.entries(shown);
  const groups = [...new Set(rows.map(([name]) => groupOf(name)))];
  return groups.map((group) => {
    const own = rows.filter(([name]) => groupOf(name) === group);
    const means = READ.map((_, i) => {
      const values = own.map(([, row]) => row[i]);
      return values.includes(null) ? null : mean(values);
    });
    const [loss, , test, rho, tau] = means;
    const parts = [`test ${percent(test)}`, `loss ${num(loss)}`];
    if (rho !== null) parts.push(`ρ ${num(rho)}`);
    if (tau !== null) parts.push(`τ ${num(tau)}`);
    const name = own.length > 1 ? `${group}, mean of ${own.length}` : own[0][0];
    return [name, parts.join(" · ")];
  });
}

// The run with the highest value of a kind: [name, value].
function best(shown, kind) {
  const i = READ.indexOf(kind);
  const rows = Object.entries(shown).filter(([, row]) => row[i] !== null);
  const first = rows.sort(([, a], [, b]) => b[i] - a[i])[0];
  return first && [first[0], first[1][i]];
}

export function words(state, v) {
  const count = Object.keys(v.shown).length;
  if (!count) {
    return state.runs.some((run) => run.epoch.length)
      ? "No run is shown: choose one above the curves."
      : "No run yet: as runs train, each draws a point an epoch in the four panels.";
  }
  const several = count > 1;
  const top = best(v.shown, "test");
  const near = best(v.shown, "rho");
  const ofTop = several
    ? `Of ${count} runs, the highest test accuracy is that of`
    : "Test accuracy of";
  const ofNear = several ? "Closest to its teacher is" : "Correlation with the teacher of";
  return (
    `Epoch ${v.epoch} of ${v.total}. ` +
    (top
      ? `${ofTop} ${top[0]}: ${percent(top[1])}. `
      : "No test accuracy has been measured so far. ") +
    (near ? `${ofNear} ${near[0]}, ρ = ${num(near[1])}.` : "")
  );
}

// ---- drawing ----

const LEFT = 40;
const RIGHT = 8;
const ROOF = 34;

// A scale is { marks, at }: values to mark, and a value's place between 0 and 1.
function linear(low, high) {
  const step = ticks(high - low)[0] ?? 1;
  const marks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9; i += 1) marks.push(i * step);
  return { marks, at: (value) => (value - low) / (high - low) };
}

function logarithmic(low, high) {
  const from = Math.log10(low);
  const to = Math.max(Math.log10(high), from + 0.05);
  const decades = to - from;
  const each = decades > 2.2 ? [1] : decades > 0.9 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
  const marks = [];
  for (let power = Math.floor(from); power <= to; power += 1) {
    marks.push(...each.map((m) => m * 10 ** power));
  }
  return {
    marks: marks.filter((mark) => mark >= low * 0.999 && mark <= high * 1.001),
    at: (value) => (Math.log10(value) - from) / decades,
  };
}

const upTo = (points, epoch) => points.filter(([e]) => e <= epoch).at(-1);

function drawRun(state, v, { name, points, thin, dots }, x, y) {
  const kind = lookOf(state, name) + (thin ? " thin" : "");
  const places = points.map(([e, value]) => [x(e), y(value)]);
  const here = thin ? undefined : upTo(points, v.epoch);
  return [
    path(places, `run ${kind}`),
    ...(dots ? places.map(([cx, cy]) => circle(cx, cy, 2.4, `point ${kind}`)) : []),
    here && circle(x(here[0]), y(here[1]), 4.2, `here ${kind}`),
  ];
}

// One panel: lines of { name, points: [[epoch, value]], thin, dots }, all runs on one scale.
function drawPanel(state, v, { width, height }, { title, lines, scaleOf, empty }) {
  const floor = height - 24;
  const right = width - RIGHT;
  const plot = right - LEFT;
  const epochs = Math.max(1, v.total - 1);
  const values = lines.flatMap(({ points }) => points.map(([, value]) => value));
  const x = (epoch) => LEFT + (plot * (epoch - 1)) / epochs;
  const marked = new Set([1, ...ticks(v.total).filter((t) => Number.isInteger(t) && t > 1)]);
  const parts = [
    label(0, 14, title, "title"),
    line(LEFT, floor, right, floor, "axis"),
    ...ticksBelow([...marked], x, floor),
  ];
  if (values.length) {
    const scale = scaleOf(lowest(values), highest(values));
    const y = (value) => floor - 4 - (floor - 4 - ROOF) * scale.at(value);
    parts.push(...gridLines(scale.marks, y, LEFT, right));
    if (v.epoch) parts.push(line(x(v.epoch), ROOF - 6, x(v.epoch), floor, "now"));
    for (const run of lines) parts.push(...drawRun(state, v, run, x, y));
  } else {
    parts.push(label(LEFT + plot / 2, (ROOF + floor) / 2, empty, "tick", "middle"));
  }
  const read = lines.flatMap(({ name, points, thin }) => {
    const here = thin ? undefined : upTo(points, v.epoch);
    return here ? [`${name} ${num(here[1])}`] : [];
  });
  const now = read.length ? `At epoch ${v.epoch}: ${read.join(", ")}.` : "Nothing yet.";
  return draggable(picture(width, height, `${title}, against the epoch. ${now}`, parts), {
    epochAt: (px) => clamp(1, Math.round(1 + ((px - LEFT) / plot) * epochs), Math.max(1, v.last)),
  });
}

function drawPanels(state, v, width, two) {
  const size = { width, height: two ? 210 : 180 };
  const runs = drawnRuns(state);
  const points = (run, key) =>
    run.epoch.flatMap((e, i) => (run[key][i] === null ? [] : [[e, run[key][i]]]));
  const lines = (key) => runs.map((run) => ({ name: run.name, points: points(run, key) }));
  const positive = lines(state.part).map((one) => ({
    ...one,
    points: one.points.filter(([, value]) => value > 0),
  }));
  const thin = lines("train").map((one) => ({ ...one, thin: true }));
  const dotted = lines("test").map((one) => ({ ...one, dots: one.points.length <= 30 }));
  // No teacher, half the panels.
  const alone = runs.length > 0 && runs.every((run) => run.tau.every((tau) => tau === null));
  const panels = [
    {
      title: `${PARTS[state.part][2]}, logarithmic`,
      lines: positive,
      scaleOf: logarithmic,
      empty: alone ? "no teacher, no such loss" : undefined,
    },
    {
      title: "Accuracy, %: test, and training (thin)",
      lines: [...thin, ...dotted],
      scaleOf: (low, high) => linear(10 * Math.floor(low / 10), 10 * Math.ceil(high / 10)),
    },
  ];
  if (!alone) {
    panels.push(
      {
        title: "Correlation of the logits, ρ",
        lines: lines("rho"),
        scaleOf: (low) => linear(Math.min(low, 0.9), 1),
      },
      {
        title: "Temperature τ",
        lines: lines("tau"),
        scaleOf: (_, high) => linear(0, 1.1 * high),
      },
    );
  }
  return panels.map((panel) =>
    drawPanel(state, v, size, { ...panel, empty: panel.empty ?? "no run yet" }),
  );
}

// ---- controls ----

function epochSlider(write, current) {
  const row = slider("epoch", "Which epoch is read out", [1, Infinity, 1], {
    read: () => current.epoch || 1,
    write: (epoch) => write({ epoch: epoch >= current.last ? 0 : epoch }),
    show: () => (current.last ? `${current.epoch}/${current.total}` : "–"),
  });
  const input = row.querySelector("input");
  const { refresh } = row;
  row.refresh = () => {
    // Its end moves while runs train.
    input.max = Math.max(1, current.last);
    input.disabled = current.last < 2;
    refresh();
  };
  return row;
}

// One box a run, and the legend.
function toggles(model, write, state) {
  const row = html("fieldset", { class: "ak-runs" }, html("legend", {}, "runs"));
  let names = [];
  const box = (name) => {
    const stroke = line(1, 5, 23, 5, `run ${lookOf(state(), name)}`);
    const sample = svg("svg", { width: 24, height: 10, "aria-hidden": "true" }, stroke);
    return toggle(name, "Show this run or hide it", sample, (checked) => {
      const others = model.get("hidden").filter((other) => other !== name);
      write({ hidden: checked ? others : [...others, name] });
    });
  };
  row.refresh = () => {
    const now = model.get("runs").map((run) => run.name);
    if (now.join("\n") !== names.join("\n")) {
      names = now;
      row.replaceChildren(row.firstChild, ...names.map(box));
    }
    row.hidden = !names.length;
    for (const input of row.querySelectorAll("input")) {
      input.checked = !model.get("hidden").includes(input.value);
    }
  };
  return row;
}

// ---- stage ----

function render({ model, el }) {
  const names = ["runs", "epoch", "part", "hidden"];
  const { state, write, trait } = traits(model, names);
  const current = { epoch: 0, last: 0, total: 0 }; // of the last redraw
  let before = null; // the epoch to return to when the mouse leaves
  const stop = stage({
    model,
    el,
    kind: "progress",
    title: "Training progress",
    names,
    above: [
      toggles(model, write, state),
      choice("loss drawn", PARTS, trait("part")),
      epochSlider(write, current),
    ],
    below: [],
    paint(width, two) {
      const v = compute(state());
      Object.assign(current, { epoch: v.epoch, last: v.last, total: v.total });
      return {
        pictures: drawPanels(state(), v, width, two),
        numbers: readings(v.shown),
        words: words(state(), v),
      };
    },
    dragged(index, x) {
      const epoch = el.querySelectorAll("svg.ak-drags")[index].epochAt(x);
      before = epoch >= current.last ? 0 : epoch;
      write({ epoch: before });
    },
  });

  // The mouse reads out an epoch by passing over it. That stays in the page: a kernel that trains need not listen.
  const leave = () => {
    if (before !== null) model.set("epoch", before);
    before = null;
  };
  const hover = (event) => {
    if (event.pointerType === "touch" || event.buttons) return;
    const drawing = event.target.closest("svg.ak-drags");
    if (!drawing || !current.last) {
      leave();
      return;
    }
    before ??= model.get("epoch");
    const box = drawing.getBoundingClientRect();
    const unit = drawing.viewBox.baseVal.width / box.width;
    model.set("epoch", drawing.epochAt((event.clientX - box.left) * unit));
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
