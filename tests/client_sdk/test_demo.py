"""The demo does what it says."""

import pytest

from restante import demo


async def test_the_demo_shows_both_sides_and_finds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert await demo._demo() == 0
    shown = capsys.readouterr().out
    assert "what people read" in shown
    assert "what the operator's disk holds" in shown
    assert "kite" in shown  # lines wrap to the terminal
    assert "0 found" in shown
