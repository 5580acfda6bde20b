// A square of the plane: a canvas colored by probabilities, under the points, and the cross that the reader moves.

import { html, label, picture, svg } from "./drawing.js";
import { CLASSES } from "./from-python.js";
import { clamp, highest, lowest } from "./math.js";
import { CENTER } from "./points.js";

const EDGE = 1.25; // of the plane, in each direction
const GRID = 48;
export const CELLS = GRID * GRID;
export const insidePlane = (x) => clamp(-EDGE, Number(x.toFixed(2)), EDGE);

// The middle of each cell, row by row from above.
export const GRID_POINTS = Float64Array.from({ length: 2 * CELLS }, (_, i) => {
  const cell = i >> 1;
  const place = i % 2 ? GRID - 1 - Math.floor(cell / GRID) : cell % GRID;
  return EDGE * ((2 * place + 1) / GRID - 1);
});

const RGB = CLASSES.map((hex) => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)));

export function softmaxRows(logits, rows, K, into) {
  for (let r = 0; r < rows; r += 1) {
    let top = -Infinity;
    let total = 0;
    for (let i = r * K; i < (r + 1) * K; i += 1) top = Math.max(top, logits[i]);
    for (let i = r * K; i < (r + 1) * K; i += 1) {
      into[i] = Math.exp(logits[i] - top);
      total += into[i];
    }
    for (let i = r * K; i < (r + 1) * K; i += 1) into[i] /= total;
  }
  return into;
}

// In the picture's own units, 200 wide; `sign` is −1 for what points down.
const across = (x, sign = 1) => 100 + (sign * 100 * x) / EDGE;

function drawPoints({ x, y }, state, cross) {
  const { classes: K, transfer, data } = state;
  const radius = transfer > 300 ? 1.1 : 2.2;
  const dots = Array.from({ length: K }, () => "");
  for (let i = 0; i < transfer; i += 1) {
    const left = (across(x[2 * i]) - radius).toFixed(1);
    const top = across(x[2 * i + 1], -1).toFixed(1);
    dots[y[i]] +=
      `M${left} ${top}a${radius} ${radius} 0 1 0 ${2 * radius} 0a${radius} ${radius} 0 1 0 ${-2 * radius} 0`;
  }
  const names = dots.map((_, k) => {
    const [cx, cy] = CENTER[data](k, K);
    return label(across(cx), across(cy, -1) + 3.5, String(k), "class", "middle");
  });
  const drawing = picture(200, 200, `${transfer} points of ${K} classes`, [
    ...dots.map((d, k) => svg("path", { d, class: "points", fill: CLASSES[k] })),
    ...names,
    cross,
  ]);
  drawing.removeAttribute("width");
  drawing.removeAttribute("height");
  return drawing;
}

export function makePlane(who) {
  const canvas = html("canvas", { width: GRID, height: GRID, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(GRID, GRID);
  const over = html("div", { class: "ak-over" });
  const title = html("b", { class: `ak-name ${who}` });
  const box = html("div", { class: "ak-square", tabindex: 0, role: "application" }, [canvas, over]);
  const cross = svg("path", { class: "cross" });
  return Object.assign(html("div", { class: "ak-plane" }, [title, box]), {
    box,

    // By probabilities, (CELLS, K).
    paint(p, K) {
      const { data } = pixels;
      for (let cell = 0; cell < CELLS; cell += 1) {
        let red = 0;
        let green = 0;
        let blue = 0;
        for (let k = 0; k < K; k += 1) {
          const part = p[cell * K + k];
          red += part * RGB[k][0];
          green += part * RGB[k][1];
          blue += part * RGB[k][2];
        }
        data[4 * cell] = red;
        data[4 * cell + 1] = green;
        data[4 * cell + 2] = blue;
        data[4 * cell + 3] = 150;
      }
      context.putImageData(pixels, 0, 0);
    },

    // By temperatures, blue where they are lowest and orange where they are highest; returns both.
    heat(temperatures) {
      const [low, high] = [lowest(temperatures), highest(temperatures)];
      const [cold, hot] = RGB;
      temperatures.forEach((tau, cell) => {
        const part = high > low ? Math.log(tau / low) / Math.log(high / low) : 0;
        for (const channel of [0, 1, 2]) {
          pixels.data[4 * cell + channel] = cold[channel] + part * (hot[channel] - cold[channel]);
        }
        pixels.data[4 * cell + 3] = 170;
      });
      context.putImageData(pixels, 0, 0);
      return [low, high];
    },

    // The transfer set, and the names of the classes.
    points(points, state) {
      over.replaceChildren(drawPoints(points, state, cross));
    },

    mark([x, y]) {
      const [cx, cy] = [across(x), across(y, -1)];
      cross.setAttribute("d", `M${cx - 7} ${cy}h5m4 0h5M${cx} ${cy - 7}v5m0 4v5`);
    },

    say(name, sentence) {
      title.textContent = name;
      box.setAttribute("aria-label", `${sentence} The arrow keys move the cross.`);
      over.firstChild?.setAttribute("aria-label", sentence);
    },

    // Of a pointer, in the plane.
    place(event) {
      const { left, top, width } = box.getBoundingClientRect();
      const x = (2 * (event.clientX - left)) / width - 1;
      const y = 1 - (2 * (event.clientY - top)) / width;
      return [insidePlane(EDGE * x), insidePlane(EDGE * y)];
    },
  });
}
