// Elements of the page, and the small vocabulary of shapes that the pictures are drawn with.

import { signed } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    const text = typeof value === "number" ? Math.round(value * 100) / 100 : value;
    element.setAttribute(key, text);
  }
  element.append(...[children ?? []].flat());
  return element;
}

export const html = (tag, attributes, children) =>
  fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

// ---- shapes ----

export const label = (x, y, words, kind = "", anchor = "start") =>
  svg("text", { x, y, class: kind, "text-anchor": anchor }, words);
export const line = (x1, y1, x2, y2, kind) => svg("line", { x1, y1, x2, y2, class: kind });
export const circle = (cx, cy, r, kind) => svg("circle", { cx, cy, r, class: kind });
export const rect = (x, y, right, bottom, kind = "", more = {}) =>
  svg("rect", { x, y, width: right - x, height: bottom - y, class: kind, ...more });

// A line through [x, y]; points that are not finite break it.
export function path(points, kind) {
  let d = "";
  let pen = "M";
  for (const [x, y] of points) {
    const drawn = Number.isFinite(x + y);
    if (drawn) d += `${pen}${x.toFixed(2)} ${y.toFixed(2)}`;
    pen = drawn ? "L" : "M";
  }
  return svg("path", { class: kind, d });
}

// To fill with url(#id).
export const hatching = (id) =>
  svg(
    "pattern",
    { id, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    line(0, 0, 0, 6, "hatch"),
  );

export const newId = () => `ak${Math.random().toString(36).slice(2)}`;

// A picture says in one sentence what it shows; `parts` may hold falsy ones.
export const picture = (width, height, sentence, parts) =>
  svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": sentence },
    parts.filter(Boolean),
  );

// The same for a picture on which the pointer may be held down.
export const draggable = (drawing, more = {}) => {
  drawing.classList.add("ak-drags");
  return Object.assign(drawing, more);
};

// ---- axes ----

// Two to four round values in (0, top].
export function ticks(top) {
  const power = 10 ** Math.floor(Math.log10(top));
  const step = [0.2, 0.5, 1, 2].map((m) => m * power).find((s) => top / s < 4.5) ?? 5 * power;
  return Array.from({ length: Math.floor(top / step + 1e-9) }, (_, i) => (i + 1) * step);
}

export const tickText = (t) => signed(String(Number(t.toPrecision(6))));

// Ticks of the horizontal axis at height y, and lines across the plot at values of the vertical one.
export const ticksBelow = (values, at, y, anchor = "middle") =>
  values.flatMap((t) => [
    line(at(t), y, at(t), y + 4, "axis"),
    label(at(t), y + 17, tickText(t), "tick", anchor),
  ]);
export const gridLines = (values, y, left, right, text = tickText) =>
  values.flatMap((t) => [
    line(left, y(t), right, y(t), "grid"),
    label(left - 6, y(t) + 4, text(t), "tick", "end"),
  ]);

// Where 0.1 to 100 lie on a logarithmic axis, and back.
export const LOW_TAU = 0.1;
export const HIGH_TAU = 100;
const DECADES = Math.log10(HIGH_TAU / LOW_TAU);
export const TAU_TICKS = [0.1, 1, 10, 100];
export const tauGrid = (count) =>
  Array.from({ length: count + 1 }, (_, i) => LOW_TAU * 10 ** ((DECADES * i) / count));
export const tauAxis = (left, plot) => (tau) => left + (plot * Math.log10(tau / LOW_TAU)) / DECADES;
export const tauUnder = (left, plot) => (px) =>
  Math.min(HIGH_TAU, Math.max(LOW_TAU, LOW_TAU * 10 ** ((DECADES * (px - left)) / plot)));
