"""Six questions for the playground: a setting, what to look for, and what is there to be found.

Every number in an answer is of the 20 seeds 0 to 19, after 600 steps; tests/explore/test_gallery.py trains them all.
"""

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["GALLERY", "Question"]


@dataclass(frozen=True)
class Question:
    """A setting of the playground with a question."""

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
        "The teacher was trained on 1000 points, and its students have 40. A learns from their labels alone, while B also "
        "has the teacher's logits at the same 40 points. Which of them is more accurate, and why?",
        "B is, for every one of 20 seeds, by 4.5 points on average. A label names one class, whereas the teacher's logits "
        "also show to which neighbours a point might belong, and so where the borders run between the 40 points. With a "
        "transfer set of 1000 points the lead falls to 1.1 points, because so many labels show the borders too.",
        {"a": "ce", "b": "kd"},
    ),
    Question(
        "two peaks",
        "Classes 0 and 1 lie close together, so that between them the teacher's logits have two peaks, where the paper's "
        "rule counts on one. B follows the rule: does it get a higher or a lower temperature there? The left picture "
        "shows it, blue where it is low.",
        "It gets a lower one, because two peaks share the height that one would have, as they do along every border. On "
        "points of the pair τ is lower by 0.3 on average, and lower for every one of 20 seeds, so the soft label is "
        "sharpened just where the teacher is unsure. It does no harm here: A, at the fixed τ = 2, and B are never more "
        "than 0.5 points apart.",
        {"data": "pair", "noise": 0.1, "transfer": 100, "a": "zkd", "b": "zkd+mlt", "view": "tau"},
    ),
    Question(
        "three classes",
        "With three classes the rule's temperature never passes 1.93 for A, and 1.58 for B, whatever the logits of the "
        "networks are. Look at the spread of τ: why is there a ceiling?",
        "Logits that are standardized over K classes have no maximum above √(K − 1), which they reach if one class has "
        "all of the deviation. With K = 3 that is 1.41, and τ = 1.366 times it is 1.93. B computes as the released code "
        "does, with the sample deviation, which takes another factor of √(2/3) off, so that 1.58 is left. With 10 "
        "classes the ceilings are 4.10 and 3.89, and for small K the usual τ = 4 is out of reach.",
        {"classes": 3, "noise": 0.3, "a": "zkd+mlt", "b": "zkd+mlt-abs"},
    ),
    Question(
        "τ to infinity",
        "A minimizes τ²·KL of standardized logits at τ = 50, B one minus their correlation, which has no temperature at "
        "all. How different will the two become?",
        "They hardly differ: after 600 steps A's loss is within 1 % of 1 − ρ for every one of 20 seeds, and the two are "
        "never more than 0.5 points apart, because a high temperature turns distillation into correlation. If you take "
        "A's τ down to 1, the dashed and the solid line part.",
        {"a": "zkd", "tau_a": 50.0, "standardize_a": "population", "b": "correlation"},
    ),
    Question(
        "a learned τ",
        "B's temperature (CTKD) is learned, and against the student, because it climbs the loss that the student descends. "
        "It starts at 15.6 and may go from 1 to 21. Where does it end, and which student gains by it?",
        "It goes up, above 19.8 for every one of 20 seeds, because with these few points the loss grows with τ. B loses "
        "0.9 points by it on average, though not for every seed. It is no law, since with 1000 points it stops between 16 "
        "and 19.5, and on standardized logits (choose zctkd) it hardly moves. On CIFAR-100 the weight decides: at λ = 0.9 "
        "it falls to 3, and at 10.3 it climbs to 21 (chapter 11).",
        {"lr": 0.02, "a": "kd", "weight_a": 9.0, "b": "ctkd", "weight_b": 9.0},
    ),
    Question(
        "λ: 0.9 or 9",
        "Two students have one loss and one temperature, and only the weight of the distillation term differs: 0.9 for A, "
        "as usual for raw logits, and 9 for B, as published for standardized ones. Does it matter?",
        "It does, because B is ahead by 1.7 points on average and behind for none of 20 seeds. Standardizing divides the "
        "gradient by the spread of the student's logits, and a larger weight makes up for that. So a comparison of "
        "methods whose weights are not stated may compare the weights.",
        {"a": "zkd", "weight_a": 0.9, "b": "zkd", "weight_b": 9.0},
    ),
)
