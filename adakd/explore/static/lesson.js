// Distillation in the plane: the training of adakd/explore/plane.py, number by number, in the page. A teacher and two
// students: same points, same batches, same first weights.

import { pearson, softLoss, softmax, standardize, sum } from "./math.js";
import { Network, SGD } from "./network.js";
import { Objective, rowOf } from "./objective.js";
import { batchOf, HELD_OUT, makePoints, pick, TAUGHT } from "./points.js";

const WATCHED = 200; // points on which losses and temperatures are measured, at most
const BATCH = 32;
const TEACHER = { width: 24, steps: 500, batch: 64, lr: 0.1 };
export const STUDENTS = ["a", "b"];

const teachers = new Map(); // key of the data -> trained network; a few of the last ones
function trainTeacher(state, { x, y }) {
  const { data, classes, noise, seed } = state;
  const key = [data, classes, noise, seed].join();
  if (!teachers.has(key)) {
    const network = new Network(classes, TEACHER.width, seed, 0);
    const optimizer = new SGD(network.weights.length);
    const objective = new Objective({
      method: "ce",
      tau: null,
      weight: null,
      standardize: "published",
    });
    for (let step = 0; step < TEACHER.steps; step += 1) {
      const { inputs, labels } = pick(x, y, batchOf(seed, step, TAUGHT, TEACHER.batch));
      const logits = network.forward(inputs, TEACHER.batch);
      objective.evaluate(logits, null, labels, TEACHER.batch, classes, 1);
      network.backward(objective.gradient, TEACHER.batch);
      optimizer.step(network.weights, network.gradient, TEACHER.lr * (1 - step / TEACHER.steps));
    }
    if (teachers.size >= 8) teachers.delete(teachers.keys().next().value);
    teachers.set(key, network);
  }
  return teachers.get(key);
}

const studentSetting = (state, who) => ({
  method: state[who],
  tau: state[`tau_${who}`],
  weight: state[`weight_${who}`],
  standardize: state[`standardize_${who}`],
});

export class Lesson {
  constructor(state) {
    const { transfer, classes, width, seed } = state;
    this.state = state;
    Object.assign(this, makePoints(state));
    this.teacher = trainTeacher(state, this);
    this.taught = this.teacher.forward(this.x, transfer).slice(0, transfer * classes);
    this.students = Object.fromEntries(
      STUDENTS.map((who) => {
        const network = new Network(classes, width, seed, 1);
        const objective = new Objective(studentSetting(state, who));
        const optimizer = new SGD(network.weights.length);
        const ruleOptimizer = new SGD(objective.learned.length);
        return [who, { network, objective, optimizer, ruleOptimizer }];
      }),
    );
    this.size = Math.min(BATCH, transfer);
    this.watched = Math.min(WATCHED, transfer);
    this.steps = 0;
    this.heldOut = { x: this.x.subarray(2 * TAUGHT), y: this.y.subarray(TAUGHT) };
    this.correct = { teacher: this.named(this.teacher) };
    this.rows = []; // history
  }

  get epoch() {
    return 1 + Math.floor(this.steps / Math.floor(this.state.transfer / this.size));
  }

  // Both are trained on one batch; returns its losses.
  step() {
    const { classes: K, seed, transfer, lr } = this.state;
    const batch = batchOf(seed, this.steps, transfer, this.size);
    const { inputs, labels } = pick(this.x, this.y, batch);
    const taught = new Float64Array(batch.length * K);
    batch.forEach((i, row) => {
      taught.set(this.taught.subarray(i * K, (i + 1) * K), row * K);
    });
    const losses = {};
    for (const [who, student] of Object.entries(this.students)) {
      const { network, objective, optimizer, ruleOptimizer } = student;
      const logits = network.forward(inputs, batch.length);
      losses[who] = objective.evaluate(logits, taught, labels, batch.length, K, this.epoch).total;
      network.backward(objective.gradient, batch.length);
      optimizer.step(network.weights, network.gradient, lr);
      ruleOptimizer.step(objective.learned, objective.learnedGradient, lr);
    }
    this.steps += 1;
    return losses;
  }

  // Which held-out points a network names correctly.
  named(network) {
    const { classes: K } = this.state;
    const logits = network.forward(this.heldOut.x, HELD_OUT);
    const correct = new Uint8Array(HELD_OUT);
    for (let r = 0; r < HELD_OUT; r += 1) {
      let best = 0;
      for (let k = 1; k < K; k += 1) if (logits[r * K + k] > logits[r * K + best]) best = k;
      correct[r] = Number(best === this.heldOut.y[r]);
    }
    return correct;
  }

  // Of the watched points, [τ of the student, τ of the teacher]; null without a teacher.
  watchedTemperatures(who) {
    const { network, objective } = this.students[who];
    const logits = network.forward(this.x, this.watched);
    const { classes: K } = this.state;
    return objective.temperatures(logits, this.taught, this.y, this.watched, K, this.epoch);
  }

  // A row of history, as adakd.explore.plane.Lesson.measure; what each names correctly stays in `correct`.
  measure() {
    if (this.latest?.step === this.steps) return this.latest;
    this.latest = { step: this.steps };
    for (const who of STUDENTS) Object.assign(this.latest, this.measured(who));
    return this.latest;
  }

  measured(who) {
    const { network, objective } = this.students[who];
    const { classes: K } = this.state;
    const n = this.watched;
    this.correct[who] = this.named(network);
    const logits = network.forward(this.x, n);
    const batch = [logits, this.taught, this.y, n, K, this.epoch];
    const { total, tau } = objective.evaluate(...batch, false);
    const temperatures = objective.temperatures(...batch);
    let rho = 0;
    let divergence = 0;
    for (let r = 0; r < n; r += 1) {
      const [zs, zt] = [logits, this.taught].map((all) => standardize(rowOf(all, r, K)));
      rho += pearson(zs, zt) / n;
      if (temperatures) divergence += softLoss(zs, zt, ...temperatures[r]) / n;
    }
    return {
      [`loss_${who}`]: total,
      [`accuracy_${who}`]: (100 * sum(this.correct[who])) / HELD_OUT,
      [`distance_${who}`]: 1 - rho,
      [`kl_${who}`]: temperatures ? divergence : null,
      [`tau_${who}`]: temperatures ? tau : null,
    };
  }

  // Towards step `goal`, measuring at every tenth, until done or `until` (a time of performance.now()); true when there.
  train(goal, until = Infinity, every = 10) {
    const keep = () => {
      if (this.steps % every === 0 && this.rows.at(-1)?.step !== this.steps) {
        this.rows.push(this.measure());
      }
    };
    keep();
    while (this.steps < goal) {
      this.step();
      keep();
      if (performance.now() > until) break;
    }
    return this.steps >= goal;
  }

  // What a student's method compares: softened probabilities of student and teacher, (rows, K) each.
  soft(who, x, rows) {
    const { classes: K } = this.state;
    const { network, objective } = this.students[who === "a" ? "a" : "b"];
    const student = network.forward(x, rows);
    const teacher = this.teacher.forward(x, rows);
    const temperatures =
      who === "teacher"
        ? null
        : objective.temperatures(student, teacher, null, rows, K, this.epoch);
    const ready = (row) => (temperatures ? objective.ready(row) : row);
    const [q, p] = [student, teacher].map((logits, side) => {
      const softened = new Float64Array(rows * K);
      for (let r = 0; r < rows; r += 1) {
        softened.set(softmax(ready(rowOf(logits, r, K)), temperatures?.[r][side]), r * K);
      }
      return softened;
    });
    return { q, p, tau: temperatures && Float64Array.from(temperatures, ([tau]) => tau) };
  }
}
