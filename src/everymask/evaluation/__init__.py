"""Figures of a model on annotated data."""

from everymask.evaluation.engine import Evaluation, evaluate
from everymask.evaluation.report import FailedImage, Report

__all__ = ["Evaluation", "FailedImage", "Report", "evaluate"]
