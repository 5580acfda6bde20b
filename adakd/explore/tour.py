"""The guided tour of the playground: eight stops, each a setting, something to predict or to do, and what is seen then.

What a stop says of its setting is of seed 0; tests/explore/test_tour.py trains each, and what is said of more seeds too.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["PARTS", "TOUR", "Stop"]

PARTS = {  # what a stop can point at: its CSS selector in the figure
    "maps": ".ak-planes",
    "left map": ".ak-planes > :first-child",
    "soft label": ".ak-charts > :nth-child(1)",
    "accuracy": ".ak-charts > :nth-child(2)",
    "losses": ".ak-charts > :nth-child(3)",
    "τ of A": ".ak-student.a .ak-slider",
    "τ of B": ".ak-student.b .ak-slider",
    "questions": ".ak-asked",
}


@dataclass(frozen=True)
class Stop:
    """A stop of the tour."""

    name: str
    text: str
    lit: tuple[str, ...]
    """Names of `PARTS`, what it is about; the first one is scrolled to."""
    state: dict[str, Any] = field(default_factory=dict)
    """Traits of `Playground` at its beginning; all others at their defaults."""
    ask: str = ""
    """What is to be predicted before anything is done."""
    answers: tuple[str, ...] = ()
    right: int = 0
    """Place of the right answer."""
    act: str = ""
    """What the reader is to do."""
    controls: tuple[str, ...] = ()
    """What it is done with, at hand beside the text: ``play``, ``view`` (the teacher shown), ``a`` or ``b`` (its τ)."""
    until: dict[str, tuple[float, float] | tuple[str]] = field(default_factory=dict)
    """Done when each of these lies between lowest and highest, or is one of the texts: traits, what `Playground.values`
    has, and ``even``, the second bar of the soft label at the cross over the highest."""
    after: str = ""
    """What is said when it is done; ``{lead}`` is the number that the page has measured, ``top`` the highest bar."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


_HOT_AND_COLD = {"transfer": 20, "a": "kd", "tau_a": 1.0, "b": "kd", "tau_b": 20.0}

TOUR = (
    Stop(
        "Three maps",
        "On the left is the teacher, which has learned from 1000 points; its two students have not begun, and see only "
        "the 40 dots. A place has the colour of the class that a network gives it, mixed where the network is unsure. "
        "The bars below are the teacher's soft label at the cross, as B sees it.",
        ("maps", "soft label"),
        act="Move the cross to a border between two colours of the left map, by a click or by the arrow keys.",
        until={"even": (0.8, 1.0)},
        after="Here the teacher can hardly decide: the two highest bars are {top} and {second}. A label names one class "
        "of the two, whereas the soft label has both, and how near all the others are.",
    ),
    Stop(
        "Who learns more?",
        "A learns from the labels of the 40 points, B from the teacher's outputs at the same points.",
        ("maps", "accuracy"),
        ask="Which of them will name more of 1000 held-out points after 600 steps?",
        answers=("A", "B", "no clear difference"),
        right=1,
        act="Press play.",
        controls=("play",),
        until={"step": (600, 6000)},
        after="B is ahead, by {lead} points, and so it is for every one of 20 seeds. Compare the maps: the borders of B "
        "run more like the teacher's.",
    ),
    Stop(
        "What does the temperature do?",
        "B's loss divides the logits of both networks by its temperature τ, now 4, before the softmax. The left map and "
        "the bars show the teacher as B sees it.",
        ("maps", "soft label", "τ of B"),
        act="Move B's τ above 8, and watch the bars.",
        controls=("b",),
        until={"tau_b": (8.0, 50.0)},
        after="The left map fades, and the highest bar is down to {top}, while the lower bars rise towards it. B can still "
        "learn from them, because its loss multiplies by τ² what the division took away.",
    ),
    Stop(
        "Is a hot student faster?",
        "Now both learn from the teacher, at 20 points and with one weight λ: A at τ = 1, B at τ = 20.",
        ("maps", "accuracy"),
        state=_HOT_AND_COLD,
        ask="Who will be ahead after 100 steps?",
        answers=("A, the cold one", "B, the hot one"),
        right=1,
        act="Press play; it stops after 100 steps.",
        controls=("play",),
        until={"step": (100, 100)},
        after="B, by {lead} points here, and by 4.2 on average over ten seeds. The temperature is not the only difference, "
        "though: at the same λ the hot loss has a gradient 2.4 times as long, which has a part in the lead.",
    ),
    Stop(
        "And later?",
        "The same two students, who go on from step 100.",
        ("maps", "accuracy"),
        state={**_HOT_AND_COLD, "step": 100},
        ask="What will have become of B's lead after 600 steps?",
        answers=("it has grown", "it is as large", "little is left of it"),
        right=2,
        act="Press play.",
        controls=("play",),
        until={"step": (600, 6000)},
        after="The difference is {lead} points now, which may be chance, and over ten seeds the interval of the mean "
        "contains zero. So the hot student was earlier, and nothing here shows that it ends better.",
    ),
    Stop(
        "Must one number do for every point?",
        "B now follows the rule that this book is about: τ is 1.366 times the highest standardized logit of student or "
        "teacher, so that every point has its own. Classes 0 and 1 lie close together.",
        ("left map",),
        state={"data": "pair", "noise": 0.1, "transfer": 100, "a": "zkd", "b": "zkd+mlt", "view": "teacher"},
        ask="Will τ be higher or lower at the points of 0 and 1 than at the others?",
        answers=("higher", "lower"),
        right=1,
        act="Press play, and then let the left map show “how soft, where”.",
        controls=("play", "view"),
        until={"step": (600, 6000), "view": ("tau",)},
        after="Lower, by 0.3 on average, and lower for every one of 20 seeds: the map is bluest along the borders. Two "
        "peaks share the height that one would have, so the rule is sharpest where the teacher is unsure.",
    ),
    Stop(
        "How high is high enough?",
        "A learns by τ²·KL at τ = 50, B by one minus a correlation, which has no temperature. The chart has both numbers "
        "of both students, and all its lines lie on each other.",
        ("losses", "τ of A"),
        state={"a": "zkd", "tau_a": 50.0, "standardize_a": "population", "b": "correlation", "step": 600},
        ask="What will A's two lines do when its τ is low, τ²·KL and the dashed 1 − ρ?",
        answers=("stay together", "part"),
        right=1,
        act="Move A's τ below 2.",
        controls=("a",),
        until={"tau_a": (0.5, 2.0), "step": (600, 6000)},
        after="They part: τ²·KL is {kl_a} and 1 − ρ is {distance_a}. At a high temperature distillation teaches the "
        "correlation of the logits, and at a low one it teaches something else.",
    ),
    Stop(
        "On your own",
        "The six questions at the top are settings like these, each with its answer folded below it. Below the maps you "
        "can change everything, and the page's address keeps what you have set.",
        ("questions",),
    ),
)
