// Distillation in the plane, on typed arrays: the training of adakd/explore/plane.py, number by number, in the page.
// Tests compare the two to 1e-6. METHODS, the rows of adakd.METHODS, stands before this text.

// ---- random numbers: pure functions of (stream, seed, part, index), as adakd._hash has them ----------------------

function mix(x) {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}
const hashed = (stream, seed, part, index) => [seed >>> 0, 0, part, index].reduce((x, next) => mix((x + next + 0x9e3779b9) | 0), stream);
const uniform = (...where) => (hashed(...where) + 0.5) / 2 ** 32;
const normal = (stream, seed, part, index) => Math.sqrt(-2 * Math.log(uniform(stream, seed, 2 * part, index))) *
  Math.cos(2 * Math.PI * uniform(stream, seed, 2 * part + 1, index));

// ---- points -----------------------------------------------------------------------------------------------------

const TAUGHT = 1000, HELD_OUT = 1000, WATCHED = 200, BATCH = 32;
const POINTS = 16, RADII = 17, ORDER = 18, WEIGHTS = 20; // streams
const around = (angle, radius) => [radius * Math.cos(angle), radius * Math.sin(angle)];
const spiral = (arm, along, K) => around(2 * Math.PI * (arm / K + (2.25 * along) / K), 0.12 + 0.88 * along);
const CENTRE = {
  ring: (k, K) => around((2 * Math.PI * k) / K, 0.8),
  pair: (k, K) => around((2 * Math.PI * (k < 2 ? (k - 0.5) / 4 : k - 1)) / (K - 1), 0.8),
  sunflower: (k, K) => around(k * Math.PI * (3 - Math.sqrt(5)), 0.95 * Math.sqrt((k + 0.5) / K)),
  spirals: (k, K) => spiral(k, 0.5, K),
};

function makePoints({ data, classes, noise, seed }, count = TAUGHT + HELD_OUT) {
  const x = new Float64Array(2 * count), y = new Uint8Array(count);
  for (let i = 0; i < count; i += 1) {
    y[i] = i % classes;
    const at = data === "spirals" ? spiral(y[i], uniform(RADII, seed, 0, i), classes) : CENTRE[data](y[i], classes);
    for (const axis of [0, 1]) x[2 * i + axis] = at[axis] + noise * normal(POINTS, seed, axis, i);
  }
  return { x, y };
}

const orders = { key: "", order: null }; // of the last epoch asked for: two students read the same
function batchOf(seed, step, points, size) { // indices; each epoch has an order of its own, whose rest is left out
  const whole = Math.floor(points / size), epoch = Math.floor(step / whole), place = step % whole, key = [seed, epoch, points].join();
  if (orders.key !== key) {
    const keys = Float64Array.from({ length: points }, (_, i) => hashed(ORDER, seed, epoch, i));
    Object.assign(orders, { key, order: Array.from(keys.keys()).sort((i, j) => keys[i] - keys[j]) });
  }
  return orders.order.slice(place * size, (place + 1) * size);
}

// ---- network: 2 -> width -> width -> K with tanh; all its weights in one array, layer by layer, weights then biases ----

class Network {
  constructor(classes, width, seed, who) {
    this.sizes = [2, width, width, classes];
    this.layers = []; // [inputs, outputs, place of the weights, place of the biases]
    let size = 0;
    for (let l = 0; l < 3; l += 1) {
      const [inputs, outputs] = this.sizes.slice(l);
      this.layers.push([inputs, outputs, size, size + inputs * outputs]);
      size += (inputs + 1) * outputs;
    }
    this.weights = new Float64Array(size);
    this.layers.forEach(([inputs, outputs, w], l) => {
      for (let i = 0; i < inputs * outputs; i += 1) this.weights[w + i] = normal(WEIGHTS + l, seed, who, i) / Math.sqrt(inputs);
    });
    this.gradient = new Float64Array(size);
    this.rows = 0;
  }

  forward(x, rows) { // (rows, 2) -> (rows, K), which stays valid until the next call
    if (this.rows < rows) {
      this.rows = rows;
      this.values = this.sizes.map((size) => new Float64Array(rows * size));
      this.back = this.sizes.map((size) => new Float64Array(rows * size));
    }
    const { weights } = this;
    this.values[0].set(rows * 2 === x.length ? x : x.subarray(0, rows * 2));
    this.layers.forEach(([inputs, outputs, w, b], l) => {
      const from = this.values[l], to = this.values[l + 1], last = l === 2;
      for (let r = 0; r < rows; r += 1) {
        for (let o = 0; o < outputs; o += 1) {
          let total = weights[b + o];
          for (let i = 0, at = w + o * inputs, row = r * inputs; i < inputs; i += 1) total += weights[at + i] * from[row + i];
          to[r * outputs + o] = last ? total : Math.tanh(total);
        }
      }
    });
    return this.values[3];
  }

  backward(pull, rows) { // from the gradient by the logits to that by the weights
    const { weights, gradient } = this;
    gradient.fill(0);
    this.back[3].set(pull.subarray(0, rows * this.sizes[3]));
    for (let l = 2; l >= 0; l -= 1) {
      const [inputs, outputs, w, b] = this.layers[l], from = this.values[l], down = this.back[l + 1], up = this.back[l];
      up.fill(0);
      for (let r = 0; r < rows; r += 1) {
        const row = r * inputs;
        for (let o = 0; o < outputs; o += 1) {
          const g = down[r * outputs + o], at = w + o * inputs;
          gradient[b + o] += g;
          for (let i = 0; i < inputs; i += 1) {
            gradient[at + i] += g * from[row + i];
            up[row + i] += g * weights[at + i];
          }
        }
        for (let i = 0; i < inputs; i += 1) up[row + i] *= 1 - from[row + i] ** 2;
      }
    }
  }
}

class SGD { // momentum 0.9, weight decay 5e-4
  constructor(size) { this.velocity = new Float64Array(size); }

  step(weights, gradient, lr) {
    const { velocity } = this;
    for (let i = 0; i < weights.length; i += 1) {
      velocity[i] = 0.9 * velocity[i] + gradient[i] + 5e-4 * weights[i];
      weights[i] -= lr * velocity[i];
    }
  }
}

// ---- losses of one row -------------------------------------------------------------------------------------------
// A row is an array of K numbers, `s` of the student and `t` of the teacher.

const MEANS = { population: [0, 0], sample: [1, 1e-7] }; // degrees of freedom less than K, and what is added to σ

function spread(v, kind) { // standardized row, and what its gradient needs
  const [less, epsilon] = MEANS[kind], m = mean(v), centred = v.map((x) => x - m);
  const sigma = Math.sqrt(sum(centred.map((x) => x * x)) / (v.length - less)), divisor = sigma + epsilon;
  return { z: centred.map((x) => x / divisor), sigma, divisor, freedom: v.length - less };
}

function throughSpread(g, { z, sigma, divisor, freedom }) { // gradient by z -> gradient by v
  const m = mean(g), along = sum(g.map((x, k) => x * z[k])) / (freedom * sigma);
  return g.map((x, k) => (x - m) / divisor - z[k] * along);
}

// KL of two rows of log-probabilities, and its gradient by the scaled logits under each.
function kl(p, q) {
  const P = p.map(Math.exp), value = sum(P.map((x, k) => x * (p[k] - q[k])));
  return { value, u: q.map((l, k) => Math.exp(l) - P[k]), v: P.map((x, k) => x * (p[k] - q[k] - value)) };
}

const logSumExp = (v) => { const top = highest(v); return top + Math.log(sum(v.map((x) => Math.exp(x - top)))); };
const without = (v, y) => v.filter((_, k) => k !== y);

function decoupled(s, t, y, tauS, tauT, { alpha, beta }) { // α TCKD + β NCKD
  const parts = [[t, tauT], [s, tauS]].map(([v, tau]) => {
    const scaled = v.map((x) => x / tau), others = logSumExp(without(scaled, y));
    return { binary: logSoftmax([scaled[y], others], 1), rest: without(scaled, y).map((x) => x - others) };
  });
  const [p, q] = parts, target = kl(p.binary, q.binary), rest = kl(p.rest, q.rest);
  const spreadOut = (side, log, by) => s.map((_, k) => {
    if (k === y) return alpha * target[side][0];
    const at = k < y ? k : k - 1; // the others share what their sum gets, in proportion to their probabilities
    return alpha * target[side][1] * Math.exp(log[at]) + beta * rest[by][at];
  });
  return { value: alpha * target.value + beta * rest.value, u: spreadOut("u", q.rest, "u"), v: spreadOut("v", p.rest, "v") };
}

// Each returns { value, s, tauS, tauT }: the divergence and its gradients by the student's logits and the temperatures.
const scaled = ({ value, u, v }, s, t, tauS, tauT) => ({ // τ_s τ_t D(s / τ_s, t / τ_t)
  value: tauS * tauT * value,
  s: u.map((x) => tauT * x),
  tauS: tauT * (value - sum(u.map((x, k) => x * s[k])) / tauS), tauT: tauS * (value - sum(v.map((x, k) => x * t[k])) / tauT),
});
const soft = (s, t, tauS, tauT) => scaled(kl(logSoftmax(t, tauT), logSoftmax(s, tauS)), s, t, tauS, tauT);
const DIVERGENCES = {
  kl: (s, t, y, tauS, tauT) => soft(s, t, tauS, tauT),
  dkd: (s, t, y, tauS, tauT, options) => scaled(decoupled(s, t, y, tauS, tauT, options), s, t, tauS, tauT),
  anchored(s, t, y, tauS, tauT, { alpha, beta, anchor }) {
    const one = soft(s, t, tauS, tauT), two = soft(s, t, anchor, anchor);
    return { value: alpha * one.value + beta * two.value, s: one.s.map((x, k) => alpha * x + beta * two.s[k]),
      tauS: alpha * one.tauS, tauT: alpha * one.tauT };
  },
  ttm(s, t, y, tauS, tauT, { weighted }) { // the student stays at temperature 1; no τ²
    const { value, u } = kl(logSoftmax(t, tauT), logSoftmax(s, 1));
    const power = weighted ? Math.exp(logSumExp(logSoftmax(t, 1).map((x) => x / tauT))) : 1;
    return { value: power * value, s: u.map((x) => power * x), tauS: 0, tauT: 0 };
  },
  correlation(s, t) {
    const a = spread(s, "population"), b = spread(t, "population");
    return { value: 1 - dot(a.z, b.z), s: throughSpread(b.z.map((x) => -x / s.length), a), tauS: 0, tauT: 0 };
  },
};

const sharpness = (v, { magnitude }) => (magnitude === "max" ? highest(v) : logSumExp(v));
const CURRICULUM = 10; // epochs until CTKD's gradient is fully reversed
const RULES = { // -> [τ of the student, τ of the teacher]
  fixed: (s, t, { tau }) => [tau, tau],
  maxlogit(s, t, { reference, magnitude }) {
    const height = (v) => C_UPPER * (magnitude === "absolute" ? Math.max(highest(v), -lowest(v)) : highest(v));
    const tau = Math.max(1e-3, height(t), reference === "both" ? height(s) : 0);
    return [tau, tau];
  },
  dtkd(s, t, { tau, magnitude, floor }) {
    const [a, b] = [s, t].map((v) => Math.max(floor, sharpness(v, { magnitude })));
    return [(2 * tau * a) / (a + b), (2 * tau * b) / (a + b)];
  },
  ctkd: (s, t, { start, end }, theta) => Array(2).fill(start + end / (1 + Math.exp(-theta))),
};

export class Objective { // of one student: adakd.LogitObjective with the method's rule and divergence
  constructor({ method, tau, weight, standardize }) {
    const row = METHODS[method];
    Object.assign(this, row, { kd_weight: weight ?? row.kd_weight, theta: new Float64Array(row.rule === "ctkd" ? [1] : []) });
    this.rule_options = { ...row.rule_options, ...(tau !== null && "tau" in row.rule_options && { tau }) };
    this.standardize = standardize === "published" ? row.standardize : standardize === "off" ? false : standardize;
    this.pull = new Float64Array(0); // gradient of the mean loss by the logits, and by θ
    this.thetaPull = new Float64Array(this.theta.length);
  }

  ready(v) { return this.standardize ? spread(v, this.standardize).z : v; }

  temperatures(s, t) { // of rows as the rule sees them; null where there is no teacher
    return this.divergence && RULES[this.rule](s, t, this.rule_options, this.theta[0]);
  }

  // Mean loss of `rows` rows of K logits; fills `pull` and `thetaPull` where it is to be differentiated.
  evaluate(S, T, y, rows, K, epoch, differentiate = true) {
    const warm = this.warmup_epochs ? Math.min(epoch / this.warmup_epochs, 1) : 1;
    const reversal = (Math.cos((Math.PI * Math.min(epoch, CURRICULUM)) / CURRICULUM) - 1) / 2;
    const result = { total: 0, ce: 0, kd: 0, tau: 0 };
    if (this.pull.length < rows * K) this.pull = new Float64Array(rows * K);
    this.thetaPull.fill(0);
    for (let r = 0; r < rows; r += 1) {
      const s = Array.from(S.subarray(r * K, (r + 1) * K)), log = logSoftmax(s, 1);
      result.ce -= log[y[r]] / rows;
      let g = log.map((l, k) => this.ce_weight * (Math.exp(l) - (k === y[r] ? 1 : 0)));
      if (this.divergence) {
        const t = Array.from(T.subarray(r * K, (r + 1) * K)), own = this.standardize && spread(s, this.standardize);
        const zs = own ? own.z : s, zt = this.ready(t), [tauS, tauT] = this.temperatures(zs, zt);
        const d = DIVERGENCES[this.divergence](zs, zt, y[r], tauS, tauT, this.divergence_options);
        result.kd += d.value / rows;
        result.tau += tauS / rows;
        if (differentiate) {
          if (this.rule === "dtkd") d.s = this.throughSharpness(d, zs, zt);
          if (this.rule === "ctkd") {
            const sigma = 1 / (1 + Math.exp(-this.theta[0]));
            this.thetaPull[0] += (reversal * this.kd_weight * warm * (d.tauS + d.tauT) * this.rule_options.end * sigma * (1 - sigma)) / rows;
          }
          const through = own ? throughSpread(d.s, own) : d.s;
          g = g.map((x, k) => x + this.kd_weight * warm * through[k]);
        }
      }
      if (differentiate) for (let k = 0; k < K; k += 1) this.pull[r * K + k] = g[k] / rows;
    }
    result.total = this.ce_weight * result.ce + this.kd_weight * warm * result.kd;
    return result;
  }

  throughSharpness(d, s, t) { // DTKD's temperatures depend on the student
    const { tau, floor, magnitude } = this.rule_options, a = sharpness(s, { magnitude }), b = Math.max(floor, sharpness(t, { magnitude }));
    if (a <= floor) return d.s;
    const slope = (2 * tau * b) / (a + b) ** 2 * (d.tauS - d.tauT), top = s.indexOf(highest(s));
    const by = magnitude === "max" ? s.map((_, k) => (k === top ? 1 : 0)) : softmax(s, 1);
    return d.s.map((x, k) => x + slope * by[k]);
  }
}

// ---- a lesson: a teacher and two students, same points, same batches, same first weights ----------------------------

const teachers = new Map(); // key of the data -> trained network; a few of the last ones
function trainTeacher(state, { x, y }) {
  const key = [state.data, state.classes, state.noise, state.seed].join();
  if (!teachers.has(key)) {
    const network = new Network(state.classes, 24, state.seed, 0), optimizer = new SGD(network.weights.length);
    const objective = new Objective({ method: "ce", tau: null, weight: null, standardize: "published" });
    for (let step = 0; step < 500; step += 1) {
      const { inputs, labels } = pick(x, y, batchOf(state.seed, step, TAUGHT, 64));
      objective.evaluate(network.forward(inputs, 64), null, labels, 64, state.classes, 1);
      network.backward(objective.pull, 64);
      optimizer.step(network.weights, network.gradient, 0.1 * (1 - step / 500));
    }
    if (teachers.size >= 8) teachers.delete(teachers.keys().next().value);
    teachers.set(key, network);
  }
  return teachers.get(key);
}

function pick(x, y, batch) {
  const inputs = new Float64Array(2 * batch.length), labels = new Uint8Array(batch.length);
  batch.forEach((i, row) => { inputs.set(x.subarray(2 * i, 2 * i + 2), 2 * row); labels[row] = y[i]; });
  return { inputs, labels };
}

const studentSetting = (state, who) => ({
  method: state[who], tau: state["tau_" + who], weight: state["weight_" + who], standardize: state["standardize_" + who],
});

export class Lesson {
  constructor(state) {
    this.state = state;
    Object.assign(this, makePoints(state));
    this.teacher = trainTeacher(state, this);
    this.taught = this.teacher.forward(this.x, state.transfer).slice(0, state.transfer * state.classes);
    this.students = Object.fromEntries(["a", "b"].map((who) => {
      const network = new Network(state.classes, state.width, state.seed, 1), objective = new Objective(studentSetting(state, who));
      return [who, { network, objective, optimizer: new SGD(network.weights.length), thetaOptimizer: new SGD(objective.theta.length) }];
    }));
    this.size = Math.min(BATCH, state.transfer);
    this.watched = Math.min(WATCHED, state.transfer);
    this.steps = 0;
    this.heldOut = { x: this.x.subarray(2 * TAUGHT), y: this.y.subarray(TAUGHT) };
    this.named = { teacher: this.right(this.teacher) };
    this.rows = []; // history
  }

  get epoch() { return 1 + Math.floor(this.steps / Math.floor(this.state.transfer / this.size)); }

  step() { // one batch for both; returns its losses
    const K = this.state.classes, batch = batchOf(this.state.seed, this.steps, this.state.transfer, this.size);
    const { inputs, labels } = pick(this.x, this.y, batch), taught = new Float64Array(batch.length * K), losses = {};
    batch.forEach((i, row) => taught.set(this.taught.subarray(i * K, (i + 1) * K), row * K));
    for (const [who, { network, objective, optimizer, thetaOptimizer }] of Object.entries(this.students)) {
      losses[who] = objective.evaluate(network.forward(inputs, batch.length), taught, labels, batch.length, K, this.epoch).total;
      network.backward(objective.pull, batch.length);
      optimizer.step(network.weights, network.gradient, this.state.lr);
      thetaOptimizer.step(objective.theta, objective.thetaPull, this.state.lr);
    }
    this.steps += 1;
    return losses;
  }

  right(network) { // which held-out points it names correctly
    const K = this.state.classes, logits = network.forward(this.heldOut.x, HELD_OUT), right = new Uint8Array(HELD_OUT);
    for (let r = 0; r < HELD_OUT; r += 1) {
      let best = 0;
      for (let k = 1; k < K; k += 1) if (logits[r * K + k] > logits[r * K + best]) best = k;
      right[r] = best === this.heldOut.y[r] ? 1 : 0;
    }
    return right;
  }

  // Temperatures of the watched points, τ of the student and of the teacher in turn; null without a teacher.
  watchedTemperatures(who) {
    const { network, objective } = this.students[who], K = this.state.classes, n = this.watched, logits = network.forward(this.x, n);
    if (!objective.divergence) return null;
    return Array.from({ length: n }, (_, r) => {
      const [s, t] = [logits, this.taught].map((all) => objective.ready(Array.from(all.subarray(r * K, (r + 1) * K))));
      return objective.temperatures(s, t);
    });
  }

  measure() { // a row of history, as adakd.explore.plane.Lesson.measure; what each names correctly stays in `named`
    if (this.latest?.step === this.steps) return this.latest;
    const K = this.state.classes, n = this.watched, row = (this.latest = { step: this.steps });
    for (const [who, { network, objective }] of Object.entries(this.students)) {
      this.named[who] = this.right(network);
      row["accuracy_" + who] = (100 * sum(this.named[who])) / HELD_OUT;
      const logits = network.forward(this.x, n), found = objective.evaluate(logits, this.taught, this.y, n, K, this.epoch, false);
      let rho = 0, divergence = 0;
      for (let r = 0; r < n; r += 1) {
        const s = Array.from(logits.subarray(r * K, (r + 1) * K)), t = Array.from(this.taught.subarray(r * K, (r + 1) * K));
        const zs = spread(s, "population").z, zt = spread(t, "population").z;
        rho += dot(zs, zt) / n;
        const taus = objective.temperatures(objective.ready(s), objective.ready(t));
        if (taus) divergence += loss(zs, zt, ...taus) / n;
      }
      Object.assign(row, { ["loss_" + who]: found.total, ["distance_" + who]: 1 - rho,
        ["kl_" + who]: objective.divergence ? divergence : null, ["tau_" + who]: objective.divergence ? found.tau : null });
    }
    return row;
  }

  // Towards step `goal`, measuring at every tenth, until done or `until` (a time of performance.now()); true when there.
  train(goal, until = Infinity, every = 10) {
    const keep = () => { if (this.steps % every === 0 && this.rows.at(-1)?.step !== this.steps) this.rows.push(this.measure()); };
    keep();
    while (this.steps < goal) {
      this.step();
      keep();
      if (performance.now() > until) break;
    }
    return this.steps >= goal;
  }

  soft(who, x, rows) { // what a student's method compares: softened probabilities of student and teacher, (rows, K) each
    const K = this.state.classes, { network, objective } = this.students[who === "a" ? "a" : "b"];
    const S = network.forward(x, rows), T = this.teacher.forward(x, rows), q = new Float64Array(rows * K), p = new Float64Array(rows * K);
    const tau = who !== "teacher" && objective.divergence ? new Float64Array(rows) : null; // the student's
    for (let r = 0; r < rows; r += 1) {
      let s = Array.from(S.subarray(r * K, (r + 1) * K)), t = Array.from(T.subarray(r * K, (r + 1) * K)), taus = null;
      if (tau) {
        [s, t] = [objective.ready(s), objective.ready(t)];
        taus = objective.temperatures(s, t);
        [tau[r]] = taus;
      }
      q.set(softmax(s, taus ? taus[0] : 1), r * K);
      p.set(softmax(t, taus ? taus[1] : 1), r * K);
    }
    return { q, p, tau };
  }
}
