"""Six questions that the playground asks: a setting, what to look for, and what is there to be found.

Every number in an answer is of the 20 seeds 0 to 19, after 600 steps; tests/explore/test_gallery.py trains them all.
"""

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["GALLERY", "Question"]


@dataclass(frozen=True)
class Question:
    """A setting of the playground that asks something."""

    name: str
    question: str
    answer: str
    state: dict[str, Any]
    """Traits of `Playground`; all others at their defaults."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


GALLERY = (
    Question(
        "40 points",
        "The teacher saw 1000 points, its students see 40. A learns from their labels alone; B learns from what the "
        "teacher predicts at the same 40 points. Who wins, and why?",
        "B, for every one of 20 seeds: by 4.5 points on average. A label names one class. The teacher also tells which "
        "neighbours a point might belong to, and so where the borders run between points that B never saw. Move the "
        "transfer set to 1000 points: the lead falls to 1.1 points, for now the labels tell it too.",
        {"a": "ce", "b": "kd"},
    ),
    Question(
        "two peaks",
        "Classes 0 and 1 lie close together. Between them the teacher's logits have two peaks, where the paper's rule "
        "counts on one. B follows the rule: does it get a higher or a lower temperature there? The left picture has it, "
        "blue where it is low.",
        "A lower one: two peaks share the height that one would have, and so it is along every border. On points of the "
        "pair τ is lower by 0.3 on average, and lower for every one of 20 seeds: the soft label is sharpened just where "
        "the teacher is unsure. It does no harm here: A, at the fixed τ = 2, and B are never more than 0.5 points apart.",
        {"data": "pair", "noise": 0.1, "transfer": 100, "a": "zkd", "b": "zkd+mlt", "view": "tau"},
    ),
    Question(
        "three classes",
        "With three classes the rule's temperature never passes 1.93 for A, and 1.58 for B, whatever the networks "
        "predict. Look at the spread of τ. Why is there a ceiling?",
        "Logits that are standardized over K classes have no maximum above √(K − 1): one class has all of the deviation. "
        "With K = 3 that is 1.41, and τ = 1.366 times it is 1.93. B computes as the released code does, with the sample "
        "deviation, which takes another factor of √(2/3) off: 1.58. With 10 classes the ceilings are 4.10 and 3.89. "
        "The usual τ = 4 is out of reach for small K.",
        {"classes": 3, "noise": 0.3, "a": "zkd+mlt", "b": "zkd+mlt-abs"},
    ),
    Question(
        "τ to infinity",
        "A minimizes τ²·KL of standardized logits at τ = 50, B one minus their correlation, which has no temperature at "
        "all. How different will the two become?",
        "Hardly: after 600 steps A's loss is within 1 % of 1 − ρ for every one of 20 seeds, and the two are never more "
        "than 0.5 points apart. A high temperature turns distillation into correlation. Now take A's τ down to 1: the "
        "dashed and the solid line part.",
        {"a": "zkd", "tau_a": 50.0, "standardize_a": "population", "b": "correlation"},
    ),
    Question(
        "a learned τ",
        "B's temperature (CTKD) is learned, and against the student: it climbs the loss that the student descends. It "
        "starts at 15.6 and may go from 1 to 21. Where does it walk, and who gains?",
        "Up: above 19.8 for every one of 20 seeds, because with these few points the loss grows with τ. B pays for it with "
        "0.9 points on average, though not for every seed. It is no law: with 1000 points it stops between 16 and 19.5, and "
        "on standardized logits (choose zctkd) it hardly moves. On CIFAR-100 the weight decides: at λ = 0.9 it falls to 3, "
        "at 10.3 it climbs to 21 (chapter 11).",
        {"lr": 0.02, "a": "kd", "weight_a": 9.0, "b": "ctkd", "weight_b": 9.0},
    ),
    Question(
        "λ: 0.9 or 9",
        "Two students with one loss and one temperature. Only the weight of the teacher's term differs: 0.9 for A, as "
        "usual for raw logits, 9 for B, as published for standardized ones. Does it matter?",
        "Yes: B is ahead by 1.7 points on average and behind for none of 20 seeds. Standardizing divides the gradient by "
        "the spread of the student's logits, and a larger weight makes up for that. A comparison of methods that "
        "does not say its weights compares weights.",
        {"a": "zkd", "weight_a": 0.9, "b": "zkd", "weight_b": 9.0},
    ),
)
