// Chapter 11: methods ranked by a study, at three kinds of weights, and any two of them paired.

import { choice, menu, slider, traits } from "./controls.js";
import {
  circle,
  draggable,
  gridLines,
  label,
  line,
  path,
  picture,
  rect,
  svg,
  ticks,
  ticksBelow,
} from "./drawing.js";
import { highest, lowest, mean, sum } from "./math.js";
import { stage } from "./stage.js";
import { num, signed } from "./words.js";

const WAYS = ["published", "matched", "chosen"];
const GROUPS = ["maximum logit", "standardized", "others", "labels only"];
const measured = (values) => values.filter((x) => x !== null);

// ---- numbers ----

// Mean with Student's interval; `which` of the two quantiles that the data has for each n.
function interval(data, values, which = 0) {
  const n = values.length;
  if (!n) return { estimate: null, low: null, high: null, n };
  const estimate = mean(values);
  const variance = sum(values.map((x) => (x - estimate) ** 2)) / (n - 1);
  const half = n > 1 ? data.t[n][which] * Math.sqrt(variance / n) : null;
  return {
    estimate,
    low: half === null ? null : estimate - half,
    high: half === null ? null : estimate + half,
    n,
  };
}

const rowOf = (state, name) => state.data.methods.find((row) => row.name === name);

// Which of its weights a method has now, and whether it was run with them.
function placeOf(state, row) {
  const moved = row.name === state.method && state.place >= 0 && state.place < row.runs.length;
  return moved ? state.place : row.ways[state.way];
}
const runOf = (state, row) => row.runs[placeOf(state, row)];
const accuracies = (state, row) => measured(runOf(state, row)?.accuracies ?? []);

// Of the seeds that both chosen methods have.
function differences(state) {
  const [ours, theirs] = [state.first, state.second].map(
    (name) => runOf(state, rowOf(state, name))?.accuracies ?? [],
  );
  return ours.flatMap((a, i) =>
    a === null || (theirs[i] ?? null) === null ? [] : [a - theirs[i]],
  );
}

export function compute(state) {
  const { data, group } = state;
  const found = data.methods.map((row) => interval(data, accuracies(state, row)));
  const key = (i) => -Math.round(found[i].estimate * 1e9) / 1e9;
  const order = data.methods
    .map((_, i) => i)
    .filter((i) => found[i].n && (group === "all" || data.methods[i].group === group))
    .sort((a, b) => key(a) - key(b));
  const pairs = differences(state);
  const one = interval(data, pairs);
  const all = interval(data, pairs, 1);
  return {
    estimates: found.map((x) => x.estimate),
    lows: found.map((x) => x.low),
    highs: found.map((x) => x.high),
    ranks: found.map((_, i) => order.indexOf(i) + 1),
    order,
    difference: one.estimate,
    low: one.low,
    high: one.high,
    all_low: all.low,
    all_high: all.high,
    pairs: one.n,
    each: pairs,
  };
}

// ---- words ----

const points = (x) => signed(`${x < 0 ? "" : "+"}${x.toFixed(2)}`);
const span = (low, high) => `[${points(low)}, ${points(high)}]`;
const weightsOf = (run) =>
  run ? `λ_CE = ${num(run.ce)}${run.kd === null ? "" : `, λ_KD = ${num(run.kd)}`}` : "not run";

function verdict({ low, high }) {
  if (low > 0) return "is ahead";
  return high < 0 ? "is behind" : "cannot be told apart";
}

export function words(state, v) {
  const { first, second, data } = state;
  const count = data.methods.length;
  if (v.low === null)
    return `${first} and ${second} have too few seeds in common at these weights.`;
  const wide = { low: v.all_low, high: v.all_high };
  const again = verdict(wide) === verdict(v) ? "comes to the same" : "cannot tell them apart";
  const said =
    verdict(v) === "cannot be told apart"
      ? `${first} and ${second} cannot be told apart`
      : `${first} ${verdict(v)} of ${second}`.replace("behind of", "behind");
  return (
    `${said}: ${points(v.difference)} points ${span(v.low, v.high)} over ${v.pairs} seeds, if this pair alone was to be ` +
    `compared. Whoever looks for a pair among all ${(count * (count - 1)) / 2} needs ` +
    `${span(wide.low, wide.high)}, and ${again}.`
  );
}

// ---- drawing: the ranking ----

const LEFT = 122; // names
const RIGHT = 40; // weights
const ROW = 21;
const ROOF = 44;

// What all weights that several seeds were run with need, so that the axis stays; more where one seed fell below it.
function rangeOf(state, v) {
  const { data } = state;
  const all = data.methods.flatMap((row) =>
    row.runs.flatMap((run) => {
      const { low, high, n } = interval(data, measured(run.accuracies));
      return n > 2 ? [low, high] : [];
    }),
  );
  const now = v.order.map((i) => v.estimates[i]);
  return [Math.floor(lowest([...all, ...now])), Math.ceil(highest([...all, ...now]))];
}

const SIGNS = [
  (x, y) => `M${x - 5} ${y}l5 -5 5 5 -5 5z`,
  (x, y) => `M${x - 4} ${y - 4}h8v8h-8z`,
  (x, y) => `M${x - 4.5} ${y}a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z`,
  (x, y) => `M${x - 5} ${y + 4}h10l-5 -9z`,
];

const steps = (low, high) => {
  const [step] = ticks(high - low);
  const from = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - from + 1 }, (_, i) => (from + i) * step);
};

function drawRanking(state, v, width, places) {
  const { data, way } = state;
  const right = width - RIGHT;
  const floor = ROOF + ROW * data.methods.length + 4;
  const [low, high] = rangeOf(state, v);
  const x = (accuracy) => LEFT + ((right - LEFT) * (accuracy - low)) / (high - low);
  const rows = v.order.map((i, rank) => {
    const row = data.methods[i];
    const run = runOf(state, row);
    const y = ROOF + ROW * (rank + 0.5);
    const here = x(v.estimates[i]);
    const chosen = [state.first, state.second].includes(row.name);
    const group = svg(
      "g",
      { class: `row g${GROUPS.indexOf(row.group)}`, "data-method": row.name },
      [
        rect(0, y - ROW / 2, width, y + ROW / 2, chosen ? "chosen" : "catch"),
        ...(v.lows[i] === null ? [] : [line(x(v.lows[i]), y, x(v.highs[i]), y, "span")]),
        svg("path", { d: SIGNS[GROUPS.indexOf(row.group)](here, y), class: "sign" }),
        label(LEFT - 10, y + 4, row.name, chosen ? "chosen" : "", "end"),
        label(width - 2, y + 4, run.kd === null ? "–" : num(run.kd), "tick", "end"),
      ],
    );
    places.set(row.name, { x: here, y, group });
    return group;
  });
  const best = v.order.map((i) => data.methods[i].name);
  const sentence = `Test accuracy of ${best.length} methods at ${way} weights, the best first: ${best.join(", ")}.`;
  return picture(width, floor + 34, sentence, [
    label(0, 14, `Test accuracy at ${way} weights, %`, "title"),
    label(0, 31, "mean of the seeds, 95 % interval; click two to compare", "tick"),
    label(width - 2, 31, "λ_KD", "tick", "end"),
    ...steps(low, high).map((t) => line(x(t), ROOF, x(t), floor, "grid")),
    line(LEFT, floor, right, floor, "axis"),
    ...ticksBelow(steps(low, high), x, floor),
    ...rows,
  ]);
}

// Each row starts where it was and goes to its new place.
function move(before, after) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const [name, { y, group }] of after) {
    const from = before.get(name);
    if (from && Math.abs(from.y - y) > 0.5) {
      const transform = [`translate(0, ${from.y - y}px)`, "none"];
      group.animate({ transform }, { duration: 700, easing: "ease-in-out" });
    }
    const [dot, then] = [group.querySelector(".sign"), after.get(name).x];
    if (from && Math.abs(from.x - then) > 0.5) {
      const transform = [`translate(${from.x - then}px, 0)`, "none"];
      dot.animate({ transform }, { duration: 700, easing: "ease-in-out" });
    }
  }
}

// ---- drawing: the pair, and one method's weights ----

const EDGE = 36;
const END = 10;

function drawPair(state, v, width, roof) {
  const right = width - END;
  const floor = roof + 112;
  const title = label(0, roof + 14, `${state.first} − ${state.second}, points`, "title");
  if (v.low === null) return [title, label(0, roof + 31, "too few seeds in common", "tick")];
  const reach = 1.05 * Math.max(1, ...[v.all_low, v.all_high, ...v.each].map(Math.abs));
  const x = (d) => EDGE + ((right - EDGE) * (d + reach)) / (2 * reach);
  const at = ticks(reach);
  const rows = [
    [roof + 48, "each seed", v.each.map((d) => circle(x(d), roof + 48, 4, "seed"))],
    [
      roof + 70,
      "this pair",
      [
        line(x(v.low), roof + 70, x(v.high), roof + 70, "span"),
        circle(x(v.difference), roof + 70, 5, "dot"),
      ],
    ],
    [roof + 92, "all pairs", [line(x(v.all_low), roof + 92, x(v.all_high), roof + 92, "wide")]],
  ];
  return [
    title,
    label(0, roof + 31, "paired by seed; 95 % intervals", "tick"),
    line(x(0), roof + 38, x(0), floor, "zero"),
    line(EDGE, floor, right, floor, "axis"),
    ...ticksBelow([...at.map((t) => -t), 0, ...at], x, floor),
    ...rows.flatMap(([y, text, marks]) => [
      ...marks,
      label(
        v.difference > 0 ? 0 : right,
        y + 4,
        text,
        "tick halo",
        v.difference > 0 ? "start" : "end",
      ),
    ]),
  ];
}

const lambdas = (row) => row.runs.map((run) => run.kd);

function weightAxis(row, width) {
  const [low, high] = [0.7 * lowest(lambdas(row)), 1.4 * highest(lambdas(row))];
  const plot = width - END - EDGE;
  return (kd) => EDGE + (plot * Math.log(kd / low)) / Math.log(high / low);
}

// The place whose λ is nearest to a point of the picture.
function nearestPlace(row, width, px) {
  const x = weightAxis(row, width);
  const far = row.runs.map((run) => Math.abs(x(run.kd) - px));
  return far.indexOf(lowest(far));
}

function drawWeights(state, width, roof) {
  const { data } = state;
  const row = rowOf(state, state.method);
  const place = placeOf(state, row);
  const right = width - END;
  const floor = roof + 160;
  const found = row.runs.map((run) => interval(data, measured(run.accuracies)));
  const ends = found.flatMap((f) => (f.n > 2 ? [f.low, f.high] : [f.estimate]));
  const [low, high] = [Math.floor(lowest(ends)), Math.ceil(highest(ends))];
  const x = weightAxis(row, width);
  const y = (accuracy) => floor - ((floor - roof - 44) * (accuracy - low)) / (high - low);
  const several = found.flatMap((f, i) => (f.n > 2 ? [[x(row.runs[i].kd), y(f.estimate)]] : []));
  const decades = [0.01, 0.1, 1, 10, 100].filter((t) => x(t) > EDGE && x(t) < right);
  return [
    label(0, roof + 14, `${state.method}: accuracy by λ_KD`, "title"),
    label(0, roof + 31, "a dot without a line: one seed", "tick"),
    ...gridLines(steps(low, high), y, EDGE, right),
    line(EDGE, floor, right, floor, "axis"),
    ...ticksBelow(decades, x, floor),
    path(several, "curve faint"),
    ...found.flatMap((f, i) => {
      const at = x(row.runs[i].kd);
      return [
        f.n > 2 && line(at, y(f.low), at, y(f.high), "wide"),
        circle(at, y(f.estimate), i === place ? 5.5 : 3.5, "dot"),
      ];
    }),
    place !== null && line(x(row.runs[place].kd), roof + 40, x(row.runs[place].kd), floor, "now"),
  ];
}

const PAIR_HEIGHT = 150;

function drawSide(state, v, width) {
  const sentence =
    (v.low === null
      ? `${state.first} and ${state.second} have too few seeds in common. `
      : `${state.first} minus ${state.second}: ${points(v.difference)} points ${span(v.low, v.high)}. `) +
    `Below, the accuracy of ${state.method} at each weight it was run with.`;
  return draggable(
    picture(width, PAIR_HEIGHT + 186, sentence, [
      ...drawPair(state, v, width, 0),
      ...drawWeights(state, width, PAIR_HEIGHT),
    ]),
  );
}

// ---- stage ----

// Names of the methods, by group.
function byGroup(data, kept) {
  const groups = {};
  for (const name of GROUPS) {
    const rows = data.methods.filter((row) => row.group === name && kept(row));
    if (rows.length) groups[name] = Object.fromEntries(rows.map((row) => [row.name, row.name]));
  }
  return groups;
}

function weightSlider(state, write) {
  const row = slider("its λ_KD", "Among the weights it was run with", [0, Infinity, 1], {
    read: () => placeOf(state(), rowOf(state(), state().method)) ?? 0,
    write: (place) => write({ place: Math.round(place) }),
    show: () => num(runOf(state(), rowOf(state(), state().method))?.kd ?? Number.NaN),
  });
  const input = row.querySelector("input");
  const { refresh } = row;
  row.refresh = () => {
    input.max = rowOf(state(), state().method).runs.length - 1;
    refresh();
  };
  return row;
}

function render({ model, el }) {
  const names = ["data", "way", "group", "first", "second", "method", "place"];
  const { state, write, trait } = traits(model, names);
  const all = byGroup(model.get("data"), () => true);
  let before = new Map(); // where the rows were
  let drawn = 0;
  const stop = stage({
    model,
    el,
    kind: "ranking",
    title: "Ranking explorer",
    names,
    above: [
      choice("Weights", Object.fromEntries(WAYS.map((way) => [way, [way]])), {
        read: () => model.get("way"),
        write: (way) => write({ way, place: -1 }),
      }),
      choice(
        "Show",
        Object.fromEntries(["all", ...GROUPS].map((group) => [group, [group]])),
        trait("group"),
      ),
    ],
    below: [
      [menu("compare", all, trait("first")), menu("with", all, trait("second"))],
      menu(
        "move the weight of",
        byGroup(model.get("data"), (row) => row.runs.length > 1),
        {
          read: () => model.get("method"),
          write: (method) => write({ method, place: -1 }),
        },
      ),
      [weightSlider(state, write)],
    ],
    paint(width) {
      const v = compute(state());
      const places = new Map();
      const pictures = [drawRanking(state(), v, width, places), drawSide(state(), v, width)];
      if (width === drawn) move(before, places);
      before = places;
      drawn = width;
      const [first, second, moved] = ["first", "second", "method"].map((name) =>
        rowOf(state(), model.get(name)),
      );
      return {
        pictures,
        numbers: [
          [first.name, `${num(v.estimates[state().data.methods.indexOf(first)] ?? 0)} %`],
          ["its weights", weightsOf(runOf(state(), first))],
          [second.name, `${num(v.estimates[state().data.methods.indexOf(second)] ?? 0)} %`],
          ["its weights", weightsOf(runOf(state(), second))],
          ["difference", v.low === null ? "–" : `${points(v.difference)} ${span(v.low, v.high)}`],
          [`seeds of ${moved.name}`, String(accuracies(state(), moved).length)],
        ],
        words: words(state(), v),
      };
    },
    dragged(_, px, py) {
      if (py > PAIR_HEIGHT) {
        write({ place: nearestPlace(rowOf(state(), model.get("method")), drawn, px) });
      }
    },
  });

  // The method clicked is compared with the one clicked before.
  const click = (event) => {
    const name = event.target.closest("[data-method]")?.dataset.method;
    if (name && name !== model.get("first")) write({ first: name, second: model.get("first") });
  };
  el.addEventListener("click", click);
  return () => {
    el.removeEventListener("click", click);
    stop();
  };
}

export default { render };
