// The made-up pair of a teacher and a student that several figures are about, and its controls.

export const C_LOWER = (Math.sqrt(3) - 1) / 2; // c2-, the end the paper leaves out
export const entropy = (z, tau) => -sum(logSoftmax(z, tau).map((l) => Math.exp(l) * l));

// A made-up teacher: classes 0 peak, 1 second peak, 2 the student's slip, 3.. a ramp of unit spread, K - 1 ruled out.
export function teacherLogits({ peak, second, ruled_out, classes }) {
  const rest = classes - 4;
  return Array.from({ length: classes }, (_, k) =>
    k === 0 ? peak : k === 1 ? second : k === 2 ? 0 : k === classes - 1 ? ruled_out
      : Math.sqrt(3) * (1 - (2 * (k - 3) + 1) / rest));
}

// The teacher turned by an error of its own: the correlation of the two is exactly `agreement`.
export function studentLogits(zTeacher, agreement) {
  const slip = zTeacher.map((_, k) => (k === 2 ? 4 : Math.sqrt(12) * (((k + 1) * 0.6180339887498949) % 1 - 0.5)));
  const centred = slip.map((x) => x - mean(slip)), along = dot(centred, zTeacher);
  const error = standardize(centred.map((x, k) => x - along * zTeacher[k]));
  return zTeacher.map((z, k) => agreement * z + Math.sqrt(1 - agreement * agreement) * error[k]);
}

function classSlider(model, write) {
  const steps = [6, 10, 20, 50, 100, 200, 1000], far = (k) => Math.abs(Math.log(k / model.get("classes")));
  return slider("classes K", "Number of classes", 0, steps.length - 1, 1, () => steps.reduce((best, k, i) => (far(k) < far(steps[best]) ? i : best), 0),
    (i) => write({ classes: steps[i] }), () => String(model.get("classes")));
}

// The controls of the made-up pair: traits peak, second, ruled_out, agreement and classes.
function pairSliders(model, write) {
  const one = (name, text, hint, low, high, step) => slider(text, hint, low, high, step, () => model.get(name),
    (value) => write({ [name]: value }), () => signed(model.get(name).toFixed(step < 0.1 ? 2 : 1)));
  return [
    one("peak", "peak", "The teacher’s logit of its first class, in spreads of the other classes", 0, 20, 0.1),
    one("second", "second peak", "The teacher’s logit of its second class", 0, 20, 0.1),
    one("ruled_out", "ruled-out class", "The teacher’s logit of its last class", -20, 0, 0.1),
    one("agreement", "agreement ρ", "Correlation of the student’s logits with the teacher’s", 0, 1, 0.01),
    classSlider(model, write),
  ];
}

const logSlider = (model, write, name, text, hint) => slider(text, hint, -1, 2, 0.01, () => Math.log10(model.get(name)),
  (x) => write({ [name]: Number((10 ** x).toPrecision(4)) }), () => num(model.get(name)));
const scaleSliders = (model, write) => ["teacher", "student"].map((who) =>
  logSlider(model, write, who + "_scale", who + "’s scale", `Standard deviation of the ${who}’s logits`));
