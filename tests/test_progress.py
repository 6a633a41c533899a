"""Bars are on the terminal; what is printed under them goes where standard output goes."""

from tests.terminal import on_a_terminal

PRINTS = "from smim.progress import track\nfor i in track(range(3), '[counting]'): print(i)"


def test_what_is_printed_under_a_bar_arrives_in_a_pipe():
    shown, printed = on_a_terminal("-c", PRINTS, stdout=False)
    assert printed == "0\n1\n2\n" and "[counting]" in shown


def test_bytes_that_nobody_knows_are_not_shown_as_none():
    code = "from smim.progress import bytes_bar\nwith bytes_bar('reading', total=0) as done: done(0)"
    shown, _ = on_a_terminal("-c", code)
    assert "reading" in shown and "bytes" not in shown and "MB" not in shown
