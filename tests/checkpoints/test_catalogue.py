"""The catalogue, against the configs of the public checkpoints."""

import json
import math
import re
import subprocess
import sys
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from everymask.checkpoints.catalogue import Entry, PublishedSize, catalogue, entry
from everymask.checkpoints.config import read_config
from everymask.checkpoints.families import FAMILIES as FAMILIES_OF_NETWORKS
from everymask.labels import LABEL_SETS, label_set, match_labels
from everymask.preprocessing import FitOneSide, FixedSize, Preprocessing
from everymask.segmentation import TASKS
from shared import SHARED, needs_shared

PUBLISHED = [each for each in catalogue() if each.name != "street"]
CONFIGS = SHARED / "checkpoints" / "configs"
FAMILIES = (
    "mask2former",
    "maskformer",
    "detr",
    "oneformer",
    "eomt",
    "segformer",
    "upernet",
    "beit",
    "dpt",
    "Depth-Anything",
)


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
        if each.tasks == ("depth",):
            assert each.labels is None
            assert (each.metric, each.value is None) in ((None, True), ("RMSE (m)", False))
            assert each.published_size is None
        else:
            assert each.labels in LABEL_SETS or each.dataset == "ADE20K-Full"  # its 847 names are in no source here
            assert each.tasks == tuple(task for task in TASKS if task in each.tasks) != ()
            assert each.metric in ("PQ", "AP", "mIoU")
    for each in PUBLISHED:
        assert each.backbone
        size = each.published_size
        if size is None:
            # Measured at several scales, or for depth at a size that is not known here.
            assert each.tasks == ("depth",) or each.name == "Intel/dpt-large-ade"
            continue
        assert size.longest is None or size.longest >= size.shortest
        assert (size.window is None) == (size.stride is None)
        if size.window is not None and size.stride is not None:
            assert 0 < size.stride < size.window <= size.shortest


def test_rows_leave_out_nothing_but_windows() -> None:
    rows = json.loads((files("everymask") / "data" / "catalogue.json").read_text(encoding="utf-8"))
    for row in rows:
        assert set(row) == {field.name for field in fields(Entry)}
        size = row["published_size"]
        known = {field.name for field in fields(PublishedSize)}
        assert size is None or known - {"window", "stride"} <= set(size) <= known


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
    assert len(public) == 31 - 1 + 12 + 3 + 7 + 3 + 12 + 9 + 2 + 13 + 3
    assert public <= {each.name for each in catalogue()}
    # Of these families there are few without a config here, of EoMT and Depth Anything most, and all of ModelScope's.
    hub = [each for each in PUBLISHED if not each.name.startswith("modelscope:")]
    absent = {each.name for each in hub if each.family not in ("EoMT", "Depth Anything")} - public
    assert absent == {
        *(f"facebook/maskformer-resnet{rest}" for rest in ("50-ade20k-full", "101-ade20k-full", "50-vistas")),
        *(f"Intel/dpt-{rest}" for rest in ("hybrid-midas", "beit-base-384", "swinv2-base-384", "swinv2-large-384")),
    }


@needs_shared
@pytest.mark.parametrize("name", sorted(public_names()))
def test_labels_tasks_and_preprocessing_are_read_without_a_guess(name: str, tmp_path: Path) -> None:
    each = entry(name)
    assert each is not None
    config = config_of(name) or config_of(name, ".original-layout")
    if config is not None and each.tasks != ("depth",):
        assert each.labels is not None
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
        assert each.input_size == input_size(Preprocessing.from_config(preprocessor))


def input_size(preprocessing: Preprocessing) -> str:
    """As the catalogue writes it."""
    resize = preprocessing.resize
    if resize is None:
        return f"as the image, padded to multiples of {preprocessing.pad_divisor}"
    if isinstance(resize, FitOneSide):
        height, width = resize.size
        return f"{height} x {width} on one side, multiples of {resize.multiple}"
    if isinstance(resize, FixedSize):
        return f"{resize.size.height} x {resize.size.width}"
    return f"shortest {resize.shortest}, longest {resize.longest}"


@needs_shared
@pytest.mark.parametrize("name", sorted(each.name for each in PUBLISHED if config_of(each.name) is not None))
def test_the_network_of_a_config_does_what_the_catalogue_says(name: str) -> None:
    each, content = entry(name), config_of(name)
    assert each is not None
    assert content is not None
    possible = FAMILIES_OF_NETWORKS[content["model_type"]].tasks(content)
    assert set(each.tasks) <= set(possible)
    if "depth" in possible:
        assert each.tasks == possible == ("depth",)


@needs_shared
def test_vit_adapter_is_measured_as_its_description_says() -> None:
    """Against the published list of keys and the description beside it; its own config file is in no source."""
    folder = SHARED / "golden" / "vit_adapter"
    each = entry("modelscope:damo/cv_vitadapter_semantic-segmentation_cocostuff164k")
    assert each is not None
    assert each.published_size == PublishedSize(896, 3584, 32, 896, 512)
    assert each.labels is not None
    assert len(label_set(each.labels)) == len((folder / "cocostuff171.txt").read_text().splitlines())
    assert each.value is not None
    assert f"mIoU {each.value}" in (folder / "README.md").read_text()
    weights = 0
    for line in (folder / "public_state_dict.txt").read_text().splitlines():
        _, shape, kind = line.split("\t")
        weights += math.prod(int(side) for side in re.findall(r"\d+", shape)) * (8 if "int64" in kind else 4)
    assert each.weights_mb == pytest.approx(weights / 1e6, rel=0.005)


@pytest.mark.parametrize("each", PUBLISHED, ids=lambda each: each.name)
def test_the_name_says_tasks_and_data(each: Entry) -> None:
    name = each.name.lower()
    depth = each.family == "Depth Anything" or (each.family == "DPT" and not name.endswith("ade"))
    semantic = (
        "semantic" in name
        or each.family in ("SegFormer", "UPerNet", "BEiT", "DPT")
        or (each.family == "MaskFormer" and not name.endswith("coco"))
    )
    kind = "instance" if "instance" in name else "depth" if depth else "semantic" if semantic else "panoptic"
    assert each.tasks == (TASKS if kind == "panoptic" else (kind,))
    if kind != "depth":
        assert each.metric == {"panoptic": "PQ", "instance": "AP", "semantic": "mIoU"}[kind]
    data = {
        "coco-stuff": "COCO-Stuff",
        "cocostuff": "COCO-Stuff",
        "coco": "COCO",
        "vitadapter": "COCO-Stuff",
        "cityscapes": "Cityscapes",
        "vistas": "Mapillary",
        "nyu": "NYU",
        "kitti": "KITTI",
        "indoor": "Hypersim",
        "outdoor": "Virtual KITTI",
        "-ade": "ADE20K",
        "/ade": "ADE20K",
        "_ade": "ADE20K",
        "upernet": "ADE20K",
        "detr": "COCO",
        "depth-anything": "62M images",
        "intel/dpt": "MiDaS 3.",
    }
    assert each.dataset.startswith(next(data[word] for word in data if word in name))


def test_large_networks_of_depth_anything_v2_are_not_for_commerce() -> None:
    for each in PUBLISHED:
        if each.name.startswith("depth-anything/"):
            assert (each.license == "Apache 2.0") == ("-Small-" in each.name)


def test_licences_are_those_the_publishers_state() -> None:
    stated = {
        "Mask2Former": {"CC BY-NC 4.0", None},
        "MaskFormer": {"CC BY-NC 4.0"},
        "DETR": {"Apache 2.0"},
        "OneFormer": {"MIT"},
        "EoMT": {"MIT", "MIT + DINOv3", None},
        "SegFormer": {"NVIDIA non-commercial"},
        "UPerNet": {"MIT"},
        "BEiT": {"Apache 2.0"},
        "DPT": {"Apache 2.0", "MIT"},
        "Depth Anything": {"Apache 2.0", "CC BY-NC 4.0"},
        "ViT-Adapter": {None},
    }
    assert {each.family for each in PUBLISHED} == set(stated)
    for family, licenses in stated.items():
        assert {each.license for each in PUBLISHED if each.family == family} == licenses
    assert all(
        (each.license is None) == each.name.startswith("modelscope:") for each in PUBLISHED if "Mask" in each.family
    )


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
        ("nvidia/segformer-b0-finetuned-ade-512-512", 37.4, 15.1),
        ("nvidia/segformer-b5-finetuned-cityscapes-1024-1024", 82.4, 338),
        ("openmmlab/upernet-swin-large", 52.25, 940),
        ("openmmlab/upernet-convnext-base", 48.71, 488),
        ("microsoft/beit-large-finetuned-ade-640-640", 56.7, 2260),
        ("Intel/dpt-large-ade", 47.63, 1370),
        ("Intel/dpt-hybrid-midas", None, 490),
        ("facebook/dpt-dinov2-giant-nyu", 0.279, 4800),
        ("facebook/dpt-dinov2-small-kitti", 2.34, 149),
        ("depth-anything/Depth-Anything-V2-Large-hf", None, 1340),
    ],
)
def test_published_figures(name: str, value: float | None, megabytes: float) -> None:
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
        ("nvidia/segformer-b0-finetuned-ade-512-512", PublishedSize(512, 2048, 32)),
        ("nvidia/segformer-b5-finetuned-ade-640-640", PublishedSize(640, 2048, 32)),
        ("nvidia/segformer-b2-finetuned-cityscapes-1024-1024", PublishedSize(1024, 2048, 0, 1024, 768)),
        ("openmmlab/upernet-swin-large", PublishedSize(512, 2048, 0)),
        ("openmmlab/upernet-convnext-base", PublishedSize(512, 2048, 0, 512, 341)),
        ("openmmlab/upernet-convnext-xlarge", PublishedSize(640, 2560, 0, 640, 426)),
        ("microsoft/beit-large-finetuned-ade-640-640", PublishedSize(640, 2560, 0, 640, 426)),
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
