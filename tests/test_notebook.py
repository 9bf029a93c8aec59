"""The notebook runs as it is."""

import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


@pytest.mark.slow
@pytest.mark.usefixtures("shared_cache")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Jupyter's packages
def test_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))  # without npm: it needs a network
    notebook = nbformat.read(NOTEBOOKS / "predict.ipynb", as_version=4)
    client = NotebookClient(notebook, resources={"metadata": {"path": str(NOTEBOOKS)}})
    client.execute()
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    right = float(printed.rpartition("% of the frames right")[0].split()[-1])
    assert right >= 90
    assert not any(
        cell.get("outputs") for cell in nbformat.read(NOTEBOOKS / "predict.ipynb", 4).cells
    )
