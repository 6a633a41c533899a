"""On a terminal no program is silent: it says what it does, from before the imports that take seconds."""

import re

import pytest

from tests.terminal import on_a_terminal

WAITS = """
import sys, time
from smim.waiting import doing, starting

starting("starting something")
time.sleep(1)
print("found", flush=True)
doing("doing more")
time.sleep(1.5)
print("end")
"""


def imported(shown: str, module: str) -> int:
    """Where Python's `-X importtime` says that a module is there."""
    found = re.search(rf"\| +{module}\r\n", shown)
    assert found
    return found.start()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("smim/train.py", "starting the training"),
        pytest.param("eval/run.py", "starting the evaluation", marks=pytest.mark.slow),
    ],
)
def test_a_script_says_what_it_does_before_torch_is_imported(script, says):
    shown, _ = on_a_terminal("-X", "importtime", script, "--cfg", "job")
    assert 0 <= shown.find(says) < imported(shown, "torch")


def test_a_command_says_that_it_works_before_torch_is_imported():
    code = "import sys; from smim.cli import main; sys.argv = ['smim', 'reconstruct', 'english-small', 'hello']; main()"
    shown, _ = on_a_terminal("-X", "importtime", "-c", code)
    assert 0 <= shown.find("smim reconstruct is working") < imported(shown, "torch")


def test_the_line_makes_way_for_what_is_printed_and_comes_back():
    shown, _ = on_a_terminal("-c", WAITS)
    assert "\x1b[Kstarting something, 1 s\r\x1b[Kfound\r\n" in shown
    assert "\x1b[Kdoing more, 1 s" in shown and shown.endswith("\r\x1b[Kend\r\n")


def test_what_is_printed_elsewhere_holds_no_line():
    shown, printed = on_a_terminal("-c", WAITS, stdout=False)
    assert printed == "found\nend\n" and "starting something" in shown and "found" not in shown
    assert shown.endswith("\r\x1b[K")  # the reader of the pipe may write to the terminal too
