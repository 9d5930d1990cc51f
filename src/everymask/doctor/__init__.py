"""The data set doctor: what is wrong with annotated data, where, and how to put it right."""

from everymask.doctor.check import check
from everymask.doctor.findings import Finding, Report

__all__ = ["Finding", "Report", "check"]
