// A small network on typed arrays, and its optimizer: 2 -> width -> width -> K with tanh.

import { normal } from "./points.js";

const WEIGHTS = 20; // stream of the first layer's weights
const MOMENTUM = 0.9;
const WEIGHT_DECAY = 5e-4;

export class Network {
  // All weights are in one array, layer by layer, weights then biases.
  constructor(classes, width, seed, who) {
    this.sizes = [2, width, width, classes];
    this.layers = []; // [inputs, outputs, place of the weights, place of the biases]
    let size = 0;
    for (let depth = 0; depth < 3; depth += 1) {
      const [inputs, outputs] = this.sizes.slice(depth);
      this.layers.push([inputs, outputs, size, size + inputs * outputs]);
      size += (inputs + 1) * outputs;
    }
    this.weights = new Float64Array(size);
    this.layers.forEach(([inputs, outputs, place], depth) => {
      for (let i = 0; i < inputs * outputs; i += 1) {
        this.weights[place + i] = normal(WEIGHTS + depth, seed, who, i) / Math.sqrt(inputs);
      }
    });
    this.gradient = new Float64Array(size);
    this.rows = 0;
  }

  // (rows, 2) -> (rows, K), which stays valid until the next call
  forward(x, rows) {
    if (this.rows < rows) {
      this.rows = rows;
      this.values = this.sizes.map((size) => new Float64Array(rows * size));
      this.back = this.sizes.map((size) => new Float64Array(rows * size));
    }
    const { weights, values } = this;
    values[0].set(rows * 2 === x.length ? x : x.subarray(0, rows * 2));
    this.layers.forEach(([inputs, outputs, w, b], depth) => {
      const from = values[depth];
      const to = values[depth + 1];
      const last = depth === 2;
      for (let r = 0; r < rows; r += 1) {
        const row = r * inputs;
        for (let o = 0; o < outputs; o += 1) {
          const place = w + o * inputs;
          let total = weights[b + o];
          for (let i = 0; i < inputs; i += 1) total += weights[place + i] * from[row + i];
          to[r * outputs + o] = last ? total : Math.tanh(total);
        }
      }
    });
    return values[3];
  }

  // From the gradient by the logits to that by the weights.
  backward(byLogits, rows) {
    const { weights, gradient, values, back } = this;
    gradient.fill(0);
    back[3].set(byLogits.subarray(0, rows * this.sizes[3]));
    for (let depth = 2; depth >= 0; depth -= 1) {
      const [inputs, outputs, w, b] = this.layers[depth];
      const from = values[depth];
      const above = back[depth + 1];
      const below = back[depth];
      below.fill(0);
      for (let r = 0; r < rows; r += 1) {
        const row = r * inputs;
        for (let o = 0; o < outputs; o += 1) {
          const slope = above[r * outputs + o];
          const place = w + o * inputs;
          gradient[b + o] += slope;
          for (let i = 0; i < inputs; i += 1) {
            gradient[place + i] += slope * from[row + i];
            below[row + i] += slope * weights[place + i];
          }
        }
        for (let i = 0; i < inputs; i += 1) below[row + i] *= 1 - from[row + i] ** 2;
      }
    }
  }
}

export class SGD {
  constructor(size) {
    this.velocity = new Float64Array(size);
  }

  step(weights, gradient, lr) {
    const { velocity } = this;
    for (let i = 0; i < weights.length; i += 1) {
      velocity[i] = MOMENTUM * velocity[i] + gradient[i] + WEIGHT_DECAY * weights[i];
      weights[i] -= lr * velocity[i];
    }
  }
}
