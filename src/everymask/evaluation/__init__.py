"""Figures of a model on annotated data."""

from everymask.evaluation.engine import Evaluation, choose_task, evaluate
from everymask.evaluation.report import FailedImage, Report

__all__ = ["Evaluation", "FailedImage", "Report", "choose_task", "evaluate"]
