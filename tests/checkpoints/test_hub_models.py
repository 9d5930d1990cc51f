"""``everymask models --hub``, from a Hub on 127.0.0.1. Each call is a process, as huggingface_hub reads HF_* once."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hub_server import FakeHub

SCRIPT = (
    "import sys, time; time.sleep = lambda s: None; from everymask.cli import main; main(['models', *sys.argv[1:]])"
)
MODELS = [
    {
        "id": "facebook/maskformer-swin-tiny-coco",
        "downloads": 500,
        "config": {"model_type": "maskformer"},
        "tags": ["transformers", "maskformer", "license:other"],
    },
    {
        "id": "someone/mask2former-mine",
        "downloads": 900,
        "config": {"model_type": "mask2former"},
        "tags": ["license:apache-2.0"],
    },
    {"id": "someone/clipseg", "downloads": 700, "config": {"model_type": "clipseg"}, "tags": ["license:mit"]},
    {"id": "someone/bare", "tags": []},
]


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.models = MODELS
        yield hub


def run(endpoint: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING", "TRANSF"))}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        env={**inherited, "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_table_is_sorted_by_downloads_and_marks_what_loads_here(hub: FakeHub) -> None:
    done = run(hub.url, "--hub")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines() if "/" in line]
    assert rows == [
        ["someone/mask2former-mine", "yes", "mask2former", "900", "apache-2.0"],
        ["someone/clipseg", "no", "clipseg", "700", "mit"],
        ["facebook/maskformer-swin-tiny-coco", "yes", "maskformer", "500", "other"],
        ["someone/bare", "no", "not", "stated", "not", "stated"],
    ]
    [query] = hub.queries
    assert query["pipeline_tag"] == ["image-segmentation"]
    assert query["filter"] == ["transformers"]
    assert query["sort"] == ["downloads"]
    assert query["limit"] == ["100"]


def test_commercial_hides_what_is_not_known_to_be_free_and_counts_it(hub: FakeHub) -> None:
    done = run(hub.url, "--hub", "--commercial", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == [
        {
            "name": "someone/mask2former-mine",
            "downloads": 900,
            "model_type": "mask2former",
            "license": "apache-2.0",
            "loads_here": True,
        },
        {"name": "someone/clipseg", "downloads": 700, "model_type": "clipseg", "license": "mit", "loads_here": False},
    ]
    assert done.stderr.startswith("2 models are hidden: ")


def test_no_answer_is_one_error_line(hub: FakeHub) -> None:
    hub.broken_status = 503
    for done, message in (
        (run(hub.url, "--hub"), "answered HTTP 503"),
        (run(hub.url, "--hub", HF_HUB_OFFLINE="1"), "HF_HUB_OFFLINE is set"),
        (run("http://127.0.0.1:9", "--hub"), "could not be asked for its models"),
    ):
        assert done.returncode == 1
        assert done.stdout == ""
        # huggingface_hub tells of every new attempt.
        [line] = re.sub(r".* thrown while requesting .*\n(Retrying in .*\n)?", "", done.stderr).splitlines()
        assert line.startswith("error: ")
        assert message in line
