"""CamVid, the 11 classes of SegNet: a plain folder whose classes are known.

images/{train,val,test}/NAME.jpg and labels/{train,val,test}/NAME.png, or as SegNet's tutorial has it
{train,val,test}/NAME.png and {train,val,test}annot/NAME.png: the index of the class; 11 is void
"""

from everymask.datasets.class_file import CLASS_FILES, ClassList
from everymask.datasets.folder import class_maps
from everymask.datasets.listing import Files, find_files, nothing_found, with_annotations
from everymask.datasets.pixel_maps import PixelMaps
from everymask.datasets.storage import Storage
from everymask.labels import label_set
from everymask.segmentation import Task

VOID = 11
_RECORDINGS = ("0001TP_", "0006R0_", "0016E5_", "Seq05VD_")
_SPLIT = "(?P<split>train|val|test)"


def recognise(storage: Storage) -> bool:
    """Whether there are labels that are named after CamVid's recordings, and no list of other classes."""
    if any(name in storage for name in CLASS_FILES):
        return False
    folders = [f"labels/{split}" for split in storage.folders("labels")] + ["trainannot", "valannot", "testannot"]
    some = [storage.below(folder)[:1] for folder in folders]
    return any(name.rpartition("/")[2].startswith(_RECORDINGS) for names in some for name in names)


def splits(storage: Storage) -> tuple[str, ...]:
    """The splits with images and labels."""
    return with_annotations(*_find(storage))


def read(storage: Storage, split: str | None = None, task: Task | None = None) -> PixelMaps:
    """The images of a split. CamVid tells no instances apart: ``task`` is semantic or None.

    Raises DataError where files or the split are missing.
    """
    images, labels = _find(storage)
    if not with_annotations(images, labels):
        raise nothing_found(storage, "images/train/NAME.jpg with labels/train/NAME.png")
    classes = ClassList(label_set("camvid"), ignore=(VOID, 255), offset=0)
    return class_maps(storage, images, labels, {}, classes, split, task, name="CamVid")


def _find(storage: Storage) -> tuple[Files, Files]:
    images = find_files(storage, rf"images/{_SPLIT}/(?P<name>.+)\.[^./]+", rf"{_SPLIT}/(?P<name>.+)\.[^./]+")
    labels = find_files(storage, rf"labels/{_SPLIT}/(?P<name>.+)\.[^./]+", rf"{_SPLIT}annot/(?P<name>.+)\.[^./]+")
    return images, labels
