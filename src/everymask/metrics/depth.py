"""Errors of depth maps (Eigen et al., "Depth Map Prediction from a Single Image", 2014), image by image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from everymask.errors import DataError, OptionError
from everymask.metrics.checks import check_same_shape, refuse_truth_itself
from everymask.segmentation import DepthKind

Alignment = Literal["none", "median", "scale-and-shift"]
"""What of a prediction is fitted to the truth of each image before it is measured."""
ALIGNMENTS: tuple[Alignment, ...] = ("none", "median", "scale-and-shift")

_THRESHOLD = 1.25

_Depths = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DepthScores:
    """The errors of depth, each the plain mean of its value in every one of the ``images`` images.

    With p the predicted and t the true depth in metres of the pixels that count, ``abs_rel`` is the mean of
    |p - t| / t and ``sq_rel`` of (p - t)^2 / t (metres); ``rmse`` is the root of the mean of (p - t)^2 (metres) and
    ``log_rmse`` of (ln p - ln t)^2. ``delta1``, ``delta2`` and ``delta3`` are the shares, in 0..1, of the pixels whose
    max(p / t, t / p) is below 1.25, 1.25^2 and 1.25^3: larger is better.
    """

    abs_rel: float
    sq_rel: float
    rmse: float
    log_rmse: float
    delta1: float
    delta2: float
    delta3: float
    images: int


class DepthErrors:
    """Sums of the errors of images.

    Filled image by image with ``add``; what was measured apart, say by several workers, is joined with ``merge``.

    ``kind`` says what predictions hold: metres, or relative inverse depths without a unit, larger is nearer.
    ``alignment`` is fitted to each image: "none" takes metres as they are; "median" multiplies depths so that their
    median is the truth's; "scale-and-shift" fits both by least squares, in metres, or for relative depth among inverse
    depths, where it was trained (Ranftl et al., "Towards Robust Monocular Depth Estimation", 2020). The default is
    "scale-and-shift" for relative depth and "none" for metres.

    Only true depths from ``min_depth`` to ``max_depth`` (metres) count, and predictions are then limited to that
    range, as in the usual protocols: 80 m for KITTI, 10 m for NYU.

    Raises OptionError for an unknown kind or alignment, relative depth without alignment, and an impossible range.
    """

    def __init__(
        self,
        kind: DepthKind = "metric",
        alignment: Alignment | None = None,
        *,
        min_depth: float = 1e-3,
        max_depth: float = 80.0,
    ) -> None:
        if kind not in ("metric", "relative"):
            raise OptionError(f'depth is "metric" or "relative", not {kind!r}')
        chosen = alignment or ("scale-and-shift" if kind == "relative" else "none")
        if chosen not in ALIGNMENTS:
            raise OptionError(f"the alignment is one of {', '.join(ALIGNMENTS)}, not {chosen!r}")
        if kind == "relative" and chosen == "none":
            raise OptionError(
                'relative depth has no unit and cannot be compared with metres: choose the alignment "scale-and-shift"'
            )
        if not 0 < min_depth < max_depth < np.inf:
            raise OptionError(f"depths from {min_depth:g} to {max_depth:g} m are no range above 0: choose another")
        self._protocol = (kind, chosen, min_depth, max_depth)
        self._sums: NDArray[np.float64] = np.zeros(7)  # in the order of the fields of DepthScores
        self._images = 0

    @property
    def images(self) -> int:
        """How many images count so far."""
        return self._images

    def add(
        self,
        prediction: NDArray[np.floating[Any]],
        truth: NDArray[np.floating[Any]],
        valid: NDArray[np.bool_] | None = None,
    ) -> None:
        """Measures one image.

        ``prediction`` (H, W) holds what ``kind`` says, ``truth`` (H, W) metres. ``valid`` (H, W) bool says where the
        truth was measured; without it that is where it is neither 0 nor nan nor infinite. An image without a true depth
        in range does not count. Raises DataError, and counts nothing, where shapes differ, the truth is not positive
        where it is valid, the prediction there is not finite, or nowhere positive but taken as a depth, or the two are
        the same array.
        """
        predicted, true = self._compared(prediction, truth, valid)
        if not true.size:
            return
        kind, alignment, min_depth, max_depth = self._protocol
        metres = _alignment(predicted, true, kind, alignment)(predicted)
        self._sums += _errors(metres.clip(min_depth, max_depth), true)
        self._images += 1

    def aligned(
        self, prediction: NDArray[np.floating[Any]], truth: NDArray[np.floating[Any]]
    ) -> NDArray[np.float32] | None:
        """What ``add`` measures, at every pixel: metres (H, W) float32, fitted to the truth and limited to the range.

        None where the truth has no depth in range, so that nothing can be fitted. Raises DataError as ``add`` does.
        """
        predicted, true = self._compared(prediction, truth, None)
        if not true.size:
            return None
        kind, alignment, min_depth, max_depth = self._protocol
        metres = _alignment(predicted, true, kind, alignment)(prediction.astype(np.float64))
        return metres.clip(min_depth, max_depth).astype(np.float32)

    def _compared(
        self,
        prediction: NDArray[np.floating[Any]],
        truth: NDArray[np.floating[Any]],
        valid: NDArray[np.bool_] | None,
    ) -> tuple[_Depths, _Depths]:
        """Prediction and truth of the N pixels that count, (N,) each. Raises DataError as ``add`` does."""
        _, _, min_depth, max_depth = self._protocol
        check_same_shape(prediction.shape, truth.shape)
        refuse_truth_itself(prediction, truth)
        if valid is None:
            valid = np.isfinite(truth) & (truth != 0)
        check_same_shape(valid.shape, truth.shape)
        if not (truth[valid] > 0).all() or not np.isfinite(truth[valid]).all():
            raise DataError(
                "the true depth is not a positive number everywhere it is valid: store 0 where nothing was measured, "
                "and metres elsewhere"
            )
        counts = valid & (truth >= min_depth) & (truth <= max_depth)
        true = truth[counts].astype(np.float64)
        predicted = prediction[counts].astype(np.float64)
        if not np.isfinite(predicted).all():
            raise DataError('the predicted depth is not finite everywhere: load the model with dtype="float32"')
        return predicted, true

    def merge(self, other: "DepthErrors") -> None:
        """Adds what another has measured. Raises DataError where its kind, alignment or range differ."""
        if self._protocol != other._protocol:
            raise DataError(
                f"cannot merge depth errors of {_describe(other._protocol)} into those of {_describe(self._protocol)}: "
                "measure all in the same way"
            )
        self._sums += other._sums
        self._images += other._images

    def scores(self) -> DepthScores:
        """The figures of all images so far. Raises DataError where none has counted."""
        if self._images == 0:
            raise DataError(
                f"no depth was compared: no image had a true depth from {self._protocol[2]:g} to {self._protocol[3]:g} "
                "m, or none was added; check the unit of the truth"
            )
        abs_rel, sq_rel, rmse, log_rmse, delta1, delta2, delta3 = (self._sums / self._images).tolist()
        return DepthScores(abs_rel, sq_rel, rmse, log_rmse, delta1, delta2, delta3, self._images)


def _alignment(
    predicted: _Depths, true: _Depths, kind: DepthKind, alignment: Alignment
) -> Callable[[_Depths], _Depths]:
    """What makes metres of predictions of any shape, fitted to the N predicted and true values of an image.

    Infinite or negative depths may come out.
    """
    if alignment == "scale-and-shift":
        if kind == "metric":
            return _fit(predicted, true)
        fitted = _fit(predicted, 1 / true)
        return lambda values: _invert(fitted(values))
    if not (predicted > 0).any():
        raise DataError(
            "no predicted depth is positive: is the prediction a depth at all, and of the kind that was stated?"
        )
    depths: Callable[[_Depths], _Depths] = _invert if kind == "relative" else np.array
    if alignment == "none":
        return depths
    middle = float(np.median(depths(predicted)))
    if not 0 < middle < np.inf:
        raise DataError(
            "the median of the predicted depths is not positive and finite, so it cannot be scaled to the truth's: "
            'choose the alignment "scale-and-shift"'
        )
    return lambda values: depths(values) * (float(np.median(true)) / middle)


def _fit(predicted: _Depths, true: _Depths) -> Callable[[_Depths], _Depths]:
    """scale * values + shift with the least squared distance to ``true``, (N,); a constant becomes the mean."""
    mean = predicted.mean()
    apart = predicted - mean
    spread = float(apart @ apart)
    middle = float(true.mean())
    scale = float(apart @ (true - middle)) / spread if spread else 0.0
    return lambda values: scale * (values - mean) + middle


def _invert(inverse: NDArray[np.float64]) -> NDArray[np.float64]:
    """Depths from inverse depths; those that are not positive are infinitely far."""
    return np.divide(1, inverse, out=np.full_like(inverse, np.inf), where=inverse > 0)


def _errors(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """The seven errors of one image from its positive depths, both (N,)."""
    difference = predicted - true
    ratio = np.maximum(predicted / true, true / predicted)
    return np.array(
        [
            np.mean(np.abs(difference) / true),
            np.mean(difference**2 / true),
            np.sqrt(np.mean(difference**2)),
            np.sqrt(np.mean(np.log(predicted / true) ** 2)),
            *(np.mean(ratio < _THRESHOLD**power) for power in (1, 2, 3)),
        ]
    )


def _describe(protocol: tuple[DepthKind, Alignment, float, float]) -> str:
    kind, alignment, min_depth, max_depth = protocol
    return f"{kind} depth (alignment {alignment}, {min_depth:g} to {max_depth:g} m)"
