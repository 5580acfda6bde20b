// The page "Which temperature, which weight": files of logits, dropped or chosen, and what follows from them. The page
// reads them by itself; nothing is sent anywhere.

import { button, choice } from "./controls.js";
import { circle, html, label, line, path, picture, svg, ticksBelow } from "./drawing.js";
import { ADVICE } from "./from-python.js";
import { advise } from "./logits.js";
import { highest, lowest } from "./math.js";
import { readNpy } from "./npy.js";
import { normal } from "./points.js";
import { signed } from "./words.js";

const FILES = {
  teacher: "teacher’s logits",
  student: "student’s logits, best before training (optional)",
  labels: "labels, integers (optional)",
};
const STREAM = 19; // of made-up logits, as points.js numbers them

// A teacher that knows the class and mixes it up with the next one, an untrained student, and labels.
function madeUp(rows = 300, K = 10) {
  const labels = Array.from({ length: rows }, (_, r) => r % K);
  const entries = Array.from({ length: rows * K }, (_, i) => [Math.floor(i / K), i % K]);
  const known = (r, k) => (k === labels[r] ? 6 : k === (labels[r] + 1) % K ? 3 : 0);
  const shape = [rows, K];
  return {
    teacher: {
      shape,
      values: Float64Array.from(entries, ([r, k]) => known(r, k) + 2.5 * normal(STREAM, 0, r, k)),
    },
    student: {
      shape,
      values: Float64Array.from(entries, ([r, k]) => 0.3 * normal(STREAM, 1, r, k)),
    },
    labels: { shape: [rows], values: Float64Array.from(labels) },
  };
}

const read = (buffers) =>
  Object.fromEntries(
    Object.entries(buffers).map(([who, buffer]) => [
      who,
      readNpy(buffer, FILES[who].split(",")[0], who === "labels"),
    ]),
  );

// The advice on ArrayBuffers of .npy files by the names of FILES; on made-up logits where there are none.
export const compute = (buffers = {}, pause = undefined) =>
  advise(buffers.teacher ? read(buffers) : madeUp(), pause);

// ---- tables ----

const three = (x) => signed(String(Number(x.toPrecision(3))));
const quantiles = (found) => ["q5", "q50", "q95"].map((name) => three(found[name]));

// Rows of texts, the first of each its heading; `heads` are rows of [text, columns].
function table(caption, heads, rows) {
  const head = heads.map((cells) =>
    html(
      "tr",
      {},
      cells.map(([text, colspan = 1]) =>
        text
          ? html("th", { scope: colspan > 1 ? "colgroup" : "col", colspan }, text)
          : html("td", { colspan }),
      ),
    ),
  );
  const body = rows.map(([name, ...cells]) =>
    html("tr", {}, [
      html("th", { scope: "row" }, name),
      ...cells.map((text) => html("td", {}, text)),
    ]),
  );
  return html("table", { class: "ak-table" }, [
    html("caption", {}, caption),
    html("thead", {}, head),
    html("tbody", {}, body),
  ]);
}

const THREE = [["5 %"], ["median"], ["95 %"]];

const softness = (v) =>
  table(
    "How soft the teacher is",
    [[[""], ...THREE]],
    [
      ["spread of a row, σ", ...quantiles(v.spread)],
      ["highest standardized logit", ...quantiles(v.max_z)],
      ["entropy H at τ = 1, nats", ...quantiles(v.entropy)],
      ["classes undecided, e^H", ...quantiles(v.choices)],
    ],
  );

const byRule = (v) =>
  table(
    "Temperature by rule",
    [
      [[""], ["in units of σ", 3], ["raw", 3]],
      [[""], ...THREE, ...THREE],
    ],
    v.temperatures.map((row) => [
      row.method,
      ...quantiles(row.standardized),
      ...quantiles(row.raw),
    ]),
  );

const byMethod = (v) =>
  table(
    `Gradient norm at λ = 1, and the λ with the gradient norm of ${v.reference}`,
    [[["method"], ["norm"], ["published λ"], ["matched λ"]]],
    v.gradients.map(({ method, norm, published, matched }) => [
      method,
      three(norm),
      three(published),
      matched === null ? "–" : three(matched),
    ]),
  );

// ---- the picture ----

const LEFT = 130;
const STEP = 22;
const ROOF = 30;

// 1, 2 and 5 of each decade between two values.
const roundBetween = (low, high) =>
  Array.from({ length: 13 }, (_, i) => 10 ** (i - 6))
    .flatMap((decade) => [decade, 2 * decade, 5 * decade])
    .filter((t) => t >= low && t <= high);

function drawTemperatures(v, unit, width) {
  const rows = [...v.temperatures].sort((a, b) => a[unit].q50 - b[unit].q50);
  const low = 0.8 * lowest(rows.map((row) => row[unit].q5));
  const high = 1.25 * highest(rows.map((row) => row[unit].q95));
  const right = width - 10;
  const x = (tau) => LEFT + ((right - LEFT) * Math.log(tau / low)) / Math.log(high / low);
  const floor = ROOF + STEP * rows.length + 4;
  const marks = roundBetween(low, high);
  const every =
    marks.length > (right - LEFT) / 40 ? marks.filter((t) => /^1|^0\.0*1/.test(String(t))) : marks;
  const lines = rows.flatMap((row, i) => {
    const y = ROOF + STEP * (i + 0.5);
    const { q5, q50, q95 } = row[unit];
    const at = x(q50);
    const kind = row.reads;
    return [
      label(LEFT - 10, y + 4, row.method, "tick", "end"),
      line(x(q5), y, x(q95), y, `range ${kind}`),
      kind === "raw"
        ? circle(at, y, 4.5, kind)
        : svg("path", { class: kind, d: `M${at} ${y - 6}l6 6l-6 6l-6 -6z` }),
    ];
  });
  const [first, last] = [rows[0], rows.at(-1)];
  const name = unit === "raw" ? "raw" : "in units of the row’s spread σ";
  return picture(
    width,
    floor + 38,
    `Temperature of ${rows.length} rules, ${name}: the lowest median is ${three(first[unit].q50)} by ${first.method}, the ` +
      `highest ${three(last[unit].q50)} by ${last.method}.`,
    [
      label(0, 14, "Temperature by rule", "title"),
      label(right, 14, "diamonds: standardized rows", "tick", "end"),
      ...every.map((t) => line(x(t), ROOF, x(t), floor, "grid")),
      ...lines,
      path(
        [
          [LEFT, floor],
          [right, floor],
        ],
        "axis",
      ),
      ...ticksBelow(every, x, floor),
      label(
        right,
        floor + 34,
        `τ ${unit === "raw" ? "of raw logits" : "in units of σ"}: 5 %, median, 95 % of rows`,
        "tick",
        "end",
      ),
    ],
  );
}

// ---- what is said besides ----

const percent = (x) => `${x.toFixed(1)} %`;
const summary = (v) =>
  `${v.rows} rows of ${v.classes} classes${v.accuracy === null ? "" : `, ${percent(v.accuracy)} right`}`;

function remarks(v, studentGiven) {
  const { temperatures, gradients } = ADVICE.elsewhere;
  const more = [
    studentGiven ? "" : "what it gives for an assumed student, ",
    `the rule ${temperatures.join(", ")}, the weights of ${gradients.join(", ")}, and the settings that the study’s records ` +
      "support",
  ].join("");
  const missing = studentGiven
    ? []
    : [
        "No student’s logits: rules that read the student are left out, and so are weights. The command assumes a student " +
          "there, and says what.",
      ];
  const labelled =
    v.accuracy === null && studentGiven
      ? ["Methods that read labels need them: dkd and its kind are left out."]
      : [];
  return [...missing, ...labelled, `Only the command adakd advise gives ${more}.`];
}

// ---- the face ----

function render({ el }) {
  const problem = html("p", { class: "ak-problem", role: "alert" });
  const status = html("p", { class: "ak-status", role: "status" });
  const progress = html("progress", { "aria-label": "How much is computed" });
  progress.hidden = true;
  const results = html("div", { class: "ak-results" });
  const inputs = Object.fromEntries(
    Object.keys(FILES).map((who) => [who, html("input", { type: "file", accept: ".npy" })]),
  );
  const rows = Object.entries(FILES).map(([who, text]) =>
    html("label", { class: "ak-file", "data-file": who }, [html("span", {}, text), inputs[who]]),
  );
  const buttons = html("div", { class: "ak-scenes" }, [
    button("Try it with made-up logits", "", () => show({})),
    button("Clear", "", () => {
      clear();
      results.replaceChildren();
    }),
  ]);
  const hint = html(
    "p",
    { class: "ak-hint" },
    "Drop a .npy file on its line, or choose it. It stays in this page.",
  );
  const drop = html("div", { class: "ak-files" }, [hint, ...rows, buttons]);
  const root = html(
    "div",
    { class: "ak ak-advice", role: "group", "aria-label": "Advice on your logits" },
    [drop, problem, status, progress, results],
  );
  el.replaceChildren(root);

  let asked = 0; // what is computed for an earlier choice of files is dropped
  let redraw = null;
  const pause = (mine) => (share) =>
    new Promise((resolve) => {
      if (share !== undefined && mine === asked) progress.value = share;
      setTimeout(() => mine === asked && resolve()); // else nobody waits any more
    });

  function work(busy) {
    root.setAttribute("aria-busy", busy);
    progress.hidden = !busy;
    progress.value = 0;
  }

  function say(text, wrong = "") {
    status.textContent = text;
    problem.textContent = wrong;
  }

  function clear() {
    asked += 1;
    work(false);
    for (const input of Object.values(inputs)) input.value = "";
    redraw = null;
    say("");
  }

  function showAdvice(v, studentGiven) {
    const drawn = html("div", { class: "ak-pictures" });
    let unit = "standardized";
    const units = choice(
      "temperature",
      { standardized: ["in units of σ"], raw: ["raw"] },
      {
        read: () => unit,
        write(value) {
          unit = value;
          redraw();
        },
      },
    );
    redraw = () => {
      drawn.replaceChildren(drawTemperatures(v, unit, Math.min(680, root.clientWidth || 680)));
      units.refresh();
    };
    const warned = Object.entries(v.warnings).map(([name, text]) =>
      html("li", {}, [html("b", {}, name), `: ${text}`]),
    );
    const parts = [
      warned.length && html("ul", { class: "ak-warnings", "aria-label": "Warnings" }, warned),
      softness(v),
      units,
      drawn,
      byRule(v),
      v.gradients.length && byMethod(v),
      ...remarks(v, studentGiven).map((text) => html("p", {}, text)),
    ];
    results.replaceChildren(...parts.filter(Boolean));
    redraw();
  }

  // The advice on these files, by the names of FILES; on made-up logits where there are none.
  async function show(files) {
    if (!files.teacher) clear();
    asked += 1;
    const mine = asked;
    const wait = pause(mine);
    work(true);
    say("Reading …");
    try {
      const buffers = {};
      for (const [who, file] of Object.entries(files)) buffers[who] = await file.arrayBuffer();
      await wait();
      const v = await compute(buffers, wait);
      showAdvice(v, !files.teacher || Boolean(files.student));
      say(files.teacher ? `The teacher: ${summary(v)}.` : `Made-up logits: ${summary(v)}.`);
    } catch (error) {
      if (mine !== asked) return;
      results.replaceChildren();
      redraw = null;
      say("", error.message);
    }
    work(false);
  }

  function chosen() {
    const files = Object.entries(inputs).flatMap(
      ([
        who,
        {
          files: [file],
        },
      ]) => (file ? [[who, file]] : []),
    );
    results.replaceChildren();
    redraw = null;
    asked += 1;
    work(false);
    if (!files.length) say("");
    else if (inputs.teacher.files.length) show(Object.fromEntries(files));
    else say("The teacher’s logits are needed, too.");
  }

  // A file goes where it is dropped; beside the three, it is the teacher's.
  const over = (event) => {
    event.preventDefault(); // else the browser leaves the page to show the file
    drop.classList.add("ak-over");
  };
  const away = () => drop.classList.remove("ak-over");
  const dropped = (event) => {
    event.preventDefault();
    away();
    const { files } = event.dataTransfer;
    if (files.length !== 1) {
      say("", `expected one file, got ${files.length}; drop each on the line that it is for`);
      return;
    }
    const who = event.target.closest("[data-file]")?.dataset.file ?? "teacher";
    inputs[who].files = files;
    chosen();
  };
  root.addEventListener("dragover", over);
  root.addEventListener("dragleave", away);
  root.addEventListener("drop", dropped);
  for (const input of Object.values(inputs)) input.addEventListener("change", chosen);
  const watcher = new ResizeObserver(() => redraw?.());
  watcher.observe(root);
  return () => {
    asked += 1;
    watcher.disconnect();
    el.replaceChildren();
  };
}

export default { render };
