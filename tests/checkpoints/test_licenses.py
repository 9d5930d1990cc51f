"""Which licences allow commercial use."""

from pathlib import Path

import pytest
from small_checkpoint import make_checkpoint

from everymask.checkpoints.catalogue import catalogue
from everymask.checkpoints.licenses import why_not_commercial
from everymask.checkpoints.load import load_checkpoint
from everymask.errors import CheckpointError


@pytest.mark.parametrize(
    "license", ["Apache 2.0", "apache-2.0", "MIT", "mit", "CC0 1.0", "cc-by-4.0", " BSD 3-Clause "]
)
def test_these_do(license: str) -> None:
    assert why_not_commercial(license) is None


@pytest.mark.parametrize(
    ("license", "reason"),
    [
        (None, "no licence is stated"),
        ("CC BY-NC 4.0", "its licence (CC BY-NC 4.0) forbids it"),
        ("cc-by-nc-sa-4.0", "its licence (cc-by-nc-sa-4.0) forbids it"),
        ("NVIDIA Non-Commercial", "its licence (NVIDIA Non-Commercial) forbids it"),
        ("NVIDIA non-commercial", "its licence (NVIDIA non-commercial) forbids it"),
        ("other", "its licence (other) is not one that is known to allow it"),
        ("", "its licence () is not one that is known to allow it"),
        ("MIT + DINOv3", "is not one that is known to allow it"),
        ("Mitsubishi", "is not one that is known to allow it"),
    ],
)
def test_these_do_not(license: str | None, reason: str) -> None:
    told = why_not_commercial(license)
    assert told is not None
    assert reason in told


def test_every_catalogued_licence_is_understood() -> None:
    """Whatever the catalogue states is known to allow or to forbid it, but for weights with conditions of DINOv3's."""
    reasons = {each.license: why_not_commercial(each.license) for each in catalogue() if each.license is not None}
    assert {license for license, reason in reasons.items() if reason is None} == {"Apache 2.0", "MIT"}
    forbidden = {license for license, reason in reasons.items() if reason and reason.endswith("forbids it")}
    assert reasons.keys() - forbidden - {"Apache 2.0", "MIT"} == {"MIT + DINOv3"}


def test_a_checkpoint_is_refused_with_the_reason(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "free", ["a", "b"], everymask={"license": "MIT"})
    make_checkpoint(tmp_path / "bound", ["a", "b"], everymask={"license": "CC BY-NC 4.0"})
    make_checkpoint(tmp_path / "silent", ["a", "b"])
    assert load_checkpoint(tmp_path / "free", commercial=True).license == "MIT"
    with pytest.raises(CheckpointError, match=r"not for commercial use: its licence \(CC BY-NC 4\.0\) forbids it"):
        load_checkpoint(tmp_path / "bound", commercial=True)
    with pytest.raises(CheckpointError, match="not for commercial use: no licence is stated"):
        load_checkpoint(tmp_path / "silent", commercial=True)
    for name in ("bound", "silent"):
        load_checkpoint(tmp_path / name)


def test_a_catalogued_checkpoint_is_refused_before_it_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str, **options: object) -> Path:
        raise AssertionError("looked for")

    monkeypatch.setattr("everymask.checkpoints.load.find", find)
    with pytest.raises(CheckpointError, match="maskformer-swin-tiny-coco is not for commercial use"):
        load_checkpoint("facebook/maskformer-swin-tiny-coco", commercial=True)
    with pytest.raises(AssertionError, match="looked for"):
        load_checkpoint("facebook/detr-resnet-50-panoptic", commercial=True)
