"""What the package promises as a whole."""

from __future__ import annotations

import ast
import builtins
import pickle
from pathlib import Path

import pytest

import ndferry
from ndferry import _errors

SOURCES = sorted(Path(ndferry.__file__).parent.glob("*.py"))


def test_all_is_what_is_public() -> None:
    public = {name for name in vars(ndferry) if not name.startswith("_")} - {"aio"}
    assert set(ndferry.__all__) == public
    assert ndferry.__all__ == sorted(ndferry.__all__)


def test_modules_are_private_and_documented() -> None:
    for path in SOURCES:
        assert path.name.startswith("_") or path.name == "aio.py", path
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_nothing_unpickles_or_evaluates() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "marshal", "shelve", "subprocess"} & set(names), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "compile", "__import__"), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in ("load", "save"), path


def test_the_tree_of_errors_is_the_one_in_the_docstring() -> None:
    kinds = [kind for kind in vars(_errors).values() if isinstance(kind, type) and issubclass(kind, _errors.Error)]
    assert {kind.__name__ for kind in kinds} <= set(ndferry.__all__)
    doc = _errors.__doc__ or ""
    for kind in kinds:
        line = next(line for line in doc.splitlines() if f" {kind.__name__} " in line)
        for base in kind.__mro__[1:]:
            if base.__module__ == "builtins" and base in kind.__bases__ and base is not Exception:
                assert f"({base.__name__})" in line
        if kind not in (_errors.Error, _errors.ConnectionError, _errors.DTypeError):
            assert kind.default_code in line


@pytest.mark.parametrize(
    ("code", "kind", "builtin"),
    [
        ("protocol", ndferry.ProtocolError, Exception),
        ("version", ndferry.ProtocolError, Exception),
        ("unsupported", ndferry.UnsupportedError, Exception),
        ("invalid", ndferry.InvalidError, ValueError),
        ("not_found", ndferry.NotFoundError, KeyError),
        ("conflict", ndferry.ConflictError, Exception),
        ("integrity", ndferry.IntegrityError, Exception),
        ("limit", ndferry.LimitError, Exception),
        ("no_space", ndferry.NoSpaceError, ndferry.LimitError),
        ("busy", ndferry.TemporaryError, Exception),
        ("temporary", ndferry.TemporaryError, Exception),
        ("permission", ndferry.PermissionError, builtins.PermissionError),
        ("deadline", ndferry.TimeoutError, builtins.TimeoutError),
        ("cancelled", ndferry.CancelledError, Exception),
        ("internal", ndferry.InternalError, Exception),
        ("shutdown", ndferry.TemporaryError, Exception),
        ("of_the_future", ndferry.Error, Exception),
    ],
)
def test_codes(code: str, kind: type[ndferry.Error], builtin: type[Exception]) -> None:
    error = _errors.from_code(code, "a sentence", retryable=True, cell=3)
    assert type(error) is kind
    assert isinstance(error, builtin)
    assert (error.code, error.retryable, error.cell, str(error)) == (code, True, 3, "a sentence")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes: what multiprocessing does)
    assert type(copy) is kind
    assert (copy.code, copy.retryable, copy.cell, str(copy)) == (code, True, 3, "a sentence")
