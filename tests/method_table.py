"""What is known of each method: one table, measured.

    python tests/method_table.py                print it
    python tests/method_table.py --write FILE   write it there as Markdown
    python tests/method_table.py --check FILE   exit with 1 if that would change it

Columns: golden cases of the method's divergence, rule and standardization, or of its term, that agree, or of its rule's
trajectories (of those in golden/); gradcheck of the loss by the student's logits, with temperatures, weights and
interpolated teachers held where the method stops their gradient, and by its features; what the rule or the term learns;
what state it keeps; whether a sample's loss depends on the others of its batch, and so on gradient accumulation; whether
the loss goes through torch.compile as one graph.
"""

import argparse
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import golden

from adakd import (
    METHODS,
    Batch,
    Fixed,
    LogitObjective,
    LogitTerm,
    Objective,
    PowerSum,
    Refinement,
    SampleWeight,
    Signals,
    Tapped,
    TemperatureRule,
    Temperatures,
    create_method,
    create_model,
)

HERE = Path(__file__).parent
BATCH, CLASSES = 6, 8
ON_LOGITS = [name for name, row in METHODS.items() if row.on_logits]
TERMS = [name for name, row in METHODS.items() if row.term is not None]


@dataclass(frozen=True)
class Facts:
    """One row of the table."""

    method: str
    agreeing: int
    in_part: int
    wrong: int
    gradcheck: bool
    learned: tuple[str, ...]
    state: tuple[str, ...]
    reads_batch: bool
    one_graph: bool


def _kind(criterion: LogitObjective) -> tuple:
    """What makes two losses the same but for weights, the value of a fixed temperature, and alpha and beta."""
    rule = criterion.temperature
    inner = getattr(criterion.divergence, "mlkd", criterion.divergence)
    term = criterion.term
    # The weight of WTTM was an option of its divergence once, and is so in the golden cases.
    weight = PowerSum if getattr(inner, "weighted", False) else type(term and term.weight)
    options = (type(term and term.refine), weight, getattr(inner, "kl_standardize", None))
    settings = "" if isinstance(rule, Fixed) else str(rule)
    return type(inner), *options, type(rule), settings, criterion.standardize


_FILES = tuple(HERE / "golden" / f"golden_dev.{kind}" for kind in ("npz", "json"))


@cache
def _verdicts() -> list[tuple[tuple, str]]:
    built = ((case, golden.build(case)) for case in golden.read(*_FILES))
    return [(_kind(criterion), golden.compare(case)[0]) for case, criterion in built if criterion is not None]


@cache
def _trajectories() -> list[tuple[str, str]]:
    return [
        (name, "agrees" if np.allclose(ours, theirs, rtol=golden.RTOL, atol=golden.ATOL) else "WRONG")
        for name, ours, theirs in golden.trajectories(*_FILES)
    ]


def _batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(BATCH, CLASSES, generator=generator, dtype=torch.float64) for _ in "st")
    return student, teacher, torch.randint(CLASSES, (BATCH,), generator=generator)


def _gradcheck(name: str) -> bool:
    student, teacher, target = _batch()
    student.requires_grad_()
    # In evaluation mode: a rule that updates its state at each call is not a function of its arguments.
    criterion = create_method(name).double().eval()
    term = criterion.term
    if term is not None:
        _hold(term, student, teacher, target)
    return torch.autograd.gradcheck(
        lambda s: criterion(s, teacher, target, epoch=7).total, student, raise_exception=False
    )


def _hold(term: LogitTerm, student: torch.Tensor, teacher: torch.Tensor, target: torch.Tensor) -> None:
    """Put constants in the place of the parts that send the student no gradient: it is not that of their numbers."""
    batch = Batch(target, None, 7)
    if term.refine is not None:
        rows = term.refine(student, teacher, batch)
        assert rows[0] is student, "a refinement of the student's rows is in its gradient"
        term.refine = HeldRows(rows[1].detach())
        teacher = rows[1]
    z = [term.standardized(rows) for rows in (student, teacher.detach())]
    tau = term.temperature(*z, target, 7)
    if not _reaches(tau.student, student):
        term.temperature = Held(tau)
    if term.weight is not None:
        weight = term.weight(*z, target, tau)
        if not _reaches(weight, student):
            term.weight = HeldWeight(weight)


class HeldRows(Refinement):
    """The teacher's rows as they were once."""

    def __init__(self, teacher: torch.Tensor):
        super().__init__()
        self.teacher = teacher

    def forward(self, student, teacher, batch) -> tuple[torch.Tensor, torch.Tensor]:
        return student, self.teacher


class HeldWeight(SampleWeight):
    """Weights as they were once."""

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = weight.detach()

    def forward(self, student, teacher, target, temperatures) -> torch.Tensor:
        return self.weight


class Held(TemperatureRule):
    """Temperatures as they were once."""

    def __init__(self, tau: Temperatures):
        super().__init__()
        self.tau = Temperatures(*(t.detach() for t in tau))

    def forward(self, student, teacher, target=None, epoch=None) -> Temperatures:
        return self.tau


def _reaches(value: torch.Tensor, leaf: torch.Tensor) -> bool:
    if not value.requires_grad:
        return False
    return torch.autograd.grad(value.sum(), leaf, retain_graph=True, allow_unused=True)[0] is not None


def _one_graph(name: str) -> bool:
    student, teacher, target = (x.float() if x.is_floating_point() else x for x in _batch())
    torch.compiler.reset()
    compiled = torch.compile(create_method(name), fullgraph=True, backend="eager")
    try:
        compiled(student.requires_grad_(), teacher, target, epoch=1).total.backward()
    except torch._dynamo.exc.TorchDynamoException:
        return False
    return True


def facts(name: str) -> Facts:
    """Measure one method."""
    criterion = create_method(name)
    verdicts = [verdict for kind, verdict in _verdicts() if kind == _kind(criterion)]
    verdicts += [verdict for path, verdict in _trajectories() if path.startswith(METHODS[name].rule or "–")]
    return Facts(
        method=name,
        agreeing=verdicts.count("agrees"),
        in_part=verdicts.count("differs"),
        wrong=verdicts.count("WRONG"),
        gradcheck=_gradcheck(name),
        learned=tuple(n.rpartition(".")[2] for n, _ in criterion.named_parameters()),
        state=tuple(n.rpartition(".")[2] for n, _ in criterion.named_buffers()),
        reads_batch=METHODS[name].reads_batch,
        one_graph=_one_graph(name),
    )


# ---- methods that are a term ----


# Without the summands that train a module of the term's own: the student has no gradient of them.
_BY_THE_STUDENT = {"okd": {"follow": 0.0, "hold": 0.0}}


@cache
def _networks() -> tuple[torch.nn.Module, torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    student, teacher = (create_model(name, CLASSES).double().eval() for name in ("resnet8x0.5", "resnet8"))
    return student, teacher, torch.randn(BATCH, 3, 16, 16, dtype=torch.float64)


def _built(name: str) -> tuple[Objective, Signals, Signals]:
    """The method with its connectors, in evaluation mode, and the outputs of two networks for a batch."""
    criterion = create_method(name, **_BY_THE_STUDENT.get(name, {}))
    *networks, images = _networks()
    with torch.no_grad():
        outputs = [Tapped(net, taps)(images) for net, taps in zip(networks, criterion.taps, strict=True)]
    criterion.build(*outputs, train_images=20).double()
    return criterion.eval(), *outputs


def facts_of_term(name: str) -> Facts:
    """Measure a method that is one term."""
    criterion, student, teacher = _built(name)
    term = criterion.terms[name]
    target, index = torch.arange(BATCH) % CLASSES, torch.arange(BATCH)

    def loss(criterion: torch.nn.Module, leaves: list[torch.Tensor]) -> torch.Tensor:
        features = dict(zip(student.features, leaves[1:], strict=True))
        return criterion(Signals(leaves[0], features), teacher, target, epoch=7, index=index).total

    with torch.no_grad():  # a first step sets what a term estimates once
        criterion.train()(student, teacher, target, epoch=7, index=index)
        criterion.eval()
    # Away from zeros, as of dead channels: a direction has no derivative there.
    generator = torch.Generator().manual_seed(0)
    apart = [torch.rand(x.shape, generator=generator).to(x) for x in student.features.values()]
    leaves = [
        x.detach().requires_grad_() for x in (student.logits, *map(torch.add, student.features.values(), apart))
    ]
    cases = [case for case in golden.read(*_FILES) if case.on_features]
    verdicts = [golden.compare(case)[0] for case in cases if golden.feature_of(case)[0] is type(term)]
    torch.compiler.reset()
    one_graph = True
    try:
        loss(torch.compile(criterion, fullgraph=True, backend="eager"), leaves).backward()
    except torch._dynamo.exc.TorchDynamoException:
        one_graph = False
    running = ("running_mean", "running_var", "num_batches_tracked")
    state = [key for key, _ in term.named_buffers() if key.rpartition(".")[2] not in running]
    return Facts(
        method=name,
        agreeing=verdicts.count("agrees"),
        in_part=verdicts.count("differs"),
        wrong=verdicts.count("WRONG"),
        gradcheck=torch.autograd.gradcheck(
            lambda *x: loss(criterion, list(x)), leaves, fast_mode=True, raise_exception=False
        ),
        learned=tuple(dict.fromkeys(key.partition(".")[0] for key, _ in term.named_parameters())),
        state=tuple(dict.fromkeys(key.partition(".")[0] for key in state)),
        reads_batch=METHODS[name].reads_batch,
        one_graph=one_graph,
    )


def all_facts() -> list[Facts]:
    """Every row of the table."""
    return [*map(facts, ON_LOGITS), *map(facts_of_term, TERMS)]


def markdown(rows: list[Facts]) -> str:
    """The table."""

    def cells(row: Facts) -> list[str]:
        peers = f"{row.agreeing} agree" if row.agreeing else "no public values"
        peers += f", {row.in_part} in part" if row.in_part else ""
        peers += f", {row.wrong} disagree" if row.wrong else ""
        yes = {True: "yes", False: "no"}
        return [
            f"`{row.method}`",
            peers,
            yes[row.gradcheck],
            ", ".join(row.learned) or "–",
            ", ".join(row.state) or "–",
            yes[row.reads_batch],
            yes[row.one_graph],
        ]

    head = ["Method", "Peers' values", "gradcheck", "Learned", "State", "Reads the batch", "One graph"]
    lines = [head, ["---"] * len(head), *map(cells, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--write", type=Path, metavar="FILE", help="write it there as Markdown")
    where.add_argument(
        "--check", type=Path, metavar="FILE", help="exit with 1 if --write would change that file"
    )
    given = parser.parse_args(arguments)
    table = markdown(all_facts())
    if given.check is not None:
        return int(not given.check.is_file() or given.check.read_text(encoding="utf-8") != table)
    if given.write is not None:
        given.write.write_text(table, encoding="utf-8")
    else:
        print(table, end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
