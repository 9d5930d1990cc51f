"""Every example, run offline as its first line says or with a tiny checkpoint, and what comes out of it."""

import json
import re
import runpy
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import everymask
from everymask.checkpoints.find import BUNDLED
from everymask.formats.depth_png import read as read_depth
from everymask.labels import label_set
from notebook import code_cells, pictures, printed, read_notebook, run_cells
from small_models import DEPTH_ANYTHING, DEPTH_PROCESSOR, save_small
from trainable import save_source

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
PHOTO = BUNDLED / "photos" / "phone-box.jpg"
PHOTO_SIZE = (480, 360)
CAMVID = label_set("camvid").names
ADE20K = label_set("ade20k")
VIT_ADAPTER = Path(__file__).parent / "fixtures" / "vit_adapter" / "tiny-a"
TOY_CLASSES = ("sky", "building", "pavement", "road", "car")

Run = Callable[..., list[str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a script in an empty folder, as the command line would; returns the lines it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)

    def run(script: str, *arguments: object) -> list[str]:
        path = EXAMPLES / script
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that draws toy streets."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return import_module("toy.street")


def out_size(name: str) -> tuple[int, int]:
    with Image.open(Path("out") / name) as picture:
        return picture.size


def colors_in(name: str) -> set[tuple[int, ...]]:
    with Image.open(Path("out") / name) as picture:
        return set(map(tuple, np.asarray(picture).reshape(-1, 3).tolist()))


def test_panoptic_counts_instances(run: Run) -> None:
    lines = run("panoptic.py")
    names = [line[:20].strip() for line in lines[:-1]]
    assert {"road", "sky", "car-0", "car-1", "pedestrian-0"} <= set(names)
    assert len(set(names)) == len(names)
    assert lines[-1] == "out/panoptic.png"
    assert out_size("panoptic.png") > PHOTO_SIZE, "the legend is beside or below the photograph"


def test_panoptic_takes_a_model_and_an_image(run: Run, tmp_path: Path) -> None:
    model = save_source(tmp_path / "mask2former", "mask2former")
    assert run("panoptic.py", model, PHOTO)[-1] == "out/panoptic.png"


def test_oneformer_reads_one_network_in_three_ways(run: Run) -> None:
    panoptic, instance, semantic, _ = run("oneformer.py")
    assert panoptic.startswith("panoptic: ")
    assert {"car-0", "car-1", "road"} <= set(panoptic.partition(": ")[2].split(", "))
    assert {"car-2"} <= set(instance.partition(": ")[2].split(", "))
    assert "road" not in instance
    assert {"car", "road"} <= set(semantic.partition(": ")[2].split(", "))
    for task in ("panoptic", "instance", "semantic"):
        assert out_size(f"oneformer-{task}.png") > PHOTO_SIZE


def test_oneformer_is_told_its_task(run: Run, tmp_path: Path) -> None:
    lines = run("oneformer.py", save_source(tmp_path / "oneformer", "oneformer"), PHOTO)
    for task, line in zip(("panoptic", "instance", "semantic"), lines, strict=False):
        assert line.startswith(f'{task} (told: "the task is {task}"): ')


def test_pipeline_saves_every_mask_under_its_label(run: Run) -> None:
    lines = run("pipeline.py")
    files = sorted(Path("out/pipeline").iterdir())
    assert sorted(line.split(maxsplit=1)[1] for line in lines) == [str(path) for path in files]
    assert {path.stem.rpartition("-")[0] for path in files} <= set(CAMVID)
    assert sum(path.stem.startswith("car-") for path in files) >= 2
    covered = np.zeros(PHOTO_SIZE[::-1], int)
    for path in files:
        with Image.open(path) as mask:
            assert (mask.mode, mask.size) == ("L", PHOTO_SIZE)
            assert {value for _, value in mask.getcolors()} == {0, 255}
            covered += np.asarray(mask) == 255
    assert covered.max() == 1, "panoptic masks do not overlap"
    assert covered.mean() > 0.8


def test_cocostuff_draws_an_image_and_counts_a_data_set(run: Run) -> None:
    first, *shares = run("cocostuff.py")
    assert set(first.split(", ")) <= set(CAMVID)
    assert out_size("cocostuff.png") == PHOTO_SIZE
    assert len(colors_in("cocostuff.png")) == len(first.split(", ")), "a colour for every mask"
    found = {line[:20].strip(): float(line[20:].strip(" %")) for line in shares}
    assert sum(found.values()) == pytest.approx(100, abs=1), "every pixel of every photograph has a class"
    assert next(iter(found)) == "road"


def test_cocostuff_takes_a_folder_of_modelscope(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "vit-adapter"
    folder.mkdir()
    torch.save({"meta": {}, "state_dict": load_file(VIT_ADAPTER / "model.safetensors")}, folder / "pytorch_model.pt")
    description = {"task": "image-segmentation", "pipeline": {"type": "image-semantic-segmentation"}}
    (folder / "configuration.json").write_text(json.dumps(description))
    (folder / "config.json").write_text((VIT_ADAPTER / "config.json").read_text())
    first, *shares = run("cocostuff.py", folder, PHOTO)
    assert [line[:20].strip() for line in shares] == sorted(
        first.split(", "), key=lambda label: [line[:20].strip() for line in shares].index(label)
    )
    assert set(colors_in("cocostuff.png")) <= set(label_set("coco-panoptic").colors)


def test_dpt_tells_classes_and_metres(run: Run, toy: Any) -> None:
    lines = run("dpt.py")
    ranges = {
        label: (float(low), float(high))
        for label, low, high in re.findall(r"^(\w+) .*?, (\S+) to (\S+) m$", "\n".join(lines), re.M)
    }
    assert set(ranges) == set(TOY_CLASSES)
    depth, kind = read_depth("out/dpt.depth.png")
    truth = np.asarray(toy.draw_street(0).depth) / 100
    assert kind == "metric"
    assert np.median(abs(depth - truth) / truth) < 0.2
    for name in ("classes", "depth", "both"):
        assert out_size(f"dpt-{name}.png") > (toy.WIDTH, toy.HEIGHT)
    assert {ADE20K.colors[ADE20K.names.index(label)] for label in ("sky", "building", "road", "car")} <= colors_in(
        "dpt-classes.png"
    ), "the legend has the colours of ADE20K"


def test_dpt_of_two_networks(run: Run, tmp_path: Path) -> None:
    classes = save_source(tmp_path / "classes", "dpt", ADE20K)
    depth = save_small(tmp_path / "depth", DEPTH_ANYTHING, DEPTH_PROCESSOR)
    lines = run("dpt.py", classes, PHOTO, "--depth", depth)
    labels = {line[:12].strip() for line in lines[:-1]}
    assert labels <= {name[:12].strip() for name in ADE20K.names}
    assert all(line.endswith("(relative)") for line in lines[:-1])
    assert read_depth("out/dpt.depth.png")[0].shape == PHOTO_SIZE[::-1]


def test_touching_cars_are_one_region_and_several_masks(run: Run, toy: Any) -> None:
    by_class, by_mask, _ = run("touching_cars.py")
    regions = int(re.findall(r"(\d+) connected", by_class)[0])
    count, names = re.fullmatch(r"a mask for every object: (\d+): (.*)", by_mask).groups()
    assert regions < int(count) == len(names.split(", "))
    truth = np.unique(np.asarray(toy.draw_street(4).instances))
    assert int(count) == len(truth) - 1, "one is no car"
    for name in ("class", "mask"):
        assert out_size(f"touching-cars-by-{name}.png") > (toy.WIDTH, toy.HEIGHT)


def test_touching_cars_takes_two_networks_and_another_label(run: Run, tmp_path: Path) -> None:
    pixels = save_source(tmp_path / "segformer", "segformer", label_set("camvid"))
    by_class, by_mask, _ = run(
        "touching_cars.py", "--masks", "street", "--pixels", pixels, "--image", PHOTO, "--label", "car"
    )
    assert by_class.endswith("connected region(s) of car")
    assert "car-1" in by_mask


def test_maskformer_to_mask2former_finds_the_same_cars(run: Run, toy: Any) -> None:
    before, after, _ = run("maskformer_to_mask2former.py")
    names = [sorted(line.partition(": ")[2].split(", ")) for line in (before, after)]
    cars = len(np.unique(np.asarray(toy.draw_street(4).instances))) - 1  # one is no car
    assert names[0] == names[1] == sorted([*TOY_CLASSES[:4], *(f"car-{number}" for number in range(cars))])
    for name in ("before", "after"):
        assert out_size(f"swap-{name}.png") > (toy.WIDTH, toy.HEIGHT)


def test_finetune_gives_a_network_with_the_classes_of_the_folder(run: Run, toy: Any, tmp_path: Path) -> None:
    data = toy.write_folder(tmp_path / "data", train=2, val=1, taxis=True)
    start = save_source(tmp_path / "start", "mask2former")
    (tmp_path / "recipe.yaml").write_text("steps: 2\nbatch_size: 2\ncrop: [64, 64]\nprecision: 32-true\n")
    lines = run("finetune.py", data, "--model", start, "--recipe", tmp_path / "recipe.yaml")
    assert any(re.fullmatch(r"PQ \d+\.\d%", line) for line in lines)
    assert lines[-1] == "the network is in out/finetuned/best"
    model = everymask.load("out/finetuned/best")
    assert model.labels.names == (*TOY_CLASSES, "taxi")
    assert model.labels.things == (False, False, False, False, True, True)
    assert out_size("finetuned/first.png") > (toy.WIDTH, toy.HEIGHT)


def test_evaluation_prints_the_figures(run: Run) -> None:
    lines = run("evaluation.py", "--limit", 3)
    assert "panoptic, 3 images" in lines[0]
    assert float(re.match(r"PQ ([\d.]+)%", lines[1])[1]) > 85
    quality = {line[:12].strip(): float(line[12:].strip(" PQ%")) for line in lines[2:-1]}
    assert tuple(quality) == TOY_CLASSES
    assert min(quality.values()) > 70
    assert out_size("worst.png") > (2 * 256, 160), "prediction and truth, side by side"


def test_a_toy_street_is_what_its_files_say(toy: Any, tmp_path: Path) -> None:
    data = everymask.open_dataset(toy.write_folder(tmp_path / "toy", train=2, val=1), split="train")
    assert (data.tasks, data.labels.names) == (("panoptic", "instance", "semantic", "depth"), TOY_CLASSES)
    truth, street = data.read_truth(0), toy.draw_street(1000)
    assert (truth.class_map() == np.asarray(street.classes)).all()
    cars = np.unique(np.asarray(street.instances))[1:]
    assert sorted(each.area for each in truth.segments if each.label_id == toy.CAR) == sorted(
        int((np.asarray(street.instances) == car).sum()) for car in cars
    )
    assert (data.read_depth(0) == (np.asarray(street.depth) / np.float32(100)).astype(np.float32)).all()
    assert (np.asarray(street.picture) == np.asarray(toy.draw_street(1000).picture)).all(), "drawn from its seed alone"


def words(text: str) -> list[str]:
    return sorted(re.findall(r"[^\W\d]+", text))


def test_the_notebook_shows_what_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run anew, every cell prints the same words, in another order perhaps, and shows nearly the same picture."""
    monkeypatch.syspath_prepend(EXAMPLES)
    notebook = read_notebook(EXAMPLES / "tour.ipynb")
    shown = 0
    for cell, outputs in zip(code_cells(notebook), run_cells(notebook), strict=True):
        assert words(printed(outputs)) == words(printed(cell["outputs"]))
        for new, stored in zip(pictures(outputs), pictures(cell["outputs"]), strict=True):
            assert new.size == stored.size
            assert abs(np.asarray(new, int) - np.asarray(stored, int)).mean() < 3
            shown += 1
    assert shown >= 8
    assert (EXAMPLES / "tour.ipynb").stat().st_size < 1e6


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_short_and_listed(script: str) -> None:
    text = (EXAMPLES / script).read_text()
    assert text.count("\n") <= 65
    assert f"python examples/{script}" in text
    assert f"python examples/{script}" in (EXAMPLES / "README.md").read_text()
    assert f"def test_{Path(script).stem}_" in Path(__file__).read_text()


def test_public_checkpoints_that_examples_name_are_in_the_catalogue() -> None:
    catalogue = json.loads((BUNDLED.parent / "data" / "catalogue.json").read_text())
    known = {each["name"].removeprefix("modelscope:") for each in catalogue}
    texts = [path.read_text() for path in (*EXAMPLES.glob("*.py"), EXAMPLES / "README.md")]
    owners = "|".join(sorted({name.partition("/")[0] for name in known if "/" in name}))
    named = set(re.findall(rf"\b(?:{owners})/[\w.-]+", "\n".join(texts)))
    assert len(named) >= 8
    assert named <= known
