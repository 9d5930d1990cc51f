"""The stopwatch, with a clock that the test turns."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from color_model import color_checkpoint, picture
from eager import eager_segmenter
from everymask.stopwatch import PHASES, Stopwatch, timed


@pytest.fixture
def clock(monkeypatch):
    """``clock.now`` is what the stopwatch takes for the time, in seconds."""

    class Clock:
        now = 100.0

    monkeypatch.setattr("everymask.stopwatch.perf_counter", lambda: Clock.now)
    return Clock


def test_a_phase_inside_another_counts_alone(clock):
    watch = Stopwatch()
    clock.now += 50  # no phase runs
    with watch.phase("decode"):
        clock.now += 1
        with watch.phase("network"):
            clock.now += 10
        clock.now += 2
    clock.now += 50
    with watch.phase("decode"):
        clock.now += 4
    assert watch.seconds == {"read": 0, "prepare": 0, "network": 10, "decode": 7, "metric": 0}


def test_an_error_ends_its_phase(clock):
    watch = Stopwatch()

    def work():
        with watch.phase("read"):
            clock.now += 3
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    clock.now += 5
    with watch.phase("metric"):
        clock.now += 1
    assert (watch.seconds["read"], watch.seconds["metric"]) == (3, 1)


def test_threads_are_measured_each_by_itself(clock):
    watch = Stopwatch()
    with watch.phase("network"):
        clock.now += 1
        with ThreadPoolExecutor(1) as threads:

            def read():
                with watch.phase("read"):
                    clock.now += 5

            threads.submit(read).result()
        clock.now += 2
    assert (watch.seconds["network"], watch.seconds["read"]) == (8, 5)


def test_without_a_stopwatch_only_the_work_is_done():
    done = []
    with timed(None, "read") as measured:
        done.append("read")
    assert (done, measured) == (["read"], None)


def test_a_stream_tells_it_every_phase_and_stays_the_same():
    model = eager_segmenter(color_checkpoint())
    sources = [picture(), b"bad", picture(20)]
    watch = Stopwatch()
    with_watch = list(model.stream(sources, batch_size=2, stopwatch=watch))
    without = list(model.stream(sources, batch_size=2))
    assert [type(each) for each in with_watch] == [type(each) for each in without]
    for one, other in zip(with_watch[::2], without[::2], strict=True):
        assert (one.label_map == other.label_map).all()
    assert all(watch.seconds[phase] > 0 for phase in PHASES if phase != "metric")
    assert watch.seconds["metric"] == 0
