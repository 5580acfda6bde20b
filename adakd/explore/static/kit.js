// What every live figure is made of: small mathematics, words, drawing and controls. No kernel, no framework,
// no request. adakd.explore.live puts this text before each figure's own; all are one module.

// ---- mathematics ----------------------------------------------------------------------------------------------
// A second statement of adakd's formulas: tests/explore compares the two to 1e-6.

export const C_UPPER = (1 + Math.sqrt(3)) / 2; // c2+, Eq. 20

const sum = (v) => v.reduce((a, b) => a + b, 0);
const mean = (v) => sum(v) / v.length;
const dot = (a, b) => mean(a.map((x, k) => x * b[k])); // a mean of products, as in Pearson's correlation
const highest = (v) => v.reduce((a, b) => Math.max(a, b), -Infinity);
const lowest = (v) => v.reduce((a, b) => Math.min(a, b), Infinity);

export function standardize(v) { // population standard deviation
  const m = mean(v), c = v.map((x) => x - m), s = Math.sqrt(dot(c, c));
  return c.map((x) => x / s);
}

export function logSoftmax(z, tau) {
  const top = highest(z), total = Math.log(sum(z.map((x) => Math.exp((x - top) / tau))));
  return z.map((x) => (x - top) / tau - total);
}

export const softmax = (z, tau) => logSoftmax(z, tau).map(Math.exp);

export function loss(student, teacher, tau, tauTeacher = tau) { // tau_s tau_t KL(teacher || student)
  const p = logSoftmax(teacher, tauTeacher), q = logSoftmax(student, tau);
  return tau * tauTeacher * sum(p.map((l, k) => Math.exp(l) * (l - q[k])));
}

// ---- names ----------------------------------------------------------------------------------------------------

// What a table has under a name that comes from outside, an address or a key: toString is no entry of it.
const entryOf = (table, name) => (Object.hasOwn(table, name) ? table[name] : undefined);

// ---- words and numbers ----------------------------------------------------------------------------------------

const signed = (text) => text.replace("-", "−");

function num(x) { // about three digits
  const a = Math.abs(x), digits = a >= 100 ? 0 : a >= 10 ? 1 : a >= 1 ? 2 : 3;
  if (a < 5e-5) return "0";
  return signed(a < 0.01 ? String(Number(x.toPrecision(2))) : x.toFixed(digits));
}

// ---- drawing --------------------------------------------------------------------------------------------------

function node(space, tag, attributes, children) {
  const e = space ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    e.setAttribute(key, typeof value === "number" ? Math.round(value * 100) / 100 : value);
  }
  e.append(...[].concat(children ?? []));
  return e;
}
const html = (tag, attributes, children) => node(false, tag, attributes, children);
const svg = (tag, attributes, children) => node(true, tag, attributes, children);
const label = (x, y, words, kind = "", anchor = "start") => svg("text", { x, y, class: kind, "text-anchor": anchor }, words);
const line = (x1, y1, x2, y2, kind) => svg("line", { x1, y1, x2, y2, class: kind });
const circle = (cx, cy, r, kind) => svg("circle", { cx, cy, r, class: kind });
const rect = (x, y, right, bottom, kind = "", more = {}) => svg("rect", { x, y, width: right - x, height: bottom - y, class: kind, ...more });
const path = (points, kind) => // points that are not finite break the line
  svg("path", { class: kind, d: points.reduce(([d, pen], [x, y]) =>
    Number.isFinite(x + y) ? [`${d}${pen}${x.toFixed(2)} ${y.toFixed(2)}`, "L"] : [d, "M"], ["", "M"])[0] });

function ticks(top) { // two to four round values in (0, top]
  const power = 10 ** Math.floor(Math.log10(top));
  const step = [0.2, 0.5, 1, 2].map((m) => m * power).find((s) => top / s < 4.5) || 5 * power;
  return Array.from({ length: Math.floor(top / step + 1e-9) }, (_, i) => (i + 1) * step);
}
const tickText = (t) => signed(String(Number(t.toPrecision(6))));

// A picture says in one sentence what it shows; `parts` may hold falsy ones.
function picture(width, height, sentence, parts) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": sentence }, parts.filter(Boolean));
}

// ---- controls -------------------------------------------------------------------------------------------------

// JupyterLab takes the arrow keys for its cells, and the book's theme for its pages: handle them here.
const KEYS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -1e9, End: 1e9 };

// Each control is an element with refresh(), which takes it to the state it shows.
function slider(name, hint, low, high, step, read, write, show) {
  const input = html("input", { type: "range", min: low, max: high, step });
  const output = html("output", {}), row = html("label", { title: hint, class: "ak-slider" }, [html("span", {}, name), input, output]);
  input.addEventListener("input", () => write(Number(input.value)));
  input.addEventListener("keydown", (event) => {
    if (!entryOf(KEYS, event.key) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    input.value = Math.min(high, Math.max(low, Number(input.value) + KEYS[event.key] * step));
    write(Number(input.value));
  });
  row.refresh = () => {
    if (Math.abs(Number(input.value) - read()) > step / 2) input.value = read();
    output.textContent = show();
    input.setAttribute("aria-valuetext", show());
  };
  return row;
}

function choice(legend, options, read, choose) { // options: { key: [text, hint] }
  const keys = Object.keys(options), group = "ak" + Math.random().toString(36).slice(2);
  const radios = keys.map((key) => {
    const [text, hint] = options[key], input = html("input", { type: "radio", name: group, value: key });
    input.addEventListener("change", () => choose(key));
    input.addEventListener("keydown", (event) => {
      if (!/^Arrow/.test(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      const next = (keys.indexOf(key) + KEYS[event.key] + keys.length) % keys.length;
      radios[next].firstChild.focus();
      choose(keys[next]);
    });
    return html("label", { title: hint }, [input, html("span", {}, text)]);
  });
  const row = html("fieldset", { class: "ak-choice" }, [html("legend", {}, legend), ...radios]);
  row.refresh = () => radios.forEach(({ firstChild }) => { firstChild.checked = firstChild.value === read(); });
  return row;
}

function menu(name, groups, read, choose) { // groups: { heading: { key: text } }
  const entries = (part, make) => Object.entries(part).map(make);
  const select = html("select", { "aria-label": name }, entries(groups, ([heading, options]) =>
    html("optgroup", { label: heading }, entries(options, ([value, text]) => html("option", { value }, text)))));
  select.addEventListener("change", () => choose(select.value));
  select.addEventListener("keydown", (event) => { if (event.key !== "Tab") event.stopPropagation(); });
  const row = html("label", { class: "ak-menu" }, [html("span", {}, name), select]);
  row.refresh = () => { select.value = read(); };
  return row;
}

function scenes(name, settings, write) { // settings: { text: changes, or a function that gives them }
  const buttons = Object.entries(settings).map(([text, changes]) => {
    const button = html("button", { type: "button" }, text);
    button.addEventListener("click", () => write(typeof changes === "function" ? changes() : changes));
    return button;
  });
  return Object.assign(html("div", { class: "ak-scenes" }, [html("span", {}, name), ...buttons]), { refresh() {} });
}

// What a figure does with its model: state() reads all traits, write(changes) sets some.
function traits(model, names) {
  return {
    state: () => Object.fromEntries(names.map((name) => [name, model.get(name)])),
    write(changes) {
      for (const [name, value] of Object.entries(changes)) model.set(name, value);
      model.save_changes();
    },
  };
}
