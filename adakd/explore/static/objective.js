// The loss of a student, adakd.LogitObjective on plain arrays: cross entropy and λ times a divergence at temperatures.

import { DIVERGENCES } from "./divergences.js";
import { METHODS, RULES } from "./from-python.js";
import { logSoftmax, spread, standardize, throughSpread } from "./math.js";
import { readBatch, temperatures, throughTemperatures } from "./rules.js";

const REVERSAL = 10; // epochs until the gradient of what is learned is fully reversed, CTKD's curriculum

// The distillation loss of one sample whose rule reads `scope`; `own` is the student's `spread` where it is
// standardized. differentiate() gives its gradients by the student's logits, and by what the rule learns.
export function distill({ divergence, divergenceOptions = {}, rule }, scope, own) {
  const { zs: s, zt: t } = scope.values;
  const [tauStudent, tauTeacher] = temperatures(rule, scope);
  const pair = { s, t, label: scope.label, tauStudent, tauTeacher };
  const found = DIVERGENCES[divergence](pair, divergenceOptions);
  return {
    value: found.value,
    tauStudent,
    differentiate() {
      const { zs, ...learned } = throughTemperatures(
        rule,
        scope,
        found.tauStudent,
        found.tauTeacher,
      );
      const gradient = zs ? found.student.map((x, k) => x + zs[k]) : found.student;
      return { gradient: own ? throughSpread(gradient, own) : gradient, learned };
    },
  };
}

// Row `r` of a flat array of logits.
export const rowOf = (logits, r, K) => Array.from(logits.subarray(r * K, (r + 1) * K));

export class Objective {
  constructor({ method, tau, weight, standardize: kind }) {
    const row = METHODS[method];
    Object.assign(this, row);
    this.kdWeight = weight ?? row.kdWeight ?? 0;
    this.ruleOptions = { ...row.ruleOptions };
    if (tau !== null && row.takesTau) this.ruleOptions.tau = tau;
    if (kind !== "published") this.standardize = kind === "off" ? undefined : kind;
    const learned = RULES[row.rule]?.learned ?? {};
    this.names = Object.keys(learned);
    this.learned = Float64Array.from(Object.values(learned));
    // Of the mean loss, by the logits and by what is learned.
    this.gradient = new Float64Array(0);
    this.learnedGradient = new Float64Array(this.learned.length);
  }

  // A row of logits as the rule and the divergence see it.
  ready(row) {
    return this.standardize ? standardize(row, this.standardize) : row;
  }

  // What the rule reads of a batch: `rows` rows of K logits of student and teacher.
  scopes(S, T, labels, rows, K, epoch) {
    const samples = Array.from({ length: rows }, (_, r) => ({
      student: this.ready(rowOf(S, r, K)),
      teacher: this.ready(rowOf(T, r, K)),
      label: labels?.[r],
    }));
    const learned = Object.fromEntries(this.names.map((name, i) => [name, this.learned[i]]));
    return readBatch(this.rule, samples, epoch, { ...this.ruleOptions, ...learned });
  }

  // [τ of the student, τ of the teacher] of each sample; null where there is no teacher.
  temperatures(...batch) {
    return this.divergence
      ? this.scopes(...batch).map((scope) => temperatures(this.rule, scope))
      : null;
  }

  // Mean loss of a batch; fills `gradient` and `learnedGradient` where it is to be differentiated.
  evaluate(S, T, labels, rows, K, epoch, differentiate = true) {
    const warm = this.warmupEpochs ? Math.min(epoch / this.warmupEpochs, 1) : 1;
    const reversal = (Math.cos((Math.PI * Math.min(epoch, REVERSAL)) / REVERSAL) - 1) / 2;
    const weight = this.kdWeight * warm;
    const result = { total: 0, ce: 0, kd: 0, tau: 0 };
    if (this.gradient.length < rows * K) this.gradient = new Float64Array(rows * K);
    this.learnedGradient.fill(0);
    const scopes = this.divergence && this.scopes(S, T, labels, rows, K, epoch);
    for (let r = 0; r < rows; r += 1) {
      const s = rowOf(S, r, K);
      const logs = logSoftmax(s);
      result.ce -= logs[labels[r]] / rows;
      let gradient = logs.map(
        (log, k) => this.ceWeight * (Math.exp(log) - Number(k === labels[r])),
      );
      if (scopes) {
        const own = this.standardize && spread(s, this.standardize);
        const loss = distill(this, scopes[r], own);
        result.kd += loss.value / rows;
        result.tau += loss.tauStudent / rows;
        if (differentiate) {
          const by = loss.differentiate();
          gradient = gradient.map((x, k) => x + weight * by.gradient[k]);
          this.names.forEach((name, i) => {
            this.learnedGradient[i] += (reversal * weight * by.learned[name]) / rows;
          });
        }
      }
      if (differentiate) {
        for (let k = 0; k < K; k += 1) this.gradient[r * K + k] = gradient[k] / rows;
      }
    }
    result.total = this.ceWeight * result.ce + this.kdWeight * warm * result.kd;
    return result;
  }
}
