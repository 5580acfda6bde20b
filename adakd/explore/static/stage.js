// The stage of a figure that is redrawn as a whole: pictures between controls, then numbers and a sentence.

import { html } from "./drawing.js";

export const SILENCE = 600; // milliseconds after a change until the sentence is spoken

export const readouts = (numbers) =>
  numbers.map(([name, value]) => html("div", {}, [html("span", {}, name), html("b", {}, value)]));

// The pointer held down on a picture of class ak-drags: dragged(index, x, y) with its coordinates.
function followPointer(pictures, dragged) {
  let held = -1; // each redraw replaces the pictures, so the one that is held is known by its number
  const move = (event) => {
    const drawing = pictures.children[held];
    const box = drawing.getBoundingClientRect();
    const unit = drawing.viewBox.baseVal.width / box.width;
    dragged(held, (event.clientX - box.left) * unit, (event.clientY - box.top) * unit);
  };
  const release = () => {
    held = -1;
    removeEventListener("pointermove", move);
  };
  pictures.addEventListener("pointerdown", (event) => {
    held = [...pictures.children].findIndex(
      (drawing) => drawing.matches(".ak-drags") && drawing.contains(event.target),
    );
    if (event.button || held < 0) return;
    move(event);
    addEventListener("pointermove", move);
    for (const end of ["pointerup", "pointercancel"]) {
      addEventListener(end, release, { once: true });
    }
  });
  return release;
}

// Pictures between controls, then numbers and a sentence; redrawn when a trait or the width changes.
//   above, below: arrays of controls, which may hold arrays, whose sliders stand in columns
//   paint(width, two) -> { pictures, numbers: [[name, value]], words }, `two` where two pictures fit side by side
//   dragged(index, x, y): the pointer is held down on a picture of class ak-drags, at these coordinates of it
// Returns the function that takes it all down.
export function stage({ model, el, kind, title, names, above, below, paint, dragged }) {
  const pictures = html("div", { class: "ak-pictures" });
  const numbers = html("div", { class: "ak-numbers" });
  const caption = html("p", { class: "ak-words" });
  const spoken = html("p", { class: "ak-spoken", "aria-live": "polite" });
  const columns = (part) =>
    Array.isArray(part) ? html("div", { class: "ak-sliders" }, part) : part;
  const root = html("div", { class: `ak ak-${kind}`, role: "group", "aria-label": title }, [
    ...above.map(columns),
    pictures,
    numbers,
    caption,
    spoken,
    ...below.map(columns),
  ]);
  const controls = [...above, ...below].flat();
  el.replaceChildren(root);
  const release = dragged ? followPointer(pictures, dragged) : () => {};

  let frame = 0;
  let speaking = 0;
  let known = 0; // the width that is drawn
  let first = true;
  function draw() {
    frame = 0;
    known = root.clientWidth;
    const room = known || 680;
    const two = room >= 640;
    const shown = paint(Math.floor(two ? (room - 24) / 2 : room), two);
    for (const control of controls) control.refresh();
    pictures.replaceChildren(...shown.pictures);
    numbers.replaceChildren(...readouts(shown.numbers));
    caption.textContent = shown.words;
    clearTimeout(speaking);
    if (!first) {
      // A page that opens does not talk.
      speaking = setTimeout(() => {
        spoken.textContent = caption.textContent;
      }, SILENCE);
    }
    first = false;
  }
  const schedule = () => {
    frame ||= requestAnimationFrame(draw);
  };
  const watcher = new ResizeObserver(() => {
    if (root.clientWidth !== known) schedule();
  });
  for (const name of names) model.on(`change:${name}`, schedule);
  watcher.observe(root);
  draw();
  return () => {
    release();
    watcher.disconnect();
    cancelAnimationFrame(frame);
    clearTimeout(speaking);
    for (const name of names) model.off(`change:${name}`, schedule);
  };
}
