"""Fixes that can be pasted into a shell."""


def rewrite(expression: str, pattern: str) -> str:
    """The command that replaces every label file that ``pattern`` matches by ``expression`` of it, ``f``.

    The expression gives (H, W) numbers; they are saved as 8-bit grey, or 16-bit where one does not fit.
    """
    program = (
        "import sys, numpy as np; from PIL import Image; "
        "save = lambda a, f: Image.fromarray(a.astype('uint8' if a.max() < 256 else 'uint16')).save(f); "
        f"[save({expression}, f) for f in sys.argv[1:]]"
    )
    return f'python -c "{program}" {pattern}'


def state(file: str, settings: dict[str, object]) -> str:
    """How to state settings in the class file of a plain folder. ``classes.txt`` holds only names and is replaced."""
    lines = [f"{name}: {value}" for name, value in settings.items()]
    if not file.endswith(".txt"):
        return f"{file}: set " + " and ".join(lines)
    head = "".join(f"{line}\\n" for line in lines)
    return f"""(printf '{head}names:\\n'; sed 's/.*/- "&"/' {file}) > classes.yaml && rm {file}"""
