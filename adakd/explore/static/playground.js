// The playground: a teacher and two students in the plane, trained while the reader watches.

import { fromAddress, toAddress } from "./address.js";
import { drawCharts, drawProbe, NAME, ofBoth, percent, shownAt } from "./charts.js";
import {
  button,
  choice,
  KEYS,
  logSlider,
  menu,
  scenes,
  slider,
  taken,
  traits,
  withModifier,
} from "./controls.js";
import { html } from "./drawing.js";
import { GALLERY, LENGTH, MENU, METHODS, RANGES, RULES, START } from "./from-python.js";
import { Lesson, STUDENTS } from "./lesson.js";
import { sum } from "./math.js";
import { Objective } from "./objective.js";
import { CELLS, GRID_POINTS, insidePlane, makePlane, softmaxRows } from "./plane.js";
import { readouts, SILENCE } from "./stage.js";
import { makeTour, stopOf } from "./tour.js";
import { mapValues, num } from "./words.js";

export { fromAddress, Lesson, Objective, stopOf, toAddress };

const PACE = { 1: "slow", 3: "medium", 10: "fast" }; // training steps a frame
const FRAME = 14; // milliseconds of training a frame, at most
const PATIENCE = 400; // milliseconds until a long way is shown
const MOST = RANGES.step[1];
const WHO = ["teacher", ...STUDENTS];
const CALLED = mapValues(MENU, (methods) =>
  mapValues(methods, (text, method) => `${method}: ${text}`),
);
const ALL_CALLED = Object.assign({}, ...Object.values(CALLED));

// What a lesson depends on.
const SETTING = Object.keys(START).filter((name) => !["view", "probe", "step"].includes(name));
const settingKey = (state) => JSON.stringify(SETTING.map((name) => state[name]));

// ---- numbers ----

export function compute(state) {
  const lesson = new Lesson(state);
  lesson.train(state.step);
  return measured(lesson, state, lesson.measure());
}

// All that is shown; the row is the last one measured.
function measured(lesson, state, row) {
  const { a, b, teacher } = lesson.correct;
  const n = a.length;
  let lead = 0;
  let apart = 0;
  for (let i = 0; i < n; i += 1) {
    lead += b[i] - a[i];
    apart += Number(b[i] !== a[i]);
  }
  const probe = lesson.soft(shownAt(state), Float64Array.from(state.probe), 1);
  return {
    ...row,
    teacher: (100 * sum(teacher)) / n,
    lead: (100 * lead) / n,
    error: (100 * Math.sqrt((apart - lead ** 2 / n) / n)) / Math.sqrt(n),
    student: [...probe.q],
    told: [...probe.p],
    told_tau: probe.tau ? probe.tau[0] : null,
  };
}

// ---- words ----

const leadText = (v) =>
  `${v.lead < 0 ? "−" : "+"}${Math.abs(v.lead).toFixed(1)} ± ${(1.96 * v.error).toFixed(1)}`;

export function words(state, v) {
  if (!v.step) {
    return (
      "Two students with the same first weights, which name classes at random. Press play: both see the same " +
      "batches, and each learns by its own loss."
    );
  }
  const points = Math.abs(v.lead).toFixed(1);
  const isClear = Math.abs(v.lead) > 1.96 * v.error;
  const verdict = isClear
    ? `${v.lead > 0 ? "B" : "A"} is ahead by ${points} points, more than chance would do`
    : `the two are ${points} points apart, which may be chance`;
  const soft = STUDENTS.filter((who) => v[`tau_${who}`] !== null).map(
    (who) => `${NAME[who]} is taught at τ = ${num(v[`tau_${who}`])}`,
  );
  return (
    `After ${v.step} steps on ${state.transfer} points A (${state.a}) names ${percent(v.accuracy_a)} of 1000 held-out ` +
    `points, B (${state.b}) ${percent(v.accuracy_b)}, and their teacher ${percent(v.teacher)}: ${verdict}. ` +
    `${soft.length ? `${soft.join(", ")}.` : ""}`
  );
}

// ---- controls ----

// A control that is not there where it would do nothing.
function hiding(control, when) {
  const { refresh } = control;
  control.refresh = () => {
    control.hidden = !when();
    if (!control.hidden) refresh();
  };
  return control;
}

// A student's temperature: its own, or the published one.
function tauOf(state, who) {
  const method = METHODS[state[who]];
  return state[`tau_${who}`] ?? method.ruleOptions?.tau ?? RULES[method.rule].options.tau;
}

const temperatureOf = (who, state, change) =>
  hiding(
    logSlider("temperature τ", "How soft the teacher’s probabilities are", [0.5, 50], {
      read: () => tauOf(state(), who),
      write: (tau) => change({ [`tau_${who}`]: tau }),
      digits: 3,
    }),
    () => Boolean(METHODS[state()[who]].readsTau),
  );

function studentControls(who, state, change) {
  const method = () => METHODS[state()[who]];
  const trait = (name) => ({
    read: () => state()[`${name}_${who}`],
    write: (value) => change({ [`${name}_${who}`]: value }),
  });
  const formula = html("p", { class: "ak-formula" });
  formula.refresh = () => {
    formula.textContent = method().formula;
  };
  const chosen = menu(`student ${NAME[who]}`, CALLED, {
    read: () => state()[who],
    write: (name) =>
      change({
        [who]: name,
        [`tau_${who}`]: null,
        [`weight_${who}`]: null,
        [`standardize_${who}`]: "published",
      }),
  });
  const weight = logSlider("weight λ", "Of the teacher’s term in the loss", [0.01, 100], {
    ...trait("weight"),
    read: () => state()[`weight_${who}`] ?? method().kdWeight,
    digits: 3,
  });
  const kinds = {
    published: "as published",
    off: "off",
    population: "population σ",
    sample: "sample σ",
  };
  const standardized = menu("standardize", { "": kinds }, trait("standardize"));
  const { refresh } = standardized;
  standardized.refresh = () => {
    refresh();
    const published = method().standardize ?? "off";
    standardized.querySelector("option").textContent = `as published: ${published}`;
  };
  const controls = [
    chosen,
    formula,
    temperatureOf(who, state, change),
    hiding(weight, () => Boolean(method().divergence)),
    hiding(standardized, () => Boolean(method().divergence)),
  ];
  const refreshAll = () => {
    for (const control of controls) control.refresh();
  };
  return Object.assign(html("div", { class: `ak-student ${who}` }, controls), {
    refresh: refreshAll,
  });
}

function sharedControls(state, change) {
  const trait = (name) => ({
    read: () => state()[name],
    write: (value) => change({ [name]: value }),
    show: () => String(state()[name]),
  });
  return [
    slider("classes K", "Number of classes", [3, 10, 1], trait("classes")),
    slider("noise", "How far points lie from their place", [0.02, 0.4, 0.01], {
      read: () => state().noise,
      write: (x) => change({ noise: Number(x.toFixed(2)) }),
      show: () => state().noise.toFixed(2),
    }),
    slider("transfer set", "Points that the students see; the teacher saw 1000", [1, 3, 0.05], {
      read: () => Math.log10(state().transfer),
      write: (x) => change({ transfer: Math.round(10 ** x) }),
      show: () => String(state().transfer),
    }),
    slider(
      "student’s width",
      "Units in each of the students’ two hidden layers; the teacher has 24",
      [2, 32, 1],
      trait("width"),
    ),
    logSlider("learning rate", "Of the students", [0.001, 0.5], { ...trait("lr"), digits: 3 }),
    slider("seed", "Of points, first weights and batches", [0, 19, 1], trait("seed")),
  ];
}

const VIEWS = {
  teacher: ["as it predicts"],
  a: ["as A sees it"],
  b: ["as B sees it"],
  tau: ["how soft, where", "B’s temperature"],
};
const WORLDS = {
  ring: ["ring"],
  pair: ["confusable pair"],
  sunflower: ["sunflower"],
  spirals: ["spirals"],
};

// The question that is set, if one is, and its answer, folded.
function questionBox(state, gallery) {
  const question = html("p");
  const answer = html("details", {}, [html("summary", {}, "What is there to be found"), html("p")]);
  const box = html("div", { class: "ak-asked" }, [question, answer]);
  box.refresh = () => {
    const now = settingKey(state());
    const isSet = (one) => settingKey({ ...START, seed: state().seed, ...one.state }) === now;
    const found = GALLERY.find(isSet);
    const text = found?.question ?? "A setting of your own. Its address can be shared.";
    if (question.textContent !== text) {
      question.textContent = text;
      answer.open = false;
      answer.lastChild.textContent = found?.answer ?? "";
    }
    answer.hidden = !found;
    for (const one of gallery.querySelectorAll("button")) {
      one.setAttribute("aria-pressed", String(one.textContent === found?.name));
    }
  };
  return box;
}

// ---- painting the planes ----

// Whose temperature colors the plane.
const softStudent = (state) => ["b", "a"].find((who) => METHODS[state[who]].divergence);

// Paints what has changed since the last time; `drawn` remembers it.
function paintPlanes(planes, lesson, state, { playing, drawn }) {
  const K = state.classes;
  drawn.probabilities ??= new Float64Array(CELLS * 10);
  // While they train the students are painted in turn.
  drawn.turn = drawn.turn === "a" ? "b" : "a";
  for (const who of playing ? [drawn.turn] : STUDENTS) {
    const logits = lesson.students[who].network.forward(GRID_POINTS, CELLS);
    planes[who].paint(softmaxRows(logits, CELLS, K, drawn.probabilities), K);
  }
  // The teacher's map moves with temperatures that follow the student, and while they train now and then.
  const who = state.view === "tau" ? softStudent(state) : state.view;
  const { rule } = METHODS[state[who]] ?? {};
  const moves = rule && rule !== "fixed";
  const told = [state.view, moves && (playing ? lesson.steps >> 4 : lesson.steps)].join();
  if (drawn.told === told) return;
  drawn.told = told;
  const { p, tau } = lesson.soft(who ?? "teacher", GRID_POINTS, CELLS);
  if (state.view === "tau" && tau) {
    const ends = new Set(planes.teacher.heat(tau).map(num));
    drawn.title = `${NAME[who]}’s τ, ${[...ends].join(" to ")}`;
  } else {
    planes.teacher.paint(p, K);
    drawn.title = tau ? `Teacher, as ${NAME[who]} sees it` : "Teacher";
  }
}

function namePlanes(planes, state, v, title) {
  const correct = (value) => `${percent(value)} of held-out points.`;
  planes.teacher.say(title, `The teacher’s regions: ${correct(v.teacher)}`);
  for (const who of STUDENTS) {
    planes[who].say(
      `${NAME[who]} · ${ALL_CALLED[state[who]]}`,
      `Regions of student ${NAME[who]}, ${state[who]}: ${correct(v[`accuracy_${who}`])}`,
    );
  }
}

const numbersOf = (v) => [
  ["teacher", percent(v.teacher)],
  ["A, held out", percent(v.accuracy_a)],
  ["B, held out", percent(v.accuracy_b)],
  ["B − A, points", leadText(v)],
  ["τ, A / B", ofBoth(v, "tau_", num)],
  ["ρ, A / B", ofBoth(v, "distance_", (distance) => (1 - distance).toFixed(3))],
];

// ---- stage ----

function render({ model, el }) {
  const { state, write } = traits(model, Object.keys(START));
  const page = el.closest(".live-figure"); // on a page without a kernel: its address keeps the setting
  let lesson = null;
  let key = ""; // of the lesson's setting
  let goal = model.get("step");
  let limit = LENGTH; // where playing stops
  let playing = false;
  let pace = 3;
  let hover = null; // where the mouse is, in the plane
  let frame = 0;
  let speaking = 0;
  let quiet = true; // until it has arrived for the first time
  let waitingSince = 0;
  let drawn = {}; // what the last redraw showed

  const isFirst = () => document.querySelector(".ak-playground") === root;
  const keepAddress = () => {
    if (!page || !isFirst()) return;
    try {
      history.replaceState(null, "", tour.isOpen() ? tour.address() : toAddress(state()));
    } catch {
      // A page that may not say where it is.
    }
  };
  const change = (changes) => {
    write(changes);
    keepAddress();
  };
  const schedule = () => {
    frame ||= requestAnimationFrame(tick);
  };

  // What the page tells a kernel: how far it is, what it measured, what the networks are.
  const report = () => {
    const { a, b } = lesson.students;
    const weights = mapValues(
      { teacher: lesson.teacher, a: a.network, b: b.network },
      (network) => [...network.weights],
    );
    write({ step: lesson.steps, history: [...lesson.rows], weights });
  };
  const start = () => {
    limit = tour.limit(goal) ?? Math.min(MOST, LENGTH * Math.floor(goal / LENGTH + 1));
    playing = true;
    schedule();
  };
  const pause = () => {
    if (playing && lesson) report();
    playing = false;
    schedule();
  };
  const goTo = (step) => {
    pause();
    goal = step;
    write({ step });
    schedule();
  };

  // ---- its elements ----

  const playButton = () => {
    const play = button("▶ play", "Train, and watch", () => (playing ? pause() : start()));
    play.classList.add("ak-play");
    play.refresh = () => {
      const goesOn = lesson?.steps && lesson.steps % LENGTH === 0;
      play.textContent = playing ? "❚❚ pause" : goesOn ? "▶ play on" : "▶ play";
    };
    return play;
  };
  const play = playButton();
  const once = button("one step", "Train on one batch", () => goTo(Math.min(MOST, goal + 1)));
  const again = button("restart", "Back to the first weights", () => goTo(0));
  const speed = menu(
    "pace",
    { "": PACE },
    {
      read: () => String(pace),
      write: (value) => {
        pace = Number(value);
      },
    },
  );
  const timeline = slider("step", "How long both have trained", [0, LENGTH, 1], {
    read: () => goal,
    write: goTo,
    show: () => String(lesson ? lesson.steps : 0),
  });
  const refreshTimeline = timeline.refresh;
  timeline.refresh = () => {
    timeline.querySelector("input").max = Math.max(LENGTH, LENGTH * Math.ceil(goal / LENGTH));
    refreshTimeline();
  };
  const settings = Object.fromEntries(
    GALLERY.map((one) => [one.name, () => ({ ...START, step: 0, ...one.state })]),
  );
  const gallery = scenes("Questions:", settings, (changes) => {
    pause();
    change(changes);
  });
  const question = questionBox(state, gallery);
  const viewed = { read: () => model.get("view"), write: (view) => change({ view }) };
  const views = choice("Teacher shown", VIEWS, viewed);
  const worlds = choice("Classes", WORLDS, {
    read: () => model.get("data"),
    write: (data) => change({ data }),
  });
  const students = STUDENTS.map((who) => studentControls(who, state, change));
  const shared = sharedControls(state, change);
  const controls = [
    play,
    timeline,
    gallery,
    question,
    speed,
    views,
    worlds,
    ...students,
    ...shared,
  ];

  const planes = Object.fromEntries(WHO.map((who) => [who, makePlane(who)]));
  const charts = html("div", { class: "ak-charts" });
  const numbers = html("div", { class: "ak-numbers" });
  const caption = html("p", { class: "ak-words" });
  const spoken = html("p", { class: "ak-spoken", "aria-live": "polite" });
  const root = html(
    "div",
    { class: "ak ak-playground", role: "group", "aria-label": "Playground of distillation" },
    [
      gallery,
      question,
      html("div", { class: "ak-bar" }, [play, once, again, speed, timeline]),
      views,
      html("div", { class: "ak-pictures" }, [
        html("div", { class: "ak-planes" }, Object.values(planes)),
        charts,
      ]),
      numbers,
      caption,
      spoken,
      html("div", { class: "ak-students" }, students),
      worlds,
      html("div", { class: "ak-sliders" }, shared),
    ],
  );
  root.frames = 0; // drawn while playing
  const tour = makeTour({
    root,
    question,
    controls: {
      play: () => playButton(),
      view: () => choice("Teacher shown", VIEWS, viewed),
      a: () => temperatureOf("a", state, change),
      b: () => temperatureOf("b", state, change),
    },
    set(changes) {
      pause();
      change({ ...START, ...changes });
    },
    isAt(stop) {
      const now = state();
      const wanted = { ...START, ...stop.state };
      return SETTING.every((name) => name in stop.until || now[name] === wanted[name]);
    },
    redraw: schedule,
    left: keepAddress,
  });
  root.prepend(tour.element);
  el.replaceChildren(root);

  // ---- the cross ----

  for (const plane of Object.values(planes)) {
    plane.box.addEventListener("pointermove", (event) => {
      if (event.buttons) change({ probe: plane.place(event) });
      else if (event.pointerType === "mouse") {
        hover = plane.place(event);
        schedule();
      }
    });
    plane.box.addEventListener("pointerleave", () => {
      hover = null;
      schedule();
    });
    plane.box.addEventListener("pointerdown", (event) => {
      hover = null;
      change({ probe: plane.place(event) });
    });
    plane.box.addEventListener("keydown", (event) => {
      if (!event.key.startsWith("Arrow") || withModifier(event)) return;
      taken(event);
      const axis = /Up|Down/.test(event.key) ? 1 : 0;
      const probe = [...model.get("probe")];
      probe[axis] = insidePlane(probe[axis] + 0.05 * KEYS[event.key]);
      change({ probe });
    });
  }

  // ---- frames ----

  // A lesson for the setting as it is, not yet trained.
  function prepare(now) {
    lesson = new Lesson(now);
    key = settingKey(now);
    drawn = {};
    for (const who of WHO) planes[who].points(lesson, now);
    waitingSince = performance.now();
  }

  function tick() {
    frame = 0;
    const s = state();
    if (settingKey(s) !== key || lesson.steps > goal) prepare(s);
    if (playing) goal = Math.min(limit, goal + pace);
    const now = performance.now();
    const arrived = lesson.train(goal, now + FRAME);
    root.setAttribute("aria-busy", String(!arrived));
    if (arrived || now - waitingSince > PATIENCE) {
      draw(s, arrived);
      if (playing) root.frames += 1;
    }
    if (arrived && playing && goal >= limit) pause();
    if (arrived && playing && goal % 100 < pace) report();
    if (!arrived || playing) schedule();
  }

  // On the way to a far step it shows how far it is, and does not say so.
  function draw(s, arrived) {
    const width = root.clientWidth || 680;
    const chart = Math.floor(width >= 640 ? (width - 24) / 2 : width);
    const probe = hover ?? s.probe;
    const tens = Math.floor(lesson.steps / 10);
    const settled = [tens, key, s.view, width, playing].join();
    const moved = [lesson.steps, probe, s.view, width].join();
    paintPlanes(planes, lesson, s, { playing, drawn });
    for (const who of WHO) planes[who].mark(probe);
    if (drawn.settled !== settled || !playing) {
      const v = measured(lesson, s, playing ? lesson.rows.at(-1) : lesson.measure());
      charts.replaceChildren(...drawCharts(s, lesson, v, probe, chart));
      numbers.replaceChildren(...readouts(numbersOf(v)));
      caption.textContent = words(s, v);
      namePlanes(planes, s, v, drawn.title);
      clearTimeout(speaking);
      if (!quiet && !playing && arrived) {
        speaking = setTimeout(() => {
          spoken.textContent = caption.textContent;
        }, SILENCE);
      }
      quiet &&= !arrived;
      if (arrived && !playing) tour.refresh(s, v);
    } else if (drawn.moved !== moved) {
      charts.replaceChild(drawProbe(s, lesson, probe, chart), charts.firstChild);
    }
    Object.assign(drawn, { settled, moved, width });
    for (const control of controls) control.refresh();
    tour.light();
  }

  // ---- the model and the address ----

  const onStep = () => {
    if (model.get("step") === lesson?.steps) return;
    goal = model.get("step");
    schedule();
  };
  const onHash = () => {
    const found = fromAddress(location.hash);
    if (found) write(found);
    const stop = stopOf(location.hash);
    if (stop >= 0) tour.open(stop);
  };
  const followed = Object.keys(START).filter((name) => name !== "step");
  const watcher = new ResizeObserver(() => {
    if (root.clientWidth !== drawn.width) schedule();
  });
  if (page && isFirst()) {
    onHash();
    addEventListener("hashchange", onHash);
  }
  goal = model.get("step");
  for (const name of followed) model.on(`change:${name}`, schedule);
  model.on("change:step", onStep);
  watcher.observe(root);
  tick();
  return () => {
    playing = false;
    cancelAnimationFrame(frame);
    frame = -1; // nothing is scheduled any more
    clearTimeout(speaking);
    watcher.disconnect();
    removeEventListener("hashchange", onHash);
    for (const name of followed) model.off(`change:${name}`, schedule);
    model.off("change:step", onStep);
  };
}

export default { render };
