// Sliders, menus and buttons. Each control is an element with refresh(), which takes it to the state it shows.

import { html } from "./drawing.js";
import { entryOf, num, signed } from "./words.js";

// JupyterLab takes the arrow keys for its cells, and the book's theme for its pages: handle them here.
export const KEYS = {
  ArrowRight: 1,
  ArrowUp: 1,
  ArrowLeft: -1,
  ArrowDown: -1,
  PageUp: 10,
  PageDown: -10,
  Home: -1e9,
  End: 1e9,
};

export function taken(event) {
  event.preventDefault();
  event.stopPropagation();
}

export const withModifier = (event) => event.altKey || event.ctrlKey || event.metaKey;

const keepsKeys = (event) => {
  if (event.key !== "Tab") event.stopPropagation();
};

export function slider(name, hint, [low, high, step], { read, write, show }) {
  const input = html("input", { type: "range", min: low, max: high, step });
  const output = html("output");
  const parts = [html("span", {}, name), input, output];
  const row = html("label", { title: hint, class: "ak-slider" }, parts);
  input.addEventListener("input", () => write(Number(input.value)));
  input.addEventListener("keydown", (event) => {
    const way = entryOf(KEYS, event.key);
    if (!way || withModifier(event)) return;
    taken(event);
    input.value = Math.min(high, Math.max(low, Number(input.value) + way * step));
    write(Number(input.value));
  });
  row.refresh = () => {
    if (Math.abs(Number(input.value) - read()) > step / 2) input.value = read();
    output.textContent = show();
    input.setAttribute("aria-valuetext", show());
  };
  return row;
}

// A slider over the logarithm of what read() gives, with so many digits.
export const logSlider = (name, hint, [low, high], { read, write, digits = 4 }) =>
  slider(name, hint, [Math.log10(low), Math.log10(high), 0.01], {
    read: () => Math.log10(read()),
    write: (x) => write(Math.min(high, Math.max(low, Number((10 ** x).toPrecision(digits))))),
    show: () => num(read()),
  });

// One of several texts: `options` is { key: [text, hint] }.
export function choice(legend, options, { read, write }) {
  const keys = Object.keys(options);
  const group = `ak${Math.random().toString(36).slice(2)}`;
  const radios = keys.map((key) => {
    const [text, hint = ""] = options[key];
    const input = html("input", { type: "radio", name: group, value: key });
    input.addEventListener("change", () => write(key));
    input.addEventListener("keydown", (event) => {
      if (!event.key.startsWith("Arrow")) return;
      taken(event);
      const next = (keys.indexOf(key) + KEYS[event.key] + keys.length) % keys.length;
      radios[next].firstChild.focus();
      write(keys[next]);
    });
    return html("label", { title: hint }, [input, html("span", {}, text)]);
  });
  const row = html("fieldset", { class: "ak-choice" }, [html("legend", {}, legend), ...radios]);
  row.refresh = () => {
    for (const { firstChild: input } of radios) input.checked = input.value === read();
  };
  return row;
}

// A menu in groups: { heading: { key: text } }.
export function menu(name, groups, { read, write }) {
  const options = (texts) =>
    Object.entries(texts).map(([value, text]) => html("option", { value }, text));
  const headings = Object.entries(groups).map(([heading, texts]) =>
    html("optgroup", { label: heading }, options(texts)),
  );
  const select = html("select", { "aria-label": name }, headings);
  select.addEventListener("change", () => write(select.value));
  select.addEventListener("keydown", keepsKeys);
  const row = html("label", { class: "ak-menu" }, [html("span", {}, name), select]);
  row.refresh = () => {
    select.value = read();
  };
  return row;
}

export function button(text, hint, act) {
  const element = html("button", { type: "button", title: hint }, text);
  element.addEventListener("click", act);
  return element;
}

// Buttons that each set several traits: { text: changes, or a function that gives them }.
export function scenes(name, settings, write) {
  const buttons = Object.entries(settings).map(([text, changes]) =>
    button(text, "", () => write(typeof changes === "function" ? changes() : changes)),
  );
  const row = html("div", { class: "ak-scenes" }, [html("span", {}, name), ...buttons]);
  return Object.assign(row, { refresh() {} });
}

// A checkbox, its text and a sample before the text.
export function toggle(name, hint, sample, write) {
  const input = html("input", { type: "checkbox", value: name });
  input.addEventListener("change", () => write(input.checked));
  input.addEventListener("keydown", keepsKeys);
  return html("label", { title: hint }, [input, sample, html("span", {}, name)]);
}

// What a figure does with its model: state() has all traits, write(changes) sets some, trait(name) goes to a control.
export function traits(model, names) {
  const write = (changes) => {
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    model.save_changes();
  };
  const trait = (name) => ({
    read: () => model.get(name),
    write: (value) => write({ [name]: value }),
    show: () => String(model.get(name)),
  });
  return {
    state: () => Object.fromEntries(names.map((name) => [name, model.get(name)])),
    write,
    trait,
    // With so many digits after the point.
    decimal: (name, digits) => ({
      ...trait(name),
      show: () => signed(model.get(name).toFixed(digits)),
    }),
  };
}
