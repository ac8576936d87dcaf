"""The plan of the house holds: imports go down, and starting costs nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import offmap

ROOT = Path(offmap.__file__).parent
FLOORS = {
    1: "conversation rendering chat_template features linalg registry artifacts splits errors atomic synthetic "
    "monitors",
    2: "backbones detectors calibration conditioning weighting rates drift fusion testing feature_store",
    3: "combination members made_up choosing trials panel monitor evidence shift bundle defaults",
    4: "suites judges train",
    5: "bench",
    6: "gateway clients",
    7: "cli __main__",
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}
HEAVY = set("torch transformers sklearn altair pyarrow scipy openai httpx2 aiohttp pyod litestar sqlalchemy".split())


def rooms():
    return [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


def imports(path: Path) -> set[str]:
    """The rooms that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("offmap."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "offmap":
            found |= {offmap._PUBLIC.get(alias.name, "offmap.errors").split(".")[1] for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("offmap.")}
    return found


def test_every_room_has_a_floor():
    found = {path.relative_to(ROOT).with_suffix("").parts[0] for path in rooms()}
    assert found == set(FLOOR)


def test_imports_only_go_down():
    upwards = [
        f"{path.relative_to(ROOT)} imports {room}"
        for path in rooms()
        for room in imports(path)
        if FLOOR[room] > FLOOR[path.relative_to(ROOT).with_suffix("").parts[0]]
    ]
    assert upwards == []


def test_rooms_and_functions_keep_their_size():
    too_long = [path.name for path in rooms() if len(path.read_text().splitlines()) > 350]
    functions = [
        (path.name, node.name)
        for path in rooms()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60
    ]
    assert too_long == []
    assert functions == []


def fresh(code: str) -> str:
    """The last line that a fresh interpreter prints when it runs ``code``."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def loaded_by(code: str) -> set[str]:
    """Top-level modules that ``code`` loads."""
    return set(fresh(f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})").split())


def test_import_and_help_load_nothing_heavy():
    assert not loaded_by("import offmap") & (HEAVY | {"numpy"})
    assert not loaded_by("from offmap.cli import run\nrun(['--help'])") & HEAVY


BARE_COMMAND = """
import time
from typing import Annotated
from cyclopts import App, Parameter
app = App(name="bare", help="One command.")
@app.command
def bench(*, suite: Annotated[str, Parameter(help="What to read.")] = "procedural") -> None:
    "Do nothing."
app(["bench", "--help"], result_action="return_value")
print(time.process_time())
"""


def test_help_starts_fast():
    """In processor time, the best of five starts is at most twice that of an application of one bare command."""
    ours = "import time; from offmap.cli import run; run(['bench', '--help']); print(time.process_time())"
    times = [[float(fresh(code)) for code in (ours, BARE_COMMAND)] for _ in range(5)]
    assert min(time for time, _ in times) < 2 * min(time for _, time in times)


def test_public_names_resolve():
    for name in offmap.__all__:
        assert getattr(offmap, name) is not None
