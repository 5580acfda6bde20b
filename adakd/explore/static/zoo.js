// Chapter 7: one pair of logits, and where every temperature rule puts its τ.

const GROUPS = { // heading: { rule: [name, formula, lowest and highest τ it can give, what was decided here] }
  fixed: { kd: ["KD", "τ = 4"], zkd: ["zKD", "τ = 2"] },
  "from the height of the logits": {
    "mlt-teacher": ["MLT, teacher", "τ = c₂ · max zᵗ"],
    mlt: ["MLT, both", "τ = c₂ · max(max zᵗ, max zˢ)"],
    "mlt-abs": ["MLT, absolute", "τ = c₂ · max(max |zᵗ|, max |zˢ|)"],
    "mlt-two-sided": ["MLT, two-sided", "τ = max(c₂⁺ · max z, c₂⁻ · |min z|)"],
    dtkd: ["DTKD", "τ = 8 · m ÷ (mˢ + mᵗ), m = log Σ exp of its own logits", [0, 8]],
    "dtkd-max": ["DTKD, max", "τ = 8 · m ÷ (mˢ + mᵗ), m = max of its own logits", [0, 8]],
  },
  "from how alike the two are": {
    cswt: ["CSWT, batch", "τ = 2 + 4 · (c_max − c) ÷ (c_max − c_min), c = cos(pᵗ, pˢ)", [2, 6], "Extremes of its batch"],
    "cswt-unit": ["CSWT, alone", "τ = 2 + 4 · (1 − c), c = cos(pᵗ, pˢ)", [2, 6]],
    adakd: ["AdaKD", "τ = 4 · exp(−½ tanh log(h ÷ median h)), h = Hellinger distance", [2.426, 6.595], "Median of its batch"],
  },
  "by schedule and loss gap": { dts: ["DTS", "τ → clip(2 · (1 + cos πe/240) · boost, 2, 4)", [2, 4]] },
  "learned, at the start": {
    ctkd: ["CTKD", "τ = 1 + 20 · σ(θ), θ = 1 at the start", [1, 21], "Learned against the student, one θ for all pairs."],
    meta: ["Meta", "τ → τ − 0.1 · ∂CE(s′, y)/∂τ, 4 at the start", [1, 20], "s′ is the student one step ahead."],
    itkd: ["ITKD", "τ = 1 + 9 · (1 + a)/2, a from a small network", [1, 10], "It says 4 to every pair at the start, and draws 4 ± 0.9 in training."],
  },
};
const RULES = Object.assign({}, ...Object.values(GROUPS)), ALL = Object.keys(RULES);
const LABELS = ["peak", "second", "slip"];
const START = {
  peak: 8, second: 4, ruled_out: -3, agreement: 0.8, classes: 10, teacher_scale: 3, student_scale: 2.5, shift: 0, label: "peak", epoch: 1,
};

// ---- the rules ----

const reads = (s, rule) => (s.logits === "published" ? (/^(zkd|mlt)/.test(rule) ? "z" : "v") : s.logits[0] === "s" ? "z" : "v");
const over = (entries, f) => Object.fromEntries(Object.entries(entries).map(([key, x]) => [key, f(x)]));
const clip = (x, low, high) => Math.min(high, Math.max(low, x));
const logSum = (v) => v[0] - logSoftmax(v, 1)[0];
const cosine = (a, b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
const hellinger = (a, b) => Math.sqrt(sum(a.map((p, k) => (Math.sqrt(p) - Math.sqrt(b[k])) ** 2)) / 2);

function makePairs(s) { // as raw logits v and as standardized ones z; the pair's own student is the first of four
  const z = standardize(teacherLogits(s)), students = [s.agreement, 0.5, 0.75, 0.95].map((rho) => studentLogits(z, rho)), y = LABELS.indexOf(s.label);
  const read = (teacher, rows) => {
    const p = softmax(teacher, 1), q = rows.map((row) => softmax(row, 1));
    return {
      teacher, student: rows[0], likeness: q.map((row) => cosine(p, row)), distance: q.map((row) => hellinger(p, row)),
      gap: logSoftmax(teacher, 1)[y] - logSoftmax(rows[0], 1)[y], // by how much the student's cross entropy is higher
    };
  };
  return { z: read(z, students), v: read(z.map((x) => s.teacher_scale * x), students.map((row) => row.map((x) => s.student_scale * x + s.shift))) };
}

function maxLogit({ student, teacher }, rule) {
  const need = (v) => C_UPPER * (rule === "mlt-abs" ? Math.max(highest(v), -lowest(v)) : highest(v));
  const below = rule === "mlt-two-sided" ? -C_LOWER * Math.min(lowest(teacher), lowest(student)) : 0;
  return Math.max(1e-3, need(teacher), rule === "mlt-teacher" ? 0 : need(student), below);
}

const sharpness = { dtkd: logSum, "dtkd-max": highest };
function shared(pair, rule, floor) { // DTKD: [student, teacher]
  const [s, t] = [pair.student, pair.teacher].map((v) => Math.max(floor, sharpness[rule](v)));
  return [(8 * s) / (s + t), (8 * t) / (s + t)];
}

function temperature(pair, rule, epoch) {
  const { likeness: [c], distance, gap } = pair, low = lowest(pair.likeness), high = highest(pair.likeness);
  if (/^mlt/.test(rule)) return maxLogit(pair, rule);
  if (rule === "cswt") return 2 + 4 * (high - low > 2 ** -46 ? (high - c) / (high - low) : 0.5);
  if (rule === "cswt-unit") return 2 + 4 * clip(1 - c, 0, 1);
  if (rule === "adakd") {
    const median = (sum(distance) - highest(distance) - lowest(distance)) / 2, hard = distance[0] ** 2, usual = median ** 2; // of four
    return 4 * Math.exp((-0.5 * (hard - usual)) / (hard + usual + 1e-29));
  }
  if (rule === "dts") {
    const a = -gap / (1 - gap || 1), boost = a > 2 ? 1.35 : Math.max(1, a);
    return clip(2 * (1 + Math.cos((Math.PI * epoch) / 240)) * boost, 2, 4);
  }
  return { zkd: 2, ctkd: 1 + 20 / (1 + Math.exp(-1)) }[rule] || 4;
}

export function compute(s) {
  const kinds = makePairs(s), read = Object.fromEntries(ALL.map((rule) => [rule, kinds[reads(s, rule)]])), v = {};
  for (const rule of ALL) {
    if (rule in sharpness) Object.assign(v, { [rule]: shared(read[rule], rule, 0.01), ["published_" + rule]: shared(read[rule], rule, -Infinity) });
    else v[rule] = Array(2).fill(temperature(read[rule], rule, s.epoch));
  }
  const { student, teacher } = read[s.rule], [tau_student, tau_teacher] = v[s.rule];
  const five = (p) => [p[0], p[1], p[2], sum(p.slice(3, -1)), p[p.length - 1]];
  return Object.assign(v, {
    tau_student, tau_teacher, entropy: entropy(teacher, tau_teacher), loss: loss(student, teacher, tau_student, tau_teacher),
    p: five(softmax(teacher, tau_teacher)), q: five(softmax(student, tau_student)),
    peaks: ALL.map((rule) => softmax(read[rule].teacher, v[rule][1])[0]), gap: read.dts.gap,
  });
}

// ---- words ----

const starts = {}; // the pair at the start, read in the same way: what has changed since?
const start = ({ logits, rule }) => (starts[logits + rule] ||= compute({ ...START, logits, rule }));
const refused = (v, rule) => rule in sharpness && lowest(v["published_" + rule]) <= 0;
const moved = (v, old, rule) => v[rule].some((tau, i) => Math.abs(Math.log(tau / old[rule][i])) > 0.005);
const changed = (v, old, rule) => { // how the probability of the teacher’s peak class has
  const i = ALL.indexOf(rule), ratio = v.peaks[i] / old.peaks[i];
  return Math.abs(ratio - 1) < 0.005 ? 0 : Math.sign(ratio - 1);
};
const both = ([s, t]) => (s === t ? `τ = ${num(t)}` : `τ = ${num(t)} for the teacher and ${num(s)} for the student`);

export function words(s, v) {
  const old = start(s), names = (rules) => (rules.length && rules.length < 7 ? ` (${rules.map((rule) => RULES[rule][0]).join("; ")})` : "");
  const groups = [[], [], [], []]; // refused, moved, another softmax, the same one
  for (const rule of ALL) groups[refused(v, rule) ? 0 : moved(v, old, rule) ? 1 : changed(v, old, rule) ? 2 : 3].push(rule);
  const [out, one, two, three] = groups, chosen = `${refused(v, s.rule) ? "Guarded, " : ""}${RULES[s.rule][0]} sets ${both(v[s.rule])}; the teacher’s peak class gets ${num(v.p[0])}.`;
  if (three.length === ALL.length) return `${chosen} All rules make the softmax of the start. Change the pair: which answer, and which stand still while their softmax changes?`;
  return (out.length ? `Refused${names(out)}: the formula asks for τ = ${num(lowest(v["published_" + out[0]]))}. ` : "") + `Against the start, ${one.length} of ${ALL.length} rules moved${names(one)}, ` +
    `${two.length} stand still but make another softmax${names(two)}, and ${three.length} make the same one. ${chosen}`;
}

function note(s, v) {
  const published = v["published_" + s.rule], text = RULES[s.rule][3] || "";
  if (published && refused(v, s.rule)) {
    return `An m is not above 0: τᵗ = ${num(published[1])}, τˢ = ${num(published[0])}. A negative τ turns the classes’ order round and makes the loss negative. ` +
      "adakd keeps m at 0.01 or above, which the bars show.";
  }
  if (published) return "The sharper model gets the higher τ. Nothing keeps m above 0: shift the student down, and see.";
  if (s.rule === "dts") return `Its running mean, if every batch is this pair. It is boosted while the student’s cross entropy is more than 1 nat above the teacher’s; here it is ${num(Math.abs(v.gap))} ${v.gap < 0 ? "below" : "above"}.`;
  return text + (/batch$/.test(text) ? ": this pair and three more students of the same teacher, scale and shift, with ρ = 0.5, 0.75 and 0.95." : "");
}

// ---- drawing ----

const SHAPES = { // triangles point at their temperature, the teacher's from above
  dot: (x, y) => `M${x - 5} ${y}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z`,
  teacher: (x, y) => `M${x} ${y}l-5.5 -8.5h11z`, student: (x, y) => `M${x} ${y}l-5.5 8.5h11z`,
};

function drawRow(s, v, old, rule, y, width, left, x) {
  const [name, , limits] = RULES[rule], [ts, tt] = v[rule], [os, ot] = old[rule], kind = reads(s, rule), out = refused(v, rule);
  const root = Math.sqrt(s.classes - 1), lowest = { "mlt-abs": C_UPPER, "mlt-two-sided": Math.SQRT1_2 }[rule] || C_UPPER / root;
  const range = limits || (/^mlt/.test(rule) && kind === "z" && [lowest, C_UPPER * root]), on = rule === s.rule ? "on" : "";
  const row = svg("g", { class: `rule ${on}`, "data-rule": rule }, [
    rect(-4, y - 11, width + 4, y + 11, "hit", { rx: 4 }),
    label(8, y + 4, name, on && "chosen"), label(left - 9, y + 4, kind, "tick reads", "end"),
  ]);
  if (range) row.append(rect(x(range[0]), y - 6, x(range[1]), y + 6, "reach", { rx: 3 }));
  if (out) {
    row.append(label(left + 4, y + 4, `✗ τ = ${num(Math.min(...v["published_" + rule]))}: refused`, "halo refused"), label(width - 14, y + 4, "–", "value", "end"));
    return row;
  }
  const marks = ts === tt ? [["dot", tt, ot]] : [["teacher", tt, ot], ["student", ts, os]], change = changed(v, old, rule), texts = [];
  for (const [shape, tau, was] of marks) {
    if (moved(v, old, rule)) row.append(svg("path", { d: SHAPES[shape](x(was), y), class: "ghost" }));
    const text = (shape === "dot" ? "" : shape[0] + " ") + num(tau) + (tau > 100 ? " →" : tau < 0.1 ? " ←" : ""), high = tau === Math.max(ts, tt), long = 6.2 * text.length;
    const right = Math.max(x(tau), moved(v, old, rule) && shape === "dot" ? x(was) : 0) + 9, turned = high ? right + long > width - 52 : x(tau) - 9 - long > left;
    texts.push(label(turned ? x(tau) - 9 : right, y + 4, text, `halo value is-${shape}`, turned ? "end" : "start"));
    row.append(svg("path", { d: SHAPES[shape](x(tau), y), class: shape }));
  }
  row.append(...texts, label(width - 14, y + 4, num(v.peaks[ALL.indexOf(rule)]), `value ${on && "chosen"}`, "end"),
    label(width, y + 4, "↓ ↑"[change + 1].trim(), "value", "end"));
  return row;
}

function drawZoo(s, v, width) {
  const old = start(s), left = width < 420 ? 112 : 122, plot = width - left - 60, rows = [], parts = [];
  const x = (tau) => Math.round(10 * (left + (plot * Math.log10(clip(tau, 0.1, 100) / 0.1)) / 3)) / 10;
  let y = 58;
  for (const [heading, group] of Object.entries(GROUPS)) {
    rows.push(label(0, y + 5, heading, "group"));
    for (const rule of Object.keys(group)) rows.push(drawRow(s, v, old, rule, (y += rule === Object.keys(group)[0] ? 20 : 22), width, left, x));
    y += 26;
  }
  const floor = y - 8;
  for (const t of [0.1, 1, 10, 100]) parts.push(line(x(t), 62, x(t), floor + 4, "grid"), label(x(t), floor + 17, String(t), "tick", "middle"));
  parts.push(line(left, floor, left + plot, floor, "axis"), label(left + plot / 2, floor + 33, "temperature τ", "name", "middle"), label(0, 14, "Where the rules put τ", "title"),
    label(0, 31, "hollow: at the start · bar: all a rule can reach", "tick"), label(width, 31, "p of the peak", "tick", "end"));
  return picture(width, floor + 36, `${ALL.map((rule) => `${RULES[rule][0]}: ${refused(v, rule) ? "refused" : both(v[rule])}`).join("; ")}.`, [...parts, ...rows]);
}

function drawBars(s, v, width) {
  const old = start(s), left = 74, top = Math.max(...v.p, ...v.q), x = (p) => left + ((width - left - 92) * p) / top, parts = [];
  ["peak", "2nd", "slip", "others", "ruled out"].forEach((name, k) => {
    const mid = 68 + k * 46, below = LABELS.indexOf(s.label) === k ? "the label" : k === 3 ? `${s.classes - 4} of them` : "", guess = (k === 3 ? s.classes - 4 : 1) / s.classes;
    parts.push(label(left - 10, mid + (below ? -2 : 4), name, k < 3 && below ? "chosen" : "", "end"), label(left - 10, mid + 12, below, "tick", "end"));
    if (guess < 1.1 * top) parts.push(line(x(guess), mid - 20, x(guess), mid + 20, "guess"));
    for (const [p, was, y, who] of [[v.p[k], old.p[k], mid - 16, "teacher"], [v.q[k], old.q[k], mid + 1, "student"]]) {
      const differs = Math.abs(p - was) > 0.002 && was < 1.2 * top, end = differs && was > p && x(was) < x(p) + (k ? 40 : 90) ? x(was) : x(p);
      parts.push(svg("path", { d: `M${left} ${y}H${x(p)}v15H${left}z`, class: who }), differs && line(x(was), y - 1, x(was), y + 16, "was"),
        label(end + 7, y + 12, num(p) + (k ? "" : " " + who), `halo value is-${who}`));
    }
  });
  parts.push(line(left, 46, left, 278, "axis"), label(0, 14, `The softmax that ${RULES[s.rule][0]} makes`, "title"), label(0, 31, "thin: at the start · dotted: a blind guess", "tick"));
  return picture(width, 282, `Softmax by ${RULES[s.rule][0]}: the peak class gets ${num(v.p[0])} by the teacher and ${num(v.q[0])} by the student.`, parts);
}

// ---- stage ----

const SCENES = {
  "the start": {}, "both × 3": { teacher_scale: 9, student_scale: 7.5 }, "student − 10": { shift: -10 }, "a surer student": { teacher_scale: 1.5, student_scale: 6 },
  "one class ruled out": { peak: 1, second: 1, ruled_out: -16, agreement: 0.95, classes: 100 }, "1000 classes": { classes: 1000 },
  "epoch 120": { epoch: 120 }, "epoch 120, far behind": { epoch: 120, agreement: 0.3 },
};

function render({ model, el }) {
  const names = [...Object.keys(START), "logits", "rule"], { state, write } = traits(model, names);
  const get = (name) => () => model.get(name), set = (name) => (value) => write({ [name]: value });
  return stage({
    model, el, names, kind: "zoo", title: "Zoo of temperatures",
    above: [
      scenes("What if:", over(SCENES, (changes) => ({ ...START, ...changes })), write),
      choice("rules read", { published: ["what their papers say", ""], raw: ["all raw logits v", ""], standardized: ["all standardized z", ""] }, get("logits"), set("logits")),
      menu("softmax by", over(GROUPS, (group) => over(group, ([name]) => name)), get("rule"), set("rule")),
    ],
    below: [
      choice("label", { peak: ["the peak", ""], second: ["2nd class", ""], slip: ["the slip", ""] }, get("label"), set("label")),
      [
        ...scaleSliders(model, write),
        slider("student’s shift", "Added to all of the student’s logits", -20, 20, 0.5, get("shift"), set("shift"), () => signed(model.get("shift").toFixed(1))),
        slider("epoch", "Of 240; schedules follow it", 1, 240, 1, get("epoch"), set("epoch"), () => String(model.get("epoch"))),
        ...pairSliders(model, write),
      ],
    ],
    paint(width, two) {
      const s = state(), v = compute(s), wide = two ? Math.round(1.2 * width) : width, rest = two ? 2 * width - wide : width, zoo = drawZoo(s, v, wide);
      zoo.addEventListener("click", ({ target }) => {
        const row = target.closest("[data-rule]");
        if (row) write({ rule: row.dataset.rule });
      });
      const card = html("div", { class: "card" }, [html("b", {}, RULES[s.rule][1]), html("p", {}, note(s, v))]);
      return {
        pictures: [zoo, html("div", { style: `width:${rest}px` }, [drawBars(s, v, rest), card])],
        numbers: [
          ["τ, teacher / student", `${num(v.tau_teacher)} / ${num(v.tau_student)}`], ["teacher’s entropy, nats", `${num(v.entropy)} of ${num(Math.log(s.classes))}`],
          ["τˢ·τᵗ·KL", num(v.loss)],
        ],
        words: words(s, v),
      };
    },
  });
}

export default { render };
