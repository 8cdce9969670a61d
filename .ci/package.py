"""Builds wheel and sdist, looks at what is in them, and tries the wheel in an environment without the checkout.

The clean environment has the wheel and pip alone; what the package needs is read from the environment that runs this.
Prints how long the import takes; nothing depends on that number, as it is up to the machine.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GOAL = 0.5  # seconds for the import

SMOKE = """
import sys
import numpy as np
import sklearn_htmc
from sklearn_htmc import CircuitRegressor, ResNetNormRegressor
from sklearn_htmc.circuit import compile_circuit, simulate
from sklearn_htmc.export import to_onnx

assert sklearn_htmc.__file__.startswith(sys.prefix), sklearn_htmc.__file__
assert "torch" not in sys.modules
X = np.random.default_rng(0).normal(size=(200, 3))
y = np.abs(X[:, 0]) + X[:, 1]
network = ResNetNormRegressor(alpha=0.01, width=8, n_neurons=8, max_iter=10, tol=1, random_state=0).fit(X, y)
assert network.score(X, y) > 0.5
circuit = compile_circuit(network, X, epsilon=0.2, effort=0)
assert simulate(circuit, X).shape == (200,)
assert CircuitRegressor(alpha=0.01, augment=False).fit(X, y).score(X, y) > 0.5
assert len(to_onnx(circuit).graph.output) == 1
print(f"smoke test: {circuit.n_gates} gates, version {sklearn_htmc.__version__}")
"""


def run(*command: str | Path, **options: Any) -> str:
    """Run a command and return what it prints; show all of it where the command fails."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def environment(folder: Path) -> tuple[Path, Path]:
    """Make an environment with pip alone; return its Python and the folder of its packages."""
    venv.create(folder, with_pip=True)
    scheme = {"base": str(folder), "platbase": str(folder)}
    paths = [Path(sysconfig.get_path(name, "venv", vars=scheme)) for name in ("scripts", "purelib")]
    return paths[0] / "python", paths[1]


def built(folder: Path, dist: Path) -> tuple[Path, Path]:
    """Build an sdist, and a wheel from it."""
    python, _ = environment(folder)
    run(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", "build")
    run(python, "-m", "build", "--outdir", dist, ROOT)
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    return wheel, sdist


def check_content(wheel: Path, sdist: Path) -> None:
    """Exit where files are missing from the archives or where there are others."""
    files = set(zipfile.ZipFile(wheel).namelist())
    version = wheel.name.split("-")[1]
    package = {name for name in files if not name.startswith(f"sklearn_htmc-{version}.dist-info/")}
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sklearn_htmc").rglob("*.py")}
    if package != sources | {"sklearn_htmc/py.typed"}:
        sys.exit(f"the wheel differs from the package in {package ^ (sources | {'sklearn_htmc/py.typed'})}")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"pyproject.toml", "CITATION.cff", "LICENSE", "tests/conftest.py", "doc/index.md", "sklearn_htmc/py.typed"}
    unwanted = {name for name in names if "__pycache__" in name or re.match(r"\.(?!gitignore)|build/", name)}
    if wanted - names or unwanted:
        sys.exit(f"the sdist lacks {wanted - names} or has files of this machine: {sorted(unwanted)}")
    print(f"{wheel.name}: {len(files)} files, {wheel.stat().st_size / 1e3:,.0f} kB")
    print(f"{sdist.name}: {len(names)} files, {sdist.stat().st_size / 1e3:,.0f} kB")


def installed(wheel: Path, folder: Path) -> Path:
    """Make an environment with the wheel, and return its Python."""
    python, packages = environment(folder)
    # A folder that a .pth file names is searched, but its own .pth files, such as that of a checkout, are not read.
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-installed", wheel)
    return python


def report_import(python: Path, **options: Any) -> None:
    """Print how long one core works on the import, the best of three; python -X importtime says what on."""
    code = "import time; import sklearn_htmc; print(time.process_time())"
    seconds = min(float(run(python, "-c", code, **options)) for _ in range(3))
    print(f"import sklearn_htmc: {seconds:.2f} s; the goal is {GOAL} s")


def main() -> None:
    """Build, look, install, try, measure."""
    with tempfile.TemporaryDirectory() as folder:
        wheel, sdist = built(Path(folder) / "tools", Path(folder) / "dist")
        check_content(wheel, sdist)
        python = installed(wheel, Path(folder) / "clean")
        clean = {"cwd": folder, "env": {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}}
        print(run(python, "-c", SMOKE, **clean), end="")
        report_import(python, **clean)


if __name__ == "__main__":
    main()
