"""The errors everymask raises. Each message says what is wrong and what would cure it."""


class EverymaskError(Exception):
    """Base of every error that everymask raises on purpose."""


class ImageError(EverymaskError):
    """An input could not be read as an image."""


class CheckpointError(EverymaskError):
    """A model could not be found, downloaded, read or built."""


class OptionError(EverymaskError, ValueError):
    """An option is out of range, unknown, or has no meaning for the task or model."""


class DataError(EverymaskError):
    """Annotated data could not be read or does not fit the model."""


class MissingExtraError(EverymaskError, ImportError):
    """An optional dependency is needed; the message names the extra that installs it."""
