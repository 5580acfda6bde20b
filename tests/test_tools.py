"""The tools that write pages: what they are asked in words that they do not know, they refuse, and write nothing."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = [f"book/_tools/{name}.py" for name in ("advice", "cli", "home", "readme", "scaling")]
TOOLS.append("tests/method_table.py")


@pytest.mark.parametrize("tool", TOOLS)
def test_help_and_what_is_unknown_write_nothing(tool, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_tools"))  # as of a script: they share modules
    monkeypatch.setenv("COLUMNS", "80")  # which book/_tools/cli.py sets
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: pytest.fail("something was written"))
    main = runpy.run_path(str(ROOT / tool))["main"]
    for arguments, status in ((["--help"], 0), (["--chekc"], 2), (["one", "two", "three"], 2)):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == status
    told = capsys.readouterr()
    assert "--check" in told.out
    assert "unrecognized arguments: --chekc" in told.err
