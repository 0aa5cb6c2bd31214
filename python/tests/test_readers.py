"""The table of readers in spec/STORE.md: every cell is what the reader does today."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ndferry
from arrays import same_elements
from conftest import Server
from readers import cases, chunks_of, file_name

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
COLUMNS = (
    "zarr 3.1.6", "zarr 3.4.2", "TensorStore", "zarrs", "xarray, 3.1.6", "xarray, 3.4.2", "dask, 3.1.6", "dask, 3.4.2",
)  # fmt: skip
OUTCOMES = ("equal", "raw", "refused")


def written() -> dict[str, list[str]]:
    """The rows of the table in the spec."""
    text = (ROOT / "spec" / "STORE.md").read_text()
    table = text.split("| array | " + " | ".join(COLUMNS) + " |\n", 1)[1].split("\n\n", 1)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.replace("\\|", "¦").splitlines()[1:]
    ]
    return {re.sub("`", "", row[0]).replace("¦", "|"): row[1:] for row in rows}


def run(python: Path | str, root: Path, *readers: str) -> dict[str, dict[str, str]]:
    script = Path(__file__).with_name("readers.py")
    done = subprocess.run([python, script, root, *readers], capture_output=True, text=True, timeout=240, check=True)
    result: dict[str, dict[str, str]] = json.loads(done.stdout)
    return result


def measured(root: Path) -> dict[str, list[str]]:
    """What the readers make of the store now."""
    subprocess.run([ROOT / "scripts" / "py-readers"], check=True, timeout=240)
    here = run(sys.executable, root, "zarr", "zarrs", "tensorstore", "xarray", "dask")
    new = run(ROOT / ".venv-readers" / "bin" / "python", root, "zarr", "xarray", "dask")
    columns = (
        here["zarr"], new["zarr"], here["tensorstore"], here["zarrs"],
        here["xarray"], new["xarray"], here["dask"], new["dask"],
    )  # fmt: skip
    return {row: [column[row] for column in columns] for row in cases()}


def table(rows: dict[str, list[str]]) -> str:
    """The rows as the spec writes them."""
    return "".join(f"| `{row.replace('|', chr(92) + '|')}` | {' | '.join(cells)} |\n" for row, cells in rows.items())


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    server = Server(tmp_path_factory.mktemp("readers"), "{}")
    try:
        with ndferry.connect(server.addr, timeout=60) as c:
            for row, array in cases().items():
                name = f"{file_name(row)}/a"
                c.put(name, array, chunks=chunks_of(row), dims=[f"d{axis}" for axis in range(array.ndim)])
                back = c.get(name)
                assert back.dtype == array.dtype
                assert same_elements(array, back)
        return measured(server.root)
    finally:
        server.stop()


@pytest.fixture(scope="module")
def spec() -> dict[str, list[str]]:
    return written()


def test_the_table_has_every_array(outcome: dict[str, list[str]]) -> None:
    assert list(written()) == list(outcome), table(outcome)
    assert {cell for cells in outcome.values() for cell in cells} <= set(OUTCOMES), table(outcome)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", list(cases()))
def test_a_cell_of_the_table(row: str, column: str, outcome: dict[str, list[str]], spec: dict[str, list[str]]) -> None:
    number = COLUMNS.index(column)
    assert outcome[row][number] == spec[row][number]


def test_an_array_of_a_small_type_and_the_group_that_holds_it(tmp_path: Path) -> None:
    """What zarr-python 3.1 does without `register_zarr_types`, which it does not load by itself, and with it."""
    import ml_dtypes
    import numpy as np

    server = Server(tmp_path, "{}")
    try:
        with ndferry.connect(server.addr, timeout=60) as c:
            c.put("g/small", np.arange(4, dtype=ml_dtypes.bfloat16))
            c.put("g/plain", np.arange(4))
        script = (
            "import sys, zarr, warnings; warnings.simplefilter('ignore')\n"
            "if sys.argv[2] == 'with':\n import ndferry; ndferry.register_zarr_types()\n"
            "try: print(sorted(name for name, _ in zarr.open_group(sys.argv[1], mode='r').members()))\n"
            "except Exception as error: print(type(error).__name__)\n"
        )
        said = [
            subprocess.run(
                [python, "-c", script, server.root / "g", how], capture_output=True, text=True, check=True, timeout=60
            ).stdout.strip()
            for python in (sys.executable, ROOT / ".venv-readers" / "bin" / "python")
            for how in ("without", "with")
        ]
        assert said == ["ValueError", *["['plain', 'small']"] * 3]
    finally:
        server.stop()
