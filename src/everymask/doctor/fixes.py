"""Fixes that can be pasted into a shell."""

import shlex
from collections.abc import Sequence

MOST_FILES = 20


def rewrite(expression: str, pattern: str = "", only: Sequence[str] | None = None) -> str:
    """The command that replaces label files, ``f``, by ``expression`` of them; to be run where the data lies.

    The expression gives (H, W) numbers, saved as 8-bit grey or 16-bit where one does not fit, or (H, W, 3) colours.
    ``pattern``: all label files, as Python's glob takes it. ``only``: those to replace where it is not all; of many the
    first, as what was replaced is not found again.
    """
    files = f"glob.glob('{pattern}', recursive=True)" if only is None else "sys.argv[1:]"
    program = (
        "import glob, sys, numpy as np; from PIL import Image; "
        "save = lambda a, f: Image.fromarray(a.astype('uint8' if a.max() < 256 else 'uint16')).save(f); "
        f"[save({expression}, f) for f in {files}]"
    )
    arguments = "" if only is None else " " + shlex.join(only[:MOST_FILES])
    then = "" if only is None or len(only) <= MOST_FILES else ", and check again for the others"
    return f'python -c "{program}"{arguments}{then}'


def state(file: str, settings: dict[str, object]) -> str:
    """How to state settings in the class file of a plain folder. ``classes.txt`` holds only names and is replaced."""
    lines = [f"{name}: {value}" for name, value in settings.items()]
    if not file.endswith(".txt"):
        return f"{file}: set " + " and ".join(lines)
    head = "".join(f"{line}\\n" for line in lines)
    return f"""(printf '{head}names:\\n'; sed 's/.*/- "&"/' {file}) > classes.yaml && rm {file}"""


def edit_json(file: str, statement: str) -> str:
    """The command that runs a simple statement on ``d``, the content of a JSON file, and saves it."""
    return f"python -c \"import json; d = json.load(open('{file}')); {statement}; json.dump(d, open('{file}', 'w'))\""
