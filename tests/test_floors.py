"""Imports only go down: a module may import its own room and rooms on lower floors."""

import ast
import pathlib

import keras_cnns

ROOT = pathlib.Path(keras_cnns.__file__).parent
FLOORS = {"errors": -1, "wire": -1, "ops": 0, "layers": 1, "losses": 1, "metrics": 1, "data": 1, "pictures": 1,
          "models": 2, "weights": 3, "training": 4, "export": 5, "serving": 6, "lab": 6, "cli": 7, "__init__": 7}
TENSORFLOW = ("data", "export", "serving", "cli", "training/distribute.py", "ops/nms.py", "layers/ode.py")


def imported(path):
    """Names of modules a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "keras_cnns":
            yield from (f"keras_cnns.{name.name}" for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_imports_go_down():
    for path in ROOT.rglob("*.py"):
        here = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for module in imported(path):
            if module.startswith("keras_cnns."):
                there = module.split(".")[1]
                assert there == here or FLOORS[there] < FLOORS[here], f"{path}: {module}"


def test_tensorflow_is_named_only_where_it_must_be():
    for path in ROOT.rglob("*.py"):
        place = path.relative_to(ROOT).as_posix()
        if any(module.split(".")[0] == "tensorflow" for module in imported(path)):
            assert place.removesuffix(".py").startswith(tuple(t.removesuffix(".py") for t in TENSORFLOW)), place
