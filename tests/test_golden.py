"""The losses give the values that the peers' own code gives (measured in float64, see golden/)."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import golden
import numpy as np
import pytest

NPZ, JSON = (Path(__file__).parent / "golden" / f"golden_dev.{kind}" for kind in ("npz", "json"))
CASES = {case.label: case for case in golden.read(NPZ, JSON)}
COVERED = [label for label, case in CASES.items() if golden.covered(case) and not golden.different(case)]


@pytest.mark.parametrize("label", COVERED)
def test_loss_gradient_and_temperature(label):
    verdict, why = golden.compare(CASES[label])
    assert verdict in ("agrees", "differs"), why


@pytest.mark.parametrize(
    ("name", "ours", "theirs"), [pytest.param(*row, id=row[0]) for row in golden.trajectories(NPZ, JSON)]
)
def test_trajectory(name, ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=golden.RTOL, atol=golden.ATOL)


def test_every_case_is_covered():
    assert [label for label, case in CASES.items() if golden.compare(case)[0] == "uncovered"] == []


def test_ordinary_sets_agree_without_exception():
    """Only the sets of edge cases may differ, and only in what is listed."""
    verdicts = {label: golden.compare(CASES[label])[0] for label in COVERED if not label.startswith("edge")}
    assert len(verdicts) >= 60
    assert {label for label, verdict in verdicts.items() if verdict != "agrees"} == set()


def test_every_builder_is_used():
    for builders, on_features in ((golden.BUILDERS, False), (golden.FEATURES, True)):
        names = [case.name for case in CASES.values() if case.on_features == on_features]
        for pattern, *_ in builders:
            assert any(golden.re.fullmatch(pattern, name) for name in names), pattern


def test_every_listed_difference_exists():
    for group, name, reason in golden.DIFFERENT:
        listed = [
            case
            for case in CASES.values()
            if golden.re.fullmatch(group, case.group) and golden.re.fullmatch(name, case.name)
        ]
        assert listed, reason


def test_report_of_the_committed_file(capsys):
    assert golden.main([str(NPZ), str(JSON)]) == 0
    report = capsys.readouterr().out
    assert "0 cases are not covered" in report
    assert "0 cases disagree" in report
    assert "peer's bug" in report


@pytest.mark.parametrize("case", ["kd_T4", "mlt_code_total", "dkd_total_epoch5"])
def test_an_altered_loss_is_noticed(case, tmp_path, capsys):
    content = json.loads(JSON.read_text())
    content["cases"]["A_B8_K100"][case]["loss"] *= 1 + 1e-8
    (tmp_path / "altered.json").write_text(json.dumps(content))
    assert golden.main([str(NPZ), str(tmp_path / "altered.json")]) == 1
    assert f"A_B8_K100/{case}: loss differs" in capsys.readouterr().out


@pytest.mark.parametrize(
    "array", ["B_B5_K10/zkd_T2/grad_student", "B_B5_K10/mlt_paper_lambda1/tau", "features/nst/grad_student"]
)
def test_an_altered_array_is_noticed(array, tmp_path, capsys):
    arrays = dict(np.load(NPZ))
    arrays[array].flat[3] += 1e-8
    np.savez(tmp_path / "altered.npz", **arrays)
    assert golden.main([str(tmp_path / "altered.npz"), str(JSON)]) == 1
    assert "1 cases disagree" in capsys.readouterr().out


def test_the_script_exits_with_1_on_an_altered_file(tmp_path):
    content = json.loads(JSON.read_text())
    content["cases"]["B_B5_K10"]["ce"]["loss"] += 1e-6
    (tmp_path / "altered.json").write_text(json.dumps(content))
    shutil.copy(NPZ, tmp_path / "same.npz")
    script = Path(golden.__file__)
    done = subprocess.run(
        [sys.executable, script, "same.npz", "altered.json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert "B_B5_K10/ce: loss differs" in done.stdout
