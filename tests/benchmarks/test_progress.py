"""How far a run is."""

import io

from benchmarks.progress import Progress, clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_times_are_read_as_people_write_them() -> None:
    assert [clock(5), clock(65), clock(3725)] == ["0:05", "1:05", "1:02:05"]


def test_what_is_left_comes_from_the_steps_of_this_run() -> None:
    progress = Progress(total=10, done=4, started=100.0)
    assert "4/10" in progress.text("a point", 100.0)
    assert "left" not in progress.text("a point", 100.0)
    progress.step()
    progress.step()
    assert "6/10" in progress.text("a point", 104.0)
    assert "0:08 left" in progress.text("a point", 104.0)


def test_a_terminal_gets_a_bar_and_a_file_gets_lines() -> None:
    terminal, file = Terminal(), io.StringIO()
    for out in (terminal, file):
        progress = Progress(total=2, done=1, started=0.0, out=out)
        progress.show("a point", 1.0)
        progress.end()
    assert terminal.getvalue().startswith("\r[############............] 1/2")
    assert terminal.getvalue().endswith("\n")
    assert file.getvalue().count("\n") == 1
