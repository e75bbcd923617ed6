import io
import re

import pytest

from cloud.embedded.screen import Screen


def test_a_finished_step_is_one_line_with_its_seconds():
    out = io.StringIO()
    with Screen(out) as screen, screen.step("Database") as step:
        step.note = "waiting"
        step.result = "PostgreSQL 18"
    assert re.fullmatch(r"  Database: PostgreSQL 18 +\d+\.\d s\n", out.getvalue())


def test_a_step_that_fails_leaves_no_line():
    out = io.StringIO()
    with pytest.raises(ZeroDivisionError), Screen(out) as screen, screen.step("Database"):
        raise ZeroDivisionError
    assert out.getvalue() == ""


def test_a_pipe_gets_no_control_characters_and_a_reminder_of_a_slow_step(monkeypatch):
    monkeypatch.setattr("cloud.embedded.screen.TICK_SECONDS", 0.01)
    monkeypatch.setattr("cloud.embedded.screen.REMINDER_SECONDS", 0.02)
    out = io.StringIO()
    with Screen(out) as screen, screen.step("Guest image") as step:
        step.note = "building"
        while "Guest image: building … 0 s" not in out.getvalue():
            pass
    assert "\r" not in out.getvalue()
    assert "\033" not in out.getvalue()


def test_a_terminal_sees_all_steps_that_run(monkeypatch):
    monkeypatch.setattr("cloud.embedded.screen.TICK_SECONDS", 0.01)
    out = io.StringIO()
    out.isatty = lambda: True
    with Screen(out) as screen, screen.step("Database"), screen.step("Guest image"):
        while "Database … 0 s · Guest image … 0 s" not in out.getvalue():
            pass
    assert out.getvalue().endswith("\r\033[K")
