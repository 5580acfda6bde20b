// The guided tour: a panel under the figure that goes through TOUR (adakd/explore/tour.py). It sets what a stop sets, marks
// the parts that it is about, asks, waits until the reader has done what it says, and then tells what is seen.

import { button } from "./controls.js";
import { html, newId } from "./drawing.js";
import { PARTS, TOUR } from "./from-python.js";
import { num } from "./words.js";

const MARK = "#tour=";
const KEPT = "adakd-tour"; // in localStorage, where there is one: the number of the stop at which it was left
const FOCUSABLE = "input, select, button, [tabindex='0']";

// The stop that an address names, counted from 0; -1 if it names none.
export function stopOf(hash) {
  const number = hash.startsWith(MARK) ? Number(hash.slice(MARK.length)) : 0;
  return TOUR[number - 1] ? number - 1 : -1;
}

// Its memory is a convenience that a page may not have.
function inStorage(act) {
  try {
    return act(localStorage);
  } catch {
    return undefined;
  }
}

// What a stop may wait for and speak of: the state, what is measured, and the soft label's two highest bars.
function seenIn(state, v) {
  const [top, second] = [...v.told].sort((one, two) => two - one);
  return { ...v, ...state, step: v.step, top, second, even: second / top };
}

const holds = (allowed, value) =>
  typeof allowed[0] === "string"
    ? allowed.includes(value)
    : value >= allowed[0] && value <= allowed[1];

const filled = (text, seen) =>
  text.replace(/\{(\w+)\}/g, (_, name) =>
    name === "lead" ? Math.abs(seen.lead).toFixed(1) : num(seen[name]),
  );

// `root` is the figure, `question` its own box of questions, and `controls` makes controls for the panel by name. set(state)
// brings the figure to a stop's setting, isAt(stop) says whether it is still there but for what the stop has the reader
// change, redraw() leads to refresh(), and left() is called when the tour is over.
export function makeTour({ root, question, controls, set, isAt, redraw, left }) {
  let place = -1; // of the stop that is shown
  let kept = stopOf(MARK + inStorage((storage) => storage.getItem(KEPT))); // where it was left
  let answer = -1; // that the reader has given
  let done = false;
  let isNew = false; // until it has been scrolled to
  let made = []; // its controls
  const panel = html("section", { class: "ak-tour", "aria-label": "Guided tour" });
  const launch = button("", "", () => begin(Math.max(0, place < 0 ? kept : place)));
  const element = html("div", { class: "ak-scenes" }, launch);
  const text = html("p", { id: newId() });
  const told = html("p", { class: "ak-told", "aria-live": "polite" });
  const heading = html("h4", { tabindex: -1, "aria-describedby": text.id });
  const doing = html("div", { class: "ak-bar" });
  const row = html("div", { class: "ak-scenes" });
  panel.append(heading, text, told, doing, row);

  const parts = () =>
    TOUR[place].lit.map((name) => root.querySelector(PARTS[name])).filter(Boolean); // charts come with the first drawing
  const control = () =>
    parts()
      .flatMap((part) => [part, ...part.querySelectorAll(FOCUSABLE)])
      .find((part) => part.matches(FOCUSABLE) && part.checkVisibility());

  function nameLaunch() {
    const at = `at ${kept + 1} of ${TOUR.length}`;
    launch.textContent =
      kept > 0 ? `Go on with the tour, ${at}` : `Guided tour, ${TOUR.length} stops`;
  }

  function keep(at) {
    kept = at;
    inStorage((storage) => storage.setItem(KEPT, at + 1));
    nameLaunch();
  }

  function light() {
    const lit = place < 0 ? [] : parts();
    for (const part of root.querySelectorAll(".ak-lit")) {
      if (!lit.includes(part)) part.classList.remove("ak-lit");
    }
    for (const part of lit) part.classList.add("ak-lit");
    question.hidden = place >= 0 && !lit.includes(question); // it asks by itself
    const first = place >= 0 && root.querySelector(PARTS[TOUR[place].lit[0]]);
    if (isNew && first) {
      first.scrollIntoView();
      isNew = false;
    }
    for (const one of made) one.refresh();
  }

  // What the stop says now, and its buttons, which stay while nothing but the message changes: one may have the focus.
  function show(message = "", isElsewhere = false) {
    const { ask, answers, act } = TOUR[place];
    const asking = ask && answer < 0;
    const line = message || (asking ? ask : act);
    if (told.textContent !== line) told.textContent = line;
    const key = [place, asking, done, isElsewhere].join();
    if (row.dataset.key === key) return;
    row.dataset.key = key;
    const last = place === TOUR.length - 1;
    const on = button(last ? "Finish" : done ? "Next" : "Skip", "", next);
    on.classList.toggle("ak-play", done || last);
    const first = [
      ...(asking ? answers.map((one, i) => button(one, "", () => choose(i))) : []),
      act &&
        !TOUR[place].controls.length &&
        !done &&
        button("Take me there", "Focus on what is marked", go),
      isElsewhere && button("Set it again", "", () => begin(place)),
    ];
    const ways = [
      place > 0 && button("Back", "", () => begin(place - 1)),
      on,
      !last && button("Leave", "The tour can be resumed here (Escape)", close),
    ];
    row.replaceChildren(...first.filter(Boolean), html("span", {}, ways.filter(Boolean)));
    doing.hidden = asking;
  }

  function begin(at) {
    place = at;
    answer = -1;
    done = false;
    isNew = true;
    keep(at);
    heading.textContent = `${at + 1} of ${TOUR.length} · ${TOUR[at].name}`;
    text.textContent = TOUR[at].text;
    root.append(panel);
    row.dataset.key = "";
    set(TOUR[at].state);
    made = TOUR[at].controls.map((name) => controls[name]());
    doing.replaceChildren(...made);
    light();
    show();
    heading.focus({ preventScroll: true });
  }

  function choose(i) {
    answer = i;
    show();
    panel.querySelector(FOCUSABLE).focus({ preventScroll: true });
    redraw();
  }

  const go = () => control()?.focus();
  const next = () => (place < TOUR.length - 1 ? begin(place + 1) : finish());

  function close() {
    if (place < 0) return;
    place = -1;
    panel.remove();
    light();
    launch.focus();
    left();
  }

  function finish() {
    keep(0);
    close();
  }

  // After each redraw of a figure that rests.
  function refresh(state, v) {
    if (place < 0) return;
    const stop = TOUR[place];
    if (!stop.act || (stop.ask && answer < 0)) return;
    if (!isAt(stop)) {
      show("This is another setting than the tour's.", true);
      return;
    }
    const seen = seenIn(state, v);
    const names = Object.entries(stop.until);
    if (!names.every(([name, allowed]) => holds(allowed, seen[name]))) {
      if (!done) show();
      return;
    }
    const first = !done;
    done = true;
    const verdict = stop.ask
      ? `${answer === stop.right ? "As you thought" : `You said: ${stop.answers[answer]}`}. `
      : "";
    const held = document.activeElement;
    const leads = held?.matches(".ak button");
    show(verdict + filled(stop.after, seen));
    // The focus follows from a button, and not from a slider that the reader still moves.
    if (first && leads) row.querySelector(".ak-play").focus({ preventScroll: true });
  }

  function onKey(event) {
    if (place < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const goes = event.key === "Enter" && done && !event.target.closest("button, summary, a");
    if (event.key !== "Escape" && !goes) return;
    event.preventDefault();
    event.stopPropagation();
    if (goes) next();
    else close();
  }
  root.addEventListener("keydown", onKey, true);
  nameLaunch();

  return {
    element,
    open: begin,
    light,
    refresh,
    isOpen: () => place >= 0,
    // Its stop's last step to train to, from `step` on; undefined where it has none.
    limit(step) {
      const last = place < 0 ? undefined : TOUR[place].until.step?.[0];
      return last > step ? last : undefined;
    },
    address: () => MARK + (place + 1),
  };
}
