"""``everymask demo``: a photograph that comes with the package, segmented."""

from pathlib import Path

PHOTOS = Path(__file__).parents[1] / "bundled" / "photos"


def demo() -> None:
    """Segment a bundled street photograph with the bundled model; the last line is the picture's path."""
    from everymask.cli.segment import describe
    from everymask.segmenter import load

    photo = sorted(PHOTOS.glob("*.jpg"))[0]
    result = load("street")(photo, task="panoptic")
    [overlay] = result.save(Path("everymask-demo"), formats=["overlay"], stem=photo.stem)
    print(f"{photo.name}: {describe(result)}")
    print(overlay)
