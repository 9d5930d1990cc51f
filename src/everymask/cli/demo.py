"""``everymask demo``: a photograph that comes with the package, segmented."""

from pathlib import Path

from everymask.cli.imports import quick_imports

PHOTO = Path(__file__).parents[1] / "bundled" / "photos" / "high-street.jpg"


def demo() -> None:
    """Segment a bundled street photograph with the bundled model; the last line is the picture's path."""
    with quick_imports():
        from everymask.cli.segment import describe
        from everymask.loading import load

    result = load("street")(PHOTO, task="panoptic")
    [overlay] = result.save(Path("everymask-demo"), formats=["overlay"], stem=PHOTO.stem)
    print(f"{PHOTO.name}: {describe(result)}")
    print(overlay)
