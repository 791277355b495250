"""How many of our files one call enters: what a newcomer has to read to follow it."""

from __future__ import annotations

import json

import pytest

from tests.workplace import PYTHON, Workplace

pytestmark = pytest.mark.once

#: Counts files in which a function, or the body of a class, is entered; the top level of a module does not count.
COUNTER = """
import json, sys, threading
import skahactl
package = skahactl.__path__[0]
entered = set()
def hook(frame, event, arg):
    if event == "call" and frame.f_code.co_filename.startswith(package) and frame.f_code.co_name != "<module>":
        entered.add(frame.f_code.co_filename[len(package) + 1:])
threading.setprofile(hook)
sys.setprofile(hook)
from skahactl.cli import main
code = main(sys.argv[1:])
sys.setprofile(None)
sys.stdout.flush()
print("\\n" + json.dumps([code, sorted(entered)]), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    made = Workplace(tmp_path_factory.mktemp("home"))
    (made.root / "job.toml").write_text(
        'name = "three"\nimage = "images.canfar.net/skaha/astroml:latest"\ncommand = ["true"]\nreplicas = 3\n'
    )
    (made.root / "list.txt").write_text("a\nb\n")
    return made


def files_entered(here: Workplace, line: str) -> list[str]:
    code, files = json.loads(here.run(COUNTER, *line.split(), program=PYTHON).stderr.splitlines()[-1])
    assert code == 0
    return files  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("line", "most"),
    [
        ("apply job.toml --wait", 60),
        ("logs -f three", 36),
        ("get jobs", 22),
        ("split list.txt --of 2 --replica 1", 10),
    ],
)
def test_a_call_enters_few_files(here: Workplace, line: str, most: int) -> None:
    if not line.startswith(("apply", "split")) and not here.recorded("three"):
        here.run("apply", "job.toml", "--wait")
    entered = files_entered(here, line)
    assert len(entered) <= most, "\n".join([str(len(entered)), *entered])
