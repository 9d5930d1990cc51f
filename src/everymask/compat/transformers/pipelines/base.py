"""What the pipelines have in common: the ways in which images are given."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, Generic, TypeVar

import torch

from everymask.compat.transformers.errors import ArgumentTypeError
from everymask.compat.transformers.pipelines.inputs import Answers, Source, are_lazy, as_transformers_raises, source
from everymask.errors import EverymaskError, OptionError
from everymask.segmentation import Segmentation
from everymask.segmenter import Failure, Segmenter

Answer = TypeVar("Answer")
Options = TypeVar("Options", bound=Any)


class Pipeline(ABC, Generic[Options, Answer]):
    """Calls a Segmenter the way transformers' pipelines are called.

    ``model`` is the Segmenter. ``options``, a dataclass of the pipeline with ``changes``, hold for every call that does
    not say otherwise; it has a ``timeout``. Raises ArgumentTypeError for an option that there is not.
    """

    task: str

    def __init__(
        self,
        model: Segmenter,
        options: Options,
        changes: Mapping[str, Any],
        *,
        num_workers: int | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.model = model
        self._options = _changed(options, changes)
        self._batch_size = _at_least(1, "batch_size", batch_size)
        _at_least(0, "num_workers", num_workers)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.model.engine.device

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return self.model.engine.dtype

    def _call(
        self, inputs: Any, num_workers: int | None, batch_size: int | None, changes: Mapping[str, Any]
    ) -> Answer | list[Answer] | Answers[Answer]:
        """The answer for an image, a list of them for a list, and Answers for a data set or generator."""
        if inputs is None:
            raise OptionError(f"the {self.task} pipeline is called without inputs: pass an image, or several as a list")
        options = _changed(self._options, changes)
        _at_least(0, "num_workers", num_workers)
        at_once = _at_least(1, "batch_size", batch_size) or self._batch_size or 1
        if isinstance(inputs, list):
            return list(self._answer_all(inputs, options, at_once))
        if are_lazy(inputs):
            return Answers(inputs, lambda images: self._answer_all(images, options, at_once))
        return self._answer_one(inputs, options)

    def _answer_one(self, image: Any, options: Options) -> Answer:
        """The answer for an image as the caller gives it."""
        try:
            return self._answer(source(image, options.timeout), options)
        except EverymaskError as error:
            raise as_transformers_raises(error) from error

    @abstractmethod
    def _answer(self, image: Source, options: Options) -> Answer: ...

    @abstractmethod
    def _answer_all(self, images: Iterable[Any], options: Options, batch_size: int) -> Iterator[Answer]:
        """The answers for images as the caller gives them, in their order; the first bad one is raised."""


def results(model: Segmenter, images: Iterable[Any], timeout: float | None, **options: Any) -> Iterator[Segmentation]:
    """What ``model.stream`` gives for images as the caller gives them; the first failure is raised."""
    for result in model.stream((source(image, timeout) for image in images), **options):
        if isinstance(result, Failure):
            raise as_transformers_raises(result.error) from result.error
        yield result


def _changed(options: Options, changes: Mapping[str, Any]) -> Options:
    known = [each.name for each in fields(options)]
    unknown = sorted(set(changes).difference(known))
    if unknown:
        raise ArgumentTypeError(f"unknown option {unknown[0]!r}: choose of {', '.join(known)}")
    return replace(options, **changes)


def _at_least(least: int, name: str, value: int | None) -> int | None:
    if value is not None and (not isinstance(value, int) or value < least):
        raise OptionError(f"{name} is {value!r}: give an integer of at least {least}")
    return value
