"""Faults of recorded logits: each by a name, with what is wrong and what to do."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["FAULTS", "LARGEST", "SPREAD", "constant_rows", "faults_of", "gone_classes", "masked_classes"]

LARGEST = 1e30  # of a logit; beyond it stands a mask
SPREAD = 0.3  # of a row of a student that is not given: about that of an untrained resnet8
UNTRAINED = 10  # times more or less than that: no student before training
FEWEST = 20  # rows of which the accuracy is judged

FAULTS = {
    "masked class": "class {classes} is far below the others in every row; drop it from logits and labels before the loss, "
    "or its distance decides the spread (minus infinity is left out here)",
    "masked in some rows": "in {share:.0%} of the {of}'s rows some classes lie {gap:.2g} below the rest, as masked or filled-up "
    "ones do: that distance decides the spread of the row, and all that is standardized; record the logits before the mask, "
    "or take these classes out of logits and labels",
    "two classes": "with two classes every standardized row is (-1, 1): no rule and no divergence can see what the teacher "
    "knows; take a method on raw logits, such as kd, which is the reference here",
    "log-probabilities": "the {of}'s rows have logsumexp 0: these are log-probabilities. Softmax at any τ and standardized "
    "methods see no difference, but rules that read the height of raw logits do (those of kd+… below, dtkd); record the "
    "logits themselves",
    "probabilities": "the {of}'s rows lie between 0 and 1 and sum to 1: these are probabilities, whose softmax is nearly "
    "uniform; record the logits. Their logarithm serves as well where none is 0",
    "scores": "all numbers of the {of}'s rows lie between {least} and 1, as those of sigmoids and cosines do, and they are no "
    "probabilities: record what stood before the sigmoid, or the cosines times their scale",
    "standardized rows": "the {of}'s rows all have mean 0 and one spread: they are standardized already, so that their raw "
    "temperatures and spread say nothing of the network; record the logits themselves",
    "nearly uniform": "at τ = 1 the teacher's softmax is undecided among {choices:.4g} of {classes} classes: logits that were "
    "divided by a temperature or a scale, or of a network that has not learned; record them before the division",
    "near chance": "the teacher is right in {accuracy:.1f} % of {rows} rows, and {chance:.1f} % need no teacher (the most "
    "frequent class, or a guess): are rows and labels in one order?",
    "below chance": "the teacher is right in {accuracy:.1f} % of {rows} rows, and a guess in {chance:.1f} %: labels that are "
    "shifted by one, or classes in another order",
    "collapsed": "{constant:.0%} of the teacher's rows are constant, and {saturated:.0%} give one class all but a millionth at "
    "τ = 1: constant rows teach nothing, saturated ones only at a higher temperature; look at the teacher's training, or at "
    "how the logits were recorded",
    "rows alike": "the teacher's rows hardly differ from each other ({apart:.1g} of their spread): it does not read its "
    "inputs, or one input was recorded many times",
    "repeated rows": "{repeated} of {rows} rows stand there more than once; are several views of an image, or one batch twice?",
    "student like the teacher": "{share:.0%} of the student's rows are the teacher's up to a shift and a factor: a standardized "
    "method has no gradient there, and no λ; give the student's logits before training",
    "trained student": "the student is right in {accuracy:.1f} % of {rows} rows: it is trained already. Your λ are for the "
    "start of training; give its logits before that",
    "student's spread": "the median σ of the student's rows is {spread:.2g}, and an untrained network's is about {usual:g}. "
    "Every λ of a standardized method is in proportion to it: are these the student's logits before training, or those of a "
    "head that starts at zero?",
}


# ---- what rows and classes are ----


def gone_classes(rows: Tensor) -> Tensor:
    """(K,) booleans: classes that are minus infinity, or the lowest number of a format, in every row."""
    return (rows <= -LARGEST).all(dim=0)


def constant_rows(rows: Tensor) -> Tensor:
    """(N,) booleans: rows whose logits are all the same, within the rounding of float32."""
    return rows.amax(dim=1) - rows.amin(dim=1) <= 1e-7 * rows.abs().amax(dim=1)


def masked_classes(teacher: Tensor) -> Tensor:
    """(K,) booleans: classes that are minus infinity in every row, or constant and far below every other logit."""
    infinite = gone_classes(teacher)
    if len(teacher) < 2 or (~infinite).sum() < 3:
        return infinite
    low, high = teacher.amin(dim=0), teacher.amax(dim=0)
    constant = ~infinite & (high - low <= 1e-4 * high.abs())
    rest = ~(infinite | constant)
    if not constant.any() or not rest.any():
        return infinite
    least, most = low[rest].min(), high[rest].max()
    return infinite | (constant & (high < least - (most - least)))


def _below(rows: Tensor) -> tuple[float, float]:
    """Share of the rows (N, K) in which some classes are masked by a finite number, and the median of their distance.

    A gap between two classes of a row, next to each other in size, is one of a mask where it is 50 or more and five times
    what is left of the row's range: with at most half of the classes below it, or of 10 000 or more.
    """
    classes = rows.shape[1]
    if classes < 4:
        return 0.0, 0.0
    ordered = rows.sort(dim=1).values
    gap, below = ordered.diff(dim=1).max(dim=1)
    left = ordered[:, -1] - ordered[:, 0] - gap
    far = (gap >= 50) & (gap > 5 * left) & ((below < classes // 2) | (gap >= 1e4))
    share = far.double().mean().item()
    if not far.any() or (share < 0.05 and gap[far].max() < 1e4):
        return 0.0, 0.0
    return share, gap[far].median().item()


def _format(rows: Tensor, trained: bool) -> str | None:
    """What stands in the place of logits, if anything does; those of a network before training may all be small."""
    if (rows.logsumexp(dim=1).abs() <= 1e-2).all():  # log-probabilities in half precision, too
        return "log-probabilities"
    low, high = rows.min(), rows.max()
    if 0 <= low < high <= 1:
        return "probabilities" if ((rows.sum(dim=1) - 1).abs() <= 1e-2).all() else "scores"
    if trained and low >= -1 and high <= 1 and max(-low, high) > 0.5:
        return "scores"
    if rows.shape[1] > 2:
        sigma, mean = rows.std(dim=1, correction=0), rows.mean(dim=1)
        usual = sigma.median()
        # By N or by N - 1, in any format.
        if ((mean.abs() <= 1e-2) & ((sigma - usual).abs() <= 1e-2)).all() and 0.7 < usual < 1.01:
            return "standardized rows"
    return None


def _repeated(rows: Tensor) -> int:
    """How many rows are equal to an earlier one."""
    content = np.ascontiguousarray(rows.numpy())
    return len(content) - len(np.unique(content.view(np.dtype((np.void, content.strides[0])))))


def _alike(teacher: Tensor, student: Tensor) -> float:
    """Share of the rows in which student and teacher are one row, up to a shift and a factor above zero."""
    one, other = (x - x.mean(dim=1, keepdim=True) for x in (student, teacher))
    return (torch.cosine_similarity(one, other, dim=1) > 1 - 1e-9).double().mean().item()


# ---- what is wrong with them ----


def faults_of(
    teacher: Tensor, student: Tensor | None, labels: Tensor | None, masked: Sequence[int], kept: Tensor
) -> dict[str, str]:
    """Texts by the name of a fault.

    Args:
        teacher, student: (N, K), double, without the classes that are minus infinity in every row.
        labels: (N,).
        masked: the classes that are masked in every row, as the caller counts them.
        kept: (K,) booleans, those of the K that are not.
    """
    facts: dict[str, dict[str, Any]] = {}
    classes = teacher.shape[1]
    if masked:
        facts["masked class"] = {"classes": ", ".join(map(str, masked[:5])) + (" …" if len(masked) > 5 else "")}
    if classes == 2:
        facts["two classes"] = {}
    facts |= _of_either(teacher, student, kept)
    if labels is not None:
        facts |= _of_accuracy(teacher, labels)
    strange = {who for fact in facts.values() for who in ("teacher", "student") if who in fact.get("of", "")}
    facts |= _of_teacher(teacher, kept, "teacher" in strange)
    if student is not None and "student" not in strange:
        facts |= _of_student(teacher, student, labels)
    return {name: FAULTS[name].format(**facts[name]) for name in FAULTS if name in facts}


def _of_either(teacher: Tensor, student: Tensor | None, kept: Tensor) -> dict[str, dict[str, Any]]:
    """What may stand in the place of either's logits."""
    facts: dict[str, dict[str, Any]] = {}
    for of, logits in (("teacher", teacher), ("student", student)):
        if logits is None:
            continue
        share, gap = _below(logits[:, kept])
        found = "masked in some rows" if share else _format(logits, trained=of == "teacher")
        if found:
            both = f"{facts[found]['of']}'s and the {of}" if found in facts else of
            least = "0" if logits.min() >= 0 else "-1"
            facts[found] = {"share": share, "gap": gap, "least": least, "of": both}
    return facts


def _of_accuracy(teacher: Tensor, labels: Tensor) -> dict[str, dict[str, Any]]:
    rows, classes = teacher.shape
    if rows < FEWEST:
        return {}
    right = (teacher.argmax(dim=1) == labels).double().mean().item()
    guess = 1 / classes
    frequent = max(guess, labels.bincount().max().item() / rows)

    def deviation(chance: float) -> float:
        # Three of them: one teacher of a thousand without knowledge is above.
        return 3 * math.sqrt(chance * (1 - chance) / rows)

    def facts(chance: float) -> dict[str, Any]:
        return {"accuracy": 100 * right, "chance": 100 * chance, "rows": rows}

    if right < guess - deviation(guess):
        return {"below chance": facts(guess)}
    # All labels alike: nothing can be told from them.
    if right <= min(frequent + deviation(frequent), 1 - 1e-9) and frequent < 1:
        return {"near chance": facts(frequent)}
    return {}


def _of_teacher(teacher: Tensor, kept: Tensor, strange: bool) -> dict[str, dict[str, Any]]:
    """What leaves a teacher nothing to teach; where its rows are `strange`, that explains a uniform softmax and like rows."""
    facts: dict[str, dict[str, Any]] = {}
    constant = constant_rows(teacher)
    varied, log_p = teacher[~constant], teacher.log_softmax(dim=1)
    saturated = (log_p.amax(dim=1).exp() > 1 - 1e-6).double().mean().item()
    share = constant.double().mean().item()
    if share > 0.01 or saturated > 0.5:
        facts["collapsed"] = {"constant": share, "saturated": saturated}
    classes = teacher.shape[1]
    choices = (-(log_p.exp() * log_p).sum(dim=1)).exp().median().item()
    if choices > 0.99 * classes and not strange:
        facts["nearly uniform"] = {"choices": choices, "classes": classes}
    repeated = _repeated(varied)
    if repeated > 0.01 * len(teacher):
        facts["repeated rows"] = {"repeated": repeated, "rows": len(teacher)}
    elif len(varied) > 1 and not strange:
        shown = varied[:, kept]
        centred = shown - shown.mean(dim=1, keepdim=True)
        spread = shown.std(dim=1, correction=0).mean()
        apart = (centred.std(dim=0, correction=0).mean() / spread).item()
        if apart < 0.01:
            facts["rows alike"] = {"apart": apart}
    return facts


def _of_student(teacher: Tensor, student: Tensor, labels: Tensor | None) -> dict[str, dict[str, Any]]:
    """Whether it is a student before training."""
    share = _alike(teacher, student) if teacher.shape[1] > 2 else 0.0
    if share > 0.5:
        return {"student like the teacher": {"share": share}}
    rows, chance = len(student), 1 / student.shape[1]
    if labels is not None and rows >= FEWEST:
        right = (student.argmax(dim=1) == labels).double().mean().item()
        if right > chance + max(0.1, 6 * math.sqrt(chance * (1 - chance) / rows)):
            return {"trained student": {"accuracy": 100 * right, "rows": rows}}
    spread = student.std(dim=1, correction=0).median().item()
    if not SPREAD / UNTRAINED <= spread <= SPREAD * UNTRAINED:
        return {"student's spread": {"spread": spread, "usual": SPREAD}}
    return {}
