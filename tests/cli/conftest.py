"""Running the command line inside the test's own process, with the model that segments by colour."""

from dataclasses import dataclass

import pytest

from color_model import color_checkpoint
from everymask.cli import main


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str


@pytest.fixture
def everymask_command(capsys, monkeypatch, tmp_path):
    """Runs ``everymask ARGUMENTS`` in tmp_path; any model name is the colour model."""
    monkeypatch.setattr("everymask.loading.load_checkpoint", lambda name, **options: color_checkpoint())
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(end.value.code or 0, captured.out, captured.err)

    return run
