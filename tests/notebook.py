"""Runs the code cells of a notebook in order and in one namespace, as Jupyter does, without Jupyter.

python tests/notebook.py examples/tour.ipynb    # once more, and keep what the cells print and show
"""

import ast
import base64
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from PIL import Image

Output = dict[str, Any]
JPEG_QUALITY = 85  # a photograph as PNG is five times as large


def read_notebook(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def run_cells(notebook: dict[str, Any]) -> list[list[Output]]:
    """The outputs of every code cell. A cell that raises ends the run."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    return [_run("".join(cell["source"]), namespace, place) for place, cell in enumerate(code_cells(notebook), 1)]


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def pictures(outputs: list[Output]) -> list[Image.Image]:
    """The pictures among the outputs of a cell."""
    found = [each["data"]["image/jpeg"] for each in outputs if "image/jpeg" in each.get("data", {})]
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in found]


def printed(outputs: list[Output]) -> str:
    """What a cell printed."""
    return "".join("".join(each["text"]) for each in outputs if each["output_type"] == "stream")


def _run(source: str, namespace: dict[str, Any], place: int) -> list[Output]:
    """What a cell prints, then the value of its last line where that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    stdout, value = io.StringIO(), None
    with redirect_stdout(stdout):
        exec(compile(tree, f"cell {place}", "exec"), namespace)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {place}", "eval"), namespace)
    outputs: list[Output] = []
    if stdout.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": stdout.getvalue().splitlines(keepends=True)})
    if value is not None:
        outputs.append(
            {"output_type": "execute_result", "execution_count": place, "metadata": {}, "data": _shown(value)}
        )
    return outputs


def _shown(value: object) -> dict[str, Any]:
    if not isinstance(value, Image.Image):
        return {"text/plain": repr(value).splitlines(keepends=True)}
    file = io.BytesIO()
    value.convert("RGB").save(file, "JPEG", quality=JPEG_QUALITY)
    text = f"<PIL.Image.Image mode={value.mode} size={value.width}x{value.height}>"
    return {"image/jpeg": base64.b64encode(file.getvalue()).decode(), "text/plain": [text]}


def main(path: Path) -> None:
    sys.path.insert(0, str(path.parent))
    notebook = read_notebook(path)
    cells = code_cells(notebook)
    for place, (cell, outputs) in enumerate(zip(cells, run_cells(notebook), strict=True), 1):
        cell |= {"outputs": outputs, "execution_count": place}
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
