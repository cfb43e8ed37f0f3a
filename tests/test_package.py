"""The package: light to import, one copy under any name, and a wheel with exactly the tracked files."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "networkx", "numpy", "yaml", "rich", "typer", "av", "decord", "PIL")


def python(code: str, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which this checkout is the package `tokenloom`, whatever it is called."""
    (tmp_path / "tokenloom").symlink_to(ROOT)
    return tmp_path


def tracked(*folders: str) -> set[str]:
    """Files under the folders that git tracks or would track."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *folders]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}


def packages() -> set[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return set(settings["tool"]["setuptools"]["packages"])


def test_importing_tokenloom_imports_nothing_heavy(folder: Path) -> None:
    """Names come on first use, so the import stays far below 0.1 s."""
    code = f"import sys, tokenloom; print([m for m in {HEAVY} if m in sys.modules])"
    assert python(code, folder) == "[]"


def test_importing_tokenloom_imports_its_root_only(folder: Path) -> None:
    """Not one module of nodes or runtime either."""
    code = "import sys, tokenloom; print([m for m in sys.modules if m.startswith('tokenloom')])"
    assert python(code, folder) == "['tokenloom']"


def test_importing_the_nodes_leaves_transformers_alone(folder: Path) -> None:
    """Planning and checking need no model code."""
    code = "import sys, tokenloom.nodes; print('transformers' in sys.modules)"
    assert python(code, folder) == "False"


def test_every_public_name_resolves(folder: Path) -> None:
    """`from tokenloom import *` gives what `__all__` promises."""
    code = "import tokenloom; print(all(getattr(tokenloom, n) is not None for n in tokenloom.__all__))"
    assert python(code, folder) == "True"


def test_planning_and_executing_are_public(folder: Path) -> None:
    """`plan` beside `run`, and `execute` for a plan that was looked at."""
    code = (
        "import tokenloom as t; p = t.plan(t.load('visionzip'), {'image': 'examples/media/shapes.png'});"
        "print(t.plan.__module__, t.execute.__module__, len(p.steps) > 5)"
    )
    wanted = "tokenloom.runtime.plan tokenloom.runtime.run True"
    (folder / "examples").symlink_to(ROOT / "examples")
    assert python(code, folder) == wanted


def test_an_unknown_public_name_is_an_attribute_error(folder: Path) -> None:
    """With Python's own words, so that hasattr and from-imports behave."""
    code = (
        "import tokenloom\ntry: tokenloom.Grpah\n"
        "except AttributeError as e: print(e, hasattr(tokenloom, 'zz'))"
    )
    assert python(code, folder) == "module 'tokenloom' has no attribute 'Grpah' False"


def test_loaded_under_another_name_it_is_the_only_copy(tmp_path: Path) -> None:
    """As ComfyUI loads a folder of custom_nodes: parts are `tokenloom.*`, classes exist once."""
    code = f"""
import importlib.util, sys
root = {str(ROOT)!r}
sys.path = [p for p in sys.path if p]
spec = importlib.util.spec_from_file_location(
    root, root + "/__init__.py", submodule_search_locations=[root])
module = importlib.util.module_from_spec(spec)
sys.modules[root] = module
spec.loader.exec_module(module)
import tokenloom
from tokenloom import nodes
from tokenloom.runtime.needs import Needs
print(tokenloom is module, module.Needs is Needs, Needs.__module__, nodes.__name__,
      any(m.startswith(root + ".") for m in sys.modules))
"""
    assert python(code, tmp_path) == "True True tokenloom.runtime.needs tokenloom.nodes False"


def test_pyproject_lists_every_package() -> None:
    """A folder with Python files that is not listed would be left out of the wheel in silence."""
    folders = {Path(f).parent for f in tracked("nodes", "runtime") if f.endswith(".py")}
    expected = {".".join(("tokenloom", *folder.parts)) for folder in folders}
    assert packages() == expected | {"tokenloom", "tokenloom.graphs"}


def test_every_package_folder_has_an_init() -> None:
    """No accidental namespace packages."""
    folders = {Path(f).parent for f in tracked("nodes", "runtime") if f.endswith(".py")}
    assert [str(f) for f in folders if not (ROOT / f / "__init__.py").is_file()] == []


def test_the_root_holds_no_other_module() -> None:
    """Any further .py at the root would be packed as `tokenloom.x`."""
    assert sorted(p.name for p in ROOT.glob("*.py")) == ["__init__.py", "__main__.py"]


def test_the_package_imports_itself_relatively() -> None:
    """`import nodes` at the root would be a second copy; `tokenloom.` would break under another name."""
    own = {"tokenloom", "nodes", "runtime", "graphs"}
    wrong = []
    for name in sorted(f for f in tracked("nodes", "runtime") if f.endswith(".py")):
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and node.level == 0
                else []
            )
            wrong += [f"{name}: {n}" for n in names if n.split(".")[0] in own]
    assert wrong == []


def test_runtime_never_imports_nodes() -> None:
    """Dependencies point one way; the registry finds nodes by name."""
    wrong = []
    for name in sorted(f for f in tracked("runtime") if f.endswith(".py")):
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                depth = len(Path(name).parts) - node.level  # 0: the root of the package
                target = (node.module or "").split(".")[0]
                names = {target} if target else {alias.name for alias in node.names}
                wrong += [name] if depth == 0 and "nodes" in names else []
    assert wrong == []


@pytest.mark.timeout(300)
def test_the_wheel_holds_exactly_the_tracked_files(tmp_path: Path) -> None:
    """nodes, runtime, graphs, the root modules, the marker and the metadata; nothing else."""
    files = tracked("nodes", "runtime", "graphs") | {"__init__.py", "__main__.py", "py.typed"}
    copy = tmp_path / "copy"  # the build leaves traces: let it work on a copy
    for name in files | {"pyproject.toml", "README.md", "LICENSE", "NOTICE"}:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(copy)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    assert {n for n in packed if ".dist-info/" not in n} == {f"tokenloom/{name}" for name in files}
    assert any(name.endswith(".dist-info/entry_points.txt") for name in packed)
    assert any(name.endswith(".dist-info/licenses/NOTICE") for name in packed)
