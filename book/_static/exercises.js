/* Checks the answer to an exercise in the page (book/_ext/adakd_book/exercises.py). What it compares with are hashes of the
   numbers near the right one; which exercises are solved is kept in the browser where it keeps anything. */
(() => {
  const KEPT = "adakd-exercises";

  /* FNV-1a of 32 bits, of ASCII. */
  function hash(text) {
    let value = 0x811c9dc5;
    for (const letter of text) value = Math.imul(value ^ letter.charCodeAt(0), 0x01000193) >>> 0;
    return value;
  }

  function solved(name) {
    try {
      const names = new Set(JSON.parse(localStorage.getItem(KEPT) ?? "[]"));
      if (name) localStorage.setItem(KEPT, JSON.stringify([...names.add(name)]));
      return names;
    } catch {
      return new Set(); // a page without a memory
    }
  }

  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  /* A number as it is typed: with a point or a comma, and any minus; NaN where it is none. */
  function read(text) {
    const plain = text.trim().replace(/[−–]/g, "-").replace(",", ".");
    return plain === "" ? Number.NaN : Number(plain);
  }

  function verdict({ name, step, kind, choices, right, mistakes, hint }, text) {
    const isChoice = choices.length > 0;
    const value = isChoice ? 0 : read(text);
    if (isChoice ? !text : !Number.isFinite(value)) return [false, `Give ${kind}.`];
    const found = (place) => hash(`${name}:${place}`);
    if (isChoice)
      return right.includes(found(text)) ? [true, "Right."] : [false, `Not yet. ${hint}`];
    const exact = value / step;
    const place = Math.round(exact);
    if (step === 1 && exact !== place) return [false, `Give ${kind}.`];
    if (right.includes(found(place))) return [true, "Right."];
    const known = mistakes.find(([hashes]) => hashes.includes(found(place)));
    return [false, `Not yet. ${known ? known[1] : hint}`];
  }

  function start(box) {
    const exercise = JSON.parse(box.dataset.exercise);
    const id = `exercise-${exercise.name.replace(".", "-")}`;
    const said = make("output", { id: `${id}-said`, htmlFor: id });
    said.setAttribute("aria-live", "polite");
    const field = exercise.choices.length
      ? make(
          "select",
          { id },
          make("option", { value: "" }, "…"),
          ...exercise.choices.map((one) => make("option", { value: one }, one)),
        )
      : make("input", { id, type: "text", inputMode: "decimal", autocomplete: "off", size: 9 });
    field.setAttribute("aria-describedby", said.id);
    const prompt = exercise.choices.length
      ? exercise.prompt
      : `${exercise.prompt} (${exercise.kind})`;
    const form = make(
      "form",
      { noValidate: true },
      make("label", { htmlFor: id }, prompt),
      field,
      make("button", { type: "submit" }, "Check"),
      said,
    );
    const show = (isRight, text) => {
      box.classList.toggle("is-right", isRight);
      said.textContent = text;
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const [isRight, text] = verdict(exercise, field.value);
      if (isRight) solved(exercise.name);
      show(isRight, text);
    });
    field.addEventListener("keydown", (event) => event.stopPropagation()); // the theme turns pages by arrow keys
    box.replaceChildren(form);
    if (solved().has(exercise.name)) show(true, "You have solved it before.");
  }

  for (const box of document.querySelectorAll(".exercise[data-exercise]")) start(box);
})();
