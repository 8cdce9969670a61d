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


@pytest.fixture(scope="module")
def folder(example, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hardware")
    example.write(folder)
    return folder


def test_the_example_hands_over_what_its_tools_agree_with(example, folder, capsys):
    assert {"model.v", "model.c", "model.h"} <= {path.name for path in folder.iterdir()}
    installed = [tool for tool in example.CHECKS if shutil.which(tool)]
    if not installed:
        pytest.skip("needs iverilog, verilator or a C compiler")
    example.check(folder)
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.endswith(": no difference")] == [
        f"{tool}: no difference" for tool in installed
    ]


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_a_difference_ends_the_example(example, folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    source = (folder / "model.c").read_text()
    changed = source.replace("y[0] = n", "y[0] = 1 ^ n")
    assert changed != source
    (tmp_path / "model.c").write_text(changed)
    monkeypatch.setattr(example, "CHECKS", {"cc": "cc -o in_c model.c model_test.c && ./in_c"})
    with pytest.raises(SystemExit, match=r"^cc found a difference"):
        example.check(tmp_path)
