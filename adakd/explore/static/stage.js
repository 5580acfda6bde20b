// The stage of a figure that is redrawn as a whole: pictures between controls, then numbers and a sentence.

const hatching = (id) => // to fill with url(#id)
  svg("pattern", { id, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, line(0, 0, 0, 6, "hatch"));

// Pictures between controls, then numbers and a sentence; redrawn when a trait or the width changes.
//   above, below: arrays of controls; `below` may hold arrays, whose sliders stand in columns
//   paint(width, two) -> { pictures, numbers: [[name, value]], words }, `two` where two pictures fit side by side
//   dragged(index, x, y): the pointer is held down on a picture of class ak-drags, at these coordinates of it
// Returns the function that takes it all down.
function stage({ model, el, kind, title, names, above, below, paint, dragged }) {
  const pictures = html("div", { class: "ak-pictures" }), numbers = html("div", { class: "ak-numbers" });
  const caption = html("p", { class: "ak-words" }), spoken = html("p", { class: "ak-spoken", "aria-live": "polite" });
  const columns = (part) => (Array.isArray(part) ? html("div", { class: "ak-sliders" }, part) : part);
  const root = html("div", { class: `ak ak-${kind}`, role: "group", "aria-label": title },
    [...above.map(columns), pictures, numbers, caption, spoken, ...below.map(columns)]);
  const controls = [...above, ...below].flat();
  el.replaceChildren(root);

  let held = -1; // each redraw replaces the pictures, so the one that is held is known by its number
  const move = (event) => {
    const drawing = pictures.children[held], box = drawing.getBoundingClientRect(), unit = drawing.viewBox.baseVal.width / box.width;
    dragged(held, (event.clientX - box.left) * unit, (event.clientY - box.top) * unit);
  };
  const release = () => { held = -1; removeEventListener("pointermove", move); };
  if (dragged) {
    pictures.addEventListener("pointerdown", (event) => {
      held = [...pictures.children].findIndex((drawing) => drawing.matches(".ak-drags") && drawing.contains(event.target));
      if (event.button || held < 0) return;
      move(event);
      addEventListener("pointermove", move);
      for (const end of ["pointerup", "pointercancel"]) addEventListener(end, release, { once: true });
    });
  }

  let waiting = 0, speaking = 0, known = 0, first = true;
  function draw() {
    waiting = 0;
    known = root.clientWidth;
    const room = known || 680, two = room >= 640;
    const shown = paint(Math.floor(two ? (room - 24) / 2 : room), two);
    controls.forEach((control) => control.refresh());
    pictures.replaceChildren(...shown.pictures);
    numbers.replaceChildren(...shown.numbers.map(([name, value]) => html("div", {}, [html("span", {}, name), html("b", {}, value)])));
    caption.textContent = shown.words;
    clearTimeout(speaking);
    if (!first) speaking = setTimeout(() => { spoken.textContent = caption.textContent; }, 600); // a page that opens does not talk
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
