"""Errors that are everymask's and also of the type that transformers raises in their place."""

from everymask.errors import CheckpointError, ImageError, OptionError


class UnknownTaskError(OptionError, KeyError):
    """There is no pipeline for the task."""

    __str__ = Exception.__str__  # KeyError shows its message in quotes


class NothingToLoadError(OptionError, RuntimeError):
    """Neither a task nor a model is given."""


class ModelError(CheckpointError, OSError):
    """The model or the image processor could not be found, downloaded, read or built."""


class ArgumentTypeError(OptionError, TypeError):
    """An argument is of a type that has no meaning."""


class ImageTypeError(ImageError, TypeError):
    """An input is no path, no URL, no base64 and no PIL image."""


class ImageSourceError(ImageError, ValueError):
    """A string is neither a URL, nor a file's path, nor an image in base64."""


class ImageFileError(ImageError, OSError):
    """A file or URL could not be read as an image."""
