"""``everymask bench``: the table, its files, and the gate's verdict."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from everymask.benchmarking import ceiling
from everymask.benchmarking.report import Report
from everymask.cli import main
from fake_clock import WAY_SECONDS, Clock


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs ``everymask bench ARGUMENTS`` in tmp_path."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as end:
            main(["bench", *arguments])
        captured = capsys.readouterr()
        assert end.value.code is None or isinstance(end.value.code, int)
        return Outcome(end.value.code or 0, captured.out, captured.err)

    return run


@dataclass
class Build:
    """A build of everymask whose network takes ``network`` seconds and whose openvino may be missing."""

    network: float = 5.0
    openvino: bool = True


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Build:
    """What ``everymask bench`` measures."""
    clock, build = Clock(), Build()

    def measured(model: str, image: Path, **options: object) -> Report:
        subjects = [clock.subject("eager float32", {**WAY_SECONDS, "network": build.network})]
        if build.openvino:
            subjects.append(clock.subject("openvino float32"))
        return clock.report(*subjects)

    monkeypatch.setattr("everymask.stopwatch.perf_counter", clock)
    monkeypatch.setattr("everymask.benchmarking.bench.bench", measured)
    return build


def test_it_measures_a_real_model_in_every_number_type(
    bench: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ceiling, "_SECONDS", 0.001)
    monkeypatch.setattr(ceiling, "_SIDES", (64,))
    quick = ("--engines", "eager", "--repeats", "1", "--task", "semantic", "--json", "a/b.json", "--markdown", "t.md")
    done = bench(*quick, "--dtype", "float32,bfloat16")
    assert done.status == 0, done.err
    content = json.loads((tmp_path / "a" / "b.json").read_text())
    assert [row["subject"] for row in content["rows"]] == ["eager float32", "eager bfloat16"]
    for row in content["rows"]:
        assert row["gflop"] > 1
        assert all(seconds > 0 for seconds in (*row["phases"].values(), row["draw"], row["ratio"], row["share"]))
        assert row["whole"]["median"] >= sum(row["phases"].values())
    assert "semantic segmentation of high-street.jpg, network input 448 x 608" in done.out
    assert (tmp_path / "t.md").read_text().startswith("### street\n\n| subject | image to result, s |")
    monkeypatch.setattr("everymask.benchmarking.bench.computes_bfloat16", lambda device: False)
    assert bench(*quick).status == 0
    content = json.loads((tmp_path / "a" / "b.json").read_text())
    assert [row["subject"] for row in content["rows"]] == ["eager float32"]


def test_a_deliberately_slowed_build_fails_the_gate(bench: Command, build: Build) -> None:
    assert bench("--record", "gate.json").status == 0
    kept = bench("--gate", "gate.json")
    assert kept.status == 0
    assert "the gate holds: no loss over 10 % in eager float32, openvino float32" in kept.out
    build.network = 7.0
    slowed = bench("--gate", "gate.json")
    assert slowed.status == 1
    assert slowed.err.splitlines() == [
        "error: slower than recorded: eager float32: 0.167, recorded 0.2 (17 % lost)",
    ]


def test_the_gate_tells_what_was_recorded_and_is_gone(bench: Command, build: Build) -> None:
    bench("--record", "gate.json")
    build.openvino = False
    done = bench("--gate", "gate.json")
    assert done.status == 0
    assert done.err == "recorded but not measured: openvino float32\n"


def test_a_loss_on_another_machine_says_so(bench: Command, build: Build, tmp_path: Path) -> None:
    gate = tmp_path / "gate.json"
    gate.write_text('{"street": {"machine": "an abacus", "ratios": {"eager float32": 0.9}}}')
    done = bench("--gate", "gate.json")
    assert done.status == 1
    assert "the gate was recorded on another machine: an abacus" in done.err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--gate", "none.json"], 1, "none.json is no gate file"),
        (["--engines", " , "], 2, "--engines is ' , ': name at least one"),
        (["--dtype", "float99"], 2, "unknown dtype 'float99'"),
        (["--engines", "steam"], 2, "unknown engine 'steam'"),
        (["--task", "depth"], 2, "cannot do the task 'depth'"),
        (["street", "missing.jpg"], 1, "missing.jpg"),
    ],
)
def test_bad_wishes_are_one_line(bench: Command, arguments: list[str], status: int, message: str) -> None:
    done = bench(*arguments)
    assert done.status == status
    assert message in done.err
    assert len(done.err.splitlines()) == 1
