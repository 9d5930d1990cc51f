"""The catalogue, against the configs of the public checkpoints."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from everymask.checkpoints.catalogue import Entry, PublishedSize, catalogue, entry
from everymask.checkpoints.config import read_config
from everymask.labels import LABEL_SETS, label_set, match_labels
from everymask.preprocessing import Preprocessing, ShortestEdge
from everymask.segmentation import TASKS
from shared import SHARED, needs_shared

PUBLISHED = [each for each in catalogue() if each.name != "street"]
CONFIGS = SHARED / "checkpoints" / "configs"
FAMILIES = ("mask2former", "maskformer", "detr", "oneformer", "eomt")


def public_names() -> set[str]:
    """The checkpoints of these families of which a config or a preprocessor config is there."""
    names = {path.name.removesuffix(".json").partition(".")[0] for path in CONFIGS.glob("*.json")}
    return {name.replace("--", "/") for name in names if re.search(rf"(--|_)({'|'.join(FAMILIES)})[-_]", name)}


def config_of(name: str, kind: str = "") -> dict[str, Any] | None:
    path = CONFIGS / f"{name.replace('/', '--')}{kind}.json"
    content: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return content


def test_every_entry_is_whole() -> None:
    names = [each.name for each in catalogue()]
    assert len(set(names)) == len(names)
    assert names[0] == "street"
    for each in catalogue():
        assert each.labels in LABEL_SETS or each.dataset == "ADE20K-Full"  # its 847 names are in no source here
        assert each.tasks == tuple(task for task in TASKS if task in each.tasks) != ()
        assert each.metric in ("PQ", "AP", "mIoU")
    for each in PUBLISHED:
        assert each.backbone
        assert each.published_size is not None
        assert each.published_size.longest is None or each.published_size.longest >= each.published_size.shortest


def test_lookup_by_name() -> None:
    street = entry("street")
    assert street is not None
    assert street.license == "CC BY-NC 4.0"
    assert street.tasks == TASKS
    assert entry("facebook/mask2former-swin-tiny-coco-instance") in catalogue()
    assert entry("Street") is None
    assert entry(None) is None


@needs_shared
def test_every_public_config_has_an_entry() -> None:
    public = public_names()
    assert len(public) == 31 - 1 + 12 + 3 + 7 + 3
    assert public <= {each.name for each in catalogue()}
    # Of MaskFormer, DETR, OneFormer and Mask2Former there are few without a config here, of EoMT most.
    absent = {each.name for each in PUBLISHED if each.family != "EoMT"} - public
    assert absent == {
        f"facebook/maskformer-resnet{rest}" for rest in ("50-ade20k-full", "101-ade20k-full", "50-vistas")
    }


@needs_shared
@pytest.mark.parametrize("name", sorted(public_names()))
def test_labels_tasks_and_preprocessing_are_read_without_a_guess(name: str, tmp_path: Path) -> None:
    each = entry(name)
    assert each is not None
    assert each.labels is not None
    config = config_of(name) or config_of(name, ".original-layout")
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
        names = read_config(tmp_path).names
        # EoMT's files number their classes; then the catalogue is what knows the names.
        numbered = all(text == f"LABEL_{index}" for index, text in enumerate(names))
        assert numbered == (each.family == "EoMT")
        known = label_set(each.labels)
        assert len(names) == len(known)
        if not numbered:
            assert match_labels(names) == known.named(names)
    preprocessor = config_of(name, ".preprocessor")
    if preprocessor is not None:
        resize = Preprocessing.from_config(preprocessor).resize
        if isinstance(resize, ShortestEdge):
            assert each.input_size == f"shortest {resize.shortest}, longest {resize.longest}"
        else:
            assert resize is not None
            assert each.input_size == f"{resize.size.height} x {resize.size.width}"


@pytest.mark.parametrize("each", PUBLISHED, ids=lambda each: each.name)
def test_the_name_says_tasks_and_data(each: Entry) -> None:
    name = each.name.lower()
    semantic = "semantic" in name or (each.family == "MaskFormer" and not name.endswith("coco"))
    kind = "instance" if "instance" in name else "semantic" if semantic else "panoptic"
    assert each.tasks == (TASKS if kind == "panoptic" else (kind,))
    assert each.metric == {"panoptic": "PQ", "instance": "AP", "semantic": "mIoU"}[kind]
    data = {
        "coco-stuff": "COCO-Stuff",
        "coco": "COCO",
        "ade": "ADE20K",
        "cityscapes": "Cityscapes",
        "vistas": "Mapillary",
    }
    word = next((word for word in data if word in name), "coco")  # DETR's names say nothing: it is COCO
    assert each.dataset.startswith(data[word])


def test_licences_are_those_the_publishers_state() -> None:
    stated = {
        "Mask2Former": {"CC BY-NC 4.0"},
        "MaskFormer": {"CC BY-NC 4.0"},
        "DETR": {"Apache 2.0"},
        "OneFormer": {"MIT"},
        "EoMT": {"MIT", "MIT + DINOv3", None},
    }
    for family, licenses in stated.items():
        assert {each.license for each in PUBLISHED if each.family == family} == licenses


@pytest.mark.parametrize(
    ("name", "value", "megabytes"),
    [
        ("facebook/mask2former-swin-large-coco-panoptic", 57.8, 866),
        ("facebook/mask2former-swin-base-IN21k-coco-instance", 48.1, 432),
        ("facebook/mask2former-swin-small-cityscapes-panoptic", 64.8, 276),
        ("facebook/mask2former-swin-tiny-ade-semantic", 47.7, 190),
        ("facebook/maskformer-swin-large-ade", 54.1, 851),
        ("facebook/maskformer-resnet50-ade", 44.5, 166),
        ("facebook/detr-resnet-101-panoptic", 45.1, 248),
        ("shi-labs/oneformer_coco_dinat_large", 58.0, 893),
        ("tue-mps/coco_instance_eomt_large_640_dinov3", 45.9, 1260),
    ],
)
def test_published_figures(name: str, value: float, megabytes: float) -> None:
    found = entry(name)
    assert found is not None
    assert (found.value, found.weights_mb) == (value, megabytes)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("facebook/mask2former-swin-tiny-coco-panoptic", PublishedSize(800, 1333, 32)),
        ("facebook/mask2former-swin-small-ade-semantic", PublishedSize(512, 2048, 32)),
        ("facebook/mask2former-swin-large-ade-panoptic", PublishedSize(640, 2560, 32)),
        ("facebook/mask2former-swin-large-cityscapes-panoptic", PublishedSize(1024, 2048, 32)),
        ("facebook/mask2former-swin-large-mapillary-vistas-semantic", PublishedSize(2048, 2048, 32)),
        ("facebook/maskformer-resnet50-ade", PublishedSize(512, 2048, 32)),
        ("facebook/maskformer-resnet101-coco-stuff", PublishedSize(640, 2560, 32)),
        ("facebook/detr-resnet-50-panoptic", PublishedSize(800, 1333, 0)),
        ("shi-labs/oneformer_cityscapes_dinat_large", PublishedSize(1024, 2048, 0)),
        ("tue-mps/ade20k_semantic_eomt_large_512", PublishedSize(512, None, 0)),
    ],
)
def test_published_sizes(name: str, size: PublishedSize) -> None:
    found = entry(name)
    assert found is not None
    assert found.published_size == size


def test_the_catalogue_and_the_labels_load_no_torch() -> None:
    script = (
        "import sys; from everymask.checkpoints.catalogue import catalogue; from everymask.labels import label_set; "
        "catalogue(); label_set('camvid'); import everymask.checkpoints.find; "
        "assert not {'torch', 'huggingface_hub', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
