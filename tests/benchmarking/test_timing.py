"""Taking turns, and the figures of what was measured, with a clock that the work turns."""

import json

import pytest

from everymask.benchmarking.timing import Spread, measure, spread
from fake_clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("everymask.stopwatch.perf_counter", clock)
    return clock


def test_subjects_take_turns_and_the_warm_up_does_not_count(clock: Clock) -> None:
    subjects = [clock.subject("a float32", draw=1), clock.subject("b float32")]
    times = measure(subjects, clock.yardstick, repeats=2, warm_up=1, clock=clock)
    assert clock.log == [*["yardstick"] * 3, "a float32", "a float32 drawn", "b float32"] * 3
    assert times.yardstick == [2, 2]
    assert [len(each) for each in times.rounds.values()] == [2, 2]


def test_a_round_has_the_whole_its_phases_and_the_drawing_beside_it(clock: Clock) -> None:
    times = measure([clock.subject("a float32", draw=7)], clock.yardstick, repeats=1, warm_up=0, clock=clock)
    [once] = times.rounds["a float32"]
    assert (once.whole, once.draw) == (10, 7)
    assert once.phases == {"read": 0.5, "prepare": 0.5, "network": 5, "decode": 3}


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0], Spread(3, 3, 3)), ([4.0, 2.0], Spread(3, 2.5, 3.5)), ([5.0, 1, 3, 2, 4], Spread(3, 2, 4))],
)
def test_the_spread_is_median_and_quartiles(values: list[float], expected: Spread) -> None:
    assert spread(values) == expected


def test_a_row_has_rate_share_speedup_and_the_ratio_to_the_yardstick(clock: Clock) -> None:
    fast = clock.subject("eager bfloat16", {"read": 0.5, "prepare": 0.5, "network": 1, "decode": 2})
    slow, quick = clock.report(clock.subject("eager float32", draw=0.25), fast).rows
    assert (slow.speedup, slow.rate, slow.share, slow.ratio, slow.draw) == (1, 20, 0.1, 0.2, 0.25)
    assert (quick.speedup, quick.rate, quick.share, quick.ratio, quick.draw) == (2, 100, 0.25, 0.4, None)


def test_a_machine_that_is_slow_for_a_while_changes_no_ratio(clock: Clock) -> None:
    quiet = clock.report(clock.subject("eager float32"))
    clock.slowness = 3.0
    busy = clock.report(clock.subject("eager float32"))
    assert busy.rows[0].whole.median == 3 * quiet.rows[0].whole.median
    assert busy.rows[0].ratio == pytest.approx(quiet.rows[0].ratio)


def test_the_report_is_a_table_in_markdown_and_all_of_it_in_json(clock: Clock) -> None:
    told = clock.report(clock.subject("eager float32", draw=0.25), clock.subject("eager bfloat16"))
    lines = told.to_markdown().splitlines()
    assert lines[0] == "### street"
    assert lines[4] == (
        "| eager float32 | 10 (10 to 10) | 1.00x | 500.0 | 500.0 | 5000.0 | 3000.0 | 250.0 | 100.0 | 20 | 10 % |"
    )
    assert lines[5].split(" | ")[7] == "-"
    assert {line.count("|") for line in lines[2:6]} == {12}
    assert "bfloat16 400 (3 x 3 convolution 460)" in lines[7]
    assert "AMD EPYC (family 25, model 17) (avx512_bf16), 2 cores, 2 threads, 24 GiB, torch 2.13.0" in lines[7]
    content = json.loads(json.dumps(told.to_json()))
    assert content["ceiling"]["products"]["float32"] == 200
    assert content["rows"][0]["whole"] == {"median": 10, "lower": 10, "upper": 10}
    assert content["rows"][1]["phases"]["network"] == 5
