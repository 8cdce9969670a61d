"""The example of the guide "To hardware": from fit to files that the tools of hardware agree with."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "to_hardware.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("to_hardware", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_hands_over_what_its_tools_agree_with(example, tmp_path, capsys):
    installed = [tool for tool in example.CHECKS if shutil.which(tool)]
    example.main(tmp_path)
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.endswith(": no difference")] == [
        f"{tool}: no difference" for tool in installed
    ]
    assert {"model.v", "model.c"} <= {path.name for path in tmp_path.iterdir()}
    if not installed:
        pytest.skip("needs iverilog, verilator or a C compiler")


def test_a_difference_ends_the_example(example, tmp_path, monkeypatch):
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    monkeypatch.setattr(example, "CHECKS", {"cc": "sed -i 's/= n/= 1 + n/' model.c && " + example.CHECKS["cc"]})
    with pytest.raises(SystemExit, match=r"^cc found a difference"):
        example.main(tmp_path)
