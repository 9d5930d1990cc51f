"""Running a check on data with one fault in it, and the fixes it proposes."""

import os
import subprocess
import sys
from pathlib import Path

from everymask.doctor import check


def only_alarm(root, **options):
    """The one error or warning that a check finds; notes do not matter."""
    alarms = [each for each in check(root, **options).findings if each.severity != "note"]
    assert len(alarms) == 1, [(each.kind, each.message, each.where) for each in alarms]
    return alarms[0]


def note(root, kind):
    """The note of a kind, where nothing worse is found."""
    findings = check(root).findings
    assert all(each.severity == "note" for each in findings), findings
    (found,) = [each for each in findings if each.kind == kind]
    return found


def run(command, root):
    """Runs a fix as a user does, in the folder of the data."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, shell=True, cwd=root, check=True, env={**os.environ, "PATH": path})


def cured(root):
    """Whether nothing but notes is left."""
    return [each.kind for each in check(root).findings if each.severity != "note"] == []
