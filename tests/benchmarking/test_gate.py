"""The gate: what is slower than it was recorded fails, whatever the machine does meanwhile."""

from pathlib import Path

import pytest

from everymask.benchmarking.gate import Record, losses, read_record, write_record
from everymask.benchmarking.report import Report
from everymask.errors import DataError
from fake_clock import WAY_SECONDS, Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("everymask.stopwatch.perf_counter", clock)
    return clock


def record_of(told: Report) -> Record:
    return Record(str(told.machine), {row.subject: row.ratio for row in told.rows})


def test_a_slowed_build_fails_on_a_quiet_and_on_a_busy_machine(clock: Clock) -> None:
    recorded = record_of(clock.report(clock.subject("eager float32"), clock.subject("openvino float32")))
    for clock.slowness in (1.0, 2.5):
        slowed = clock.subject("eager float32", {**WAY_SECONDS, "network": 7.0})  # 12 s instead of 10
        now = record_of(clock.report(slowed, clock.subject("openvino float32")))
        [loss] = losses(recorded, now.ratios)
        assert str(loss) == "eager float32: 0.167, recorded 0.2 (17 % lost)"


def test_the_same_build_passes_on_a_busy_machine_and_so_does_a_small_loss(clock: Clock) -> None:
    recorded = record_of(clock.report(clock.subject("eager float32")))
    clock.slowness = 2.5
    same = clock.subject("eager float32")
    assert losses(recorded, record_of(clock.report(same)).ratios) == []
    little = clock.subject("eager float32", {**WAY_SECONDS, "decode": 4.0})  # 11 s instead of 10
    assert losses(recorded, record_of(clock.report(little)).ratios) == []


def test_what_only_one_side_has_is_not_compared(clock: Clock) -> None:
    recorded = Record("a machine", {"eager float32": 0.2, "openvino float32": 0.9})
    assert losses(recorded, {"eager float32": 0.2, "compile float32": 0.1}) == []
    with pytest.raises(DataError, match="none of the recorded ratios"):
        losses(recorded, {"compile float32": 0.1})


def test_records_of_several_titles_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "gate.json"
    write_record(path, "street", Record("this one", {"eager float32": 0.123456}))
    write_record(path, "other", Record("this one", {"eager float32": 2.0}))
    write_record(path, "street", Record("that one", {"eager bfloat16": 0.5}))
    assert read_record(path, "street") == Record("that one", {"eager bfloat16": 0.5})
    assert read_record(path, "other") == Record("this one", {"eager float32": 2.0})
    with pytest.raises(DataError, match=r"no ratios of 'third'.*'street', 'other'"):
        read_record(path, "third")


@pytest.mark.parametrize("content", ["", "[]", '{"street": 3}', '{"street": {"machine": "m", "ratios": {"a": "x"}}}'])
def test_a_file_that_is_no_gate_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "gate.json"
    path.write_text(content)
    with pytest.raises(DataError, match="no gate file"):
        read_record(path, "street")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no gate file"):
        read_record(tmp_path / "gate.json", "street")
