"""Small data sets without a fault, of every format, for faults to be seeded in."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from everymask.labels import label_set

HEIGHT, WIDTH = 48, 64
NAMES = ("a", "b", "c", "d")
SPLITS = ("train", "val")
CLASSES = ("ground", "wall", "tree", "car", "person")
PALETTE = ((128, 64, 128), (70, 70, 70), (107, 142, 35), (0, 0, 142), (220, 20, 60))
IGNORED = 255


def photograph(seed, height=HEIGHT, width=WIDTH):
    """A picture that is like no other: soft blotches of its own."""
    rng = np.random.default_rng(seed)
    blotches = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    return blotches.resize((width, height), Image.Resampling.BICUBIC)


def blocks(seed, values, height=HEIGHT, width=WIDTH):
    """A map of 4 x 5 blocks that holds each of up to 20 values, (H, W) uint16."""
    rng = np.random.default_rng(seed)
    grid = rng.permutation(np.resize(values, 20)).reshape(4, 5)
    rows = np.arange(height) * 4 // height
    columns = np.arange(width) * 5 // width
    return grid[np.ix_(rows, columns)].astype(np.uint16)


def save(path, array):
    """Saves a map as a PNG of as few bits as it takes, 8 or 16, or in colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.asarray(array)
    wide = array.ndim == 2 and array.max() > 255
    Image.fromarray(array.astype(np.uint16 if wide else np.uint8)).save(path)


def load(path):
    """The numbers of a map."""
    return np.asarray(Image.open(path)).astype(np.int64)


def save_photograph(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    photograph(seed).save(path)


def every(splits=SPLITS, names=NAMES):
    """(split, name, seed) of every image."""
    return [(split, name, 100 * i + j) for i, split in enumerate(splits) for j, name in enumerate(names)]


def class_file(root, **settings):
    """classes.yaml, which JSON is, too."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.yaml").write_text(json.dumps({"names": list(CLASSES), "palette": PALETTE} | settings))


def folder(root, values=(*range(5), IGNORED), **settings):
    class_file(root, **settings)
    for split, name, seed in every():
        save_photograph(root / "images" / split / f"{name}.jpg", seed)
        save(root / "labels" / split / f"{name}.png", blocks(seed, values))


def camvid(root):
    for split, name, seed in every():
        save_photograph(root / "images" / split / f"0001TP_{name}.jpg", seed)
        save(root / "labels" / split / f"0001TP_{name}.png", blocks(seed, range(12)))


def ade20k(root):
    for split, name, seed in every(("training", "validation")):
        save_photograph(root / "images" / split / f"ADE_{name}.jpg", seed)
        save(root / "annotations" / split / f"ADE_{name}.png", blocks(seed, (0, 1, 2, 40, 150)))


def cityscapes(root):
    for split, name, seed in every():
        save_photograph(root / "leftImg8bit" / split / "ulm" / f"{name}_leftImg8bit.png", seed)
        classes = blocks(seed, (0, 4, 7, 8, 11, 24, 26))
        instances = np.where(np.isin(classes, (24, 26)), classes * 1000, classes)
        save(root / "gtFine" / split / "ulm" / f"{name}_gtFine_labelIds.png", classes)
        save(root / "gtFine" / split / "ulm" / f"{name}_gtFine_instanceIds.png", instances)


def mapillary(root):
    for split, name, seed in every(("training", "validation")):
        save_photograph(root / split / "images" / f"{name}.jpg", seed)
        classes = blocks(seed, (0, 2, 13, 19, 55, 65))
        things = np.isin(classes, (0, 19, 55))
        save(root / split / "v1.2" / "labels" / f"{name}.png", classes)
        save(root / split / "v1.2" / "instances" / f"{name}.png", classes * 256 + things)


def pascal_voc(root):
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, name, seed in every():
        stem = f"2007_{split}_{name}"
        save_photograph(root / "JPEGImages" / f"{stem}.jpg", seed)
        with (lists / f"{split}.txt").open("a") as file:
            file.write(f"{stem}\n")
        picture = Image.fromarray(blocks(seed, (0, 1, 15, 20, 255)).astype(np.uint8), "P")
        picture.putpalette([channel for color in voc_palette() for channel in color])
        (root / "SegmentationClass").mkdir(exist_ok=True)
        picture.save(root / "SegmentationClass" / f"{stem}.png")
    save_photograph(root / "JPEGImages" / "2007_unlabelled.jpg", 999)  # most of VOC's photographs have no labels


def voc_palette():
    colors = label_set("pascal-voc").colors
    return [*colors, *[(0, 0, 0)] * (255 - len(colors)), (224, 224, 192)]


def coco_stuff(root):
    for split, name, seed in every(("train2017", "val2017")):
        save_photograph(root / split / f"{name}.jpg", seed)
        save(root / "stuffthingmaps" / split / f"{name}.png", blocks(seed, (0, 10, 12, 91, 181, 255)))


CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 2, "name": "car", "isthing": 1},
    {"id": 7, "name": "road", "isthing": 0},
]


def coco_panoptic(root):
    for split, name, seed in every(("train2017", "val2017")):
        save_photograph(root / split / f"{name}.jpg", seed)
    for split in ("train2017", "val2017"):
        annotations, images = [], []
        for number, name in enumerate(NAMES, 1):
            # One segment a block column: two persons, two cars, a road; and what is not annotated.
            ids = np.repeat((70000, 70001, 300, 5, 0, 801), (12, 12, 12, 12, 4, 12))[None].repeat(HEIGHT, 0)
            segments = [
                segment(ids, id_, category) for id_, category in ((70000, 1), (70001, 1), (300, 2), (5, 2), (801, 7))
            ]
            save(root / f"annotations/panoptic_{split}/{name}.png", id_colors(ids))
            annotations.append({"image_id": number, "file_name": f"{name}.png", "segments_info": segments})
            images.append({"id": number, "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH})
        document = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        (root / f"annotations/panoptic_{split}.json").write_text(json.dumps(document))


def id_colors(ids):
    """(H, W) ids as (H, W, 3): R + 256 G + 65536 B."""
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1)


def segment(ids, id_, category):
    y, x = np.nonzero(ids == id_)
    box = [int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1]
    return {"id": id_, "category_id": category, "area": len(x), "bbox": box, "iscrowd": 0}


def coco_instances(root, categories=None):
    """Two polygons and a crowd of runs on every image."""
    categories = categories or [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}]
    crowd = np.zeros((HEIGHT, WIDTH), np.uint8)
    crowd[30:40, 40:60] = 1
    for split in ("train2017", "val2017"):
        annotations, images = [], []
        for number, name in enumerate(NAMES, 1):
            images.append({"id": number, "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH})
            ids = [each["id"] for each in categories]
            triangle = [4.0, 4.0, 34.0, 4.0, 4.0, 24.0]
            square = [20.5, 25.5, 40.0, 25.5, 40.0, 45.0, 20.5, 45.0]
            annotations += [
                annotation(10 * number + 1, number, ids[0], [triangle], [4, 4, 30, 20], 300),
                annotation(10 * number + 2, number, ids[-1], [square], [20.5, 25.5, 19.5, 19.5], 380),
                annotation(10 * number + 3, number, ids[0], runs(crowd), [40, 30, 20, 10], 200, 1),
            ]
        document = {"images": images, "annotations": annotations, "categories": categories}
        path = root / f"annotations/instances_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
    for split, name, seed in every(("train2017", "val2017")):
        save_photograph(root / split / f"{name}.jpg", seed)


def runs(mask):
    """COCO's uncompressed runs of a mask."""
    flat = np.concatenate([[0], mask.T.ravel(), [0]])
    bounds = np.flatnonzero(np.diff(flat.astype(int)))
    counts = np.diff(np.concatenate([[0], bounds, [mask.size]]))
    return {"size": list(mask.shape), "counts": [int(count) for count in counts]}


def annotation(number, image, category, segmentation, box, area, crowd=0):
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "bbox": box,
        "area": area,
        "iscrowd": crowd,
    }


def edit(path, change):
    """Changes the content of a JSON file in place."""
    document = json.loads(Path(path).read_text())
    change(document)
    Path(path).write_text(json.dumps(document))


FORMATS = {
    "folder": folder,
    "camvid": camvid,
    "ade20k": ade20k,
    "cityscapes": cityscapes,
    "mapillary-vistas": mapillary,
    "pascal-voc": pascal_voc,
    "coco-stuff": coco_stuff,
    "coco-panoptic": coco_panoptic,
    "coco-instances": coco_instances,
}
