import math

import pytest

from everymask.decoding import DecodingOptions, decoding_options
from everymask.errors import OptionError


def test_defaults_are_the_published_ones() -> None:
    assert decoding_options("panoptic") == DecodingOptions("panoptic", 0.8, 0.5, 0.8, False)
    assert decoding_options("instance") == DecodingOptions("instance", 0.5, 0.5, 0.0, False)
    assert decoding_options("semantic") == DecodingOptions("semantic", 0.0, 0.0, 0.0, False)


def test_given_values_are_kept() -> None:
    chosen = decoding_options("panoptic", threshold=0, mask_threshold=1, overlap_threshold=0.25, explain=True)
    assert chosen == DecodingOptions("panoptic", 0.0, 1.0, 0.25, True)


@pytest.mark.parametrize(
    ("task", "option", "cure"),
    [
        ("semantic", {"threshold": 0.5}, "choose the task panoptic or instance"),
        ("semantic", {"mask_threshold": 0.5}, "choose the task panoptic or instance"),
        ("semantic", {"overlap_threshold": 0.5}, "choose the task panoptic"),
        ("semantic", {"explain": True}, "choose the task panoptic or instance"),
        ("instance", {"overlap_threshold": 0.5}, "choose the task panoptic"),
        ("panoptic", {"threshold": 1.5}, "give a number from 0 to 1"),
        ("panoptic", {"mask_threshold": -0.1}, "give a number from 0 to 1"),
        ("panoptic", {"overlap_threshold": math.nan}, "give a number from 0 to 1"),
        ("instance", {"threshold": "high"}, "give a number from 0 to 1"),
        ("colour", {}, "choose one of panoptic, instance, semantic"),
    ],
)
def test_options_without_meaning_or_out_of_range_are_refused(task: str, option: dict[str, object], cure: str) -> None:
    with pytest.raises(OptionError, match=cure) as caught:
        decoding_options(task, **option)
    assert all(name in str(caught.value) for name in option)
