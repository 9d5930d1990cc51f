"""The names of tasks, as ``modelscope.utils.constant`` has them."""


class Tasks:
    """The task that ``pipeline`` knows."""

    image_segmentation = "image-segmentation"
