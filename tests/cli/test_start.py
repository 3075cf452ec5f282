"""The first moments of the command."""

from __future__ import annotations

import runpy
import sys

import pytest

from minivault.cli.start import main


class Interrupted:
    """A finder in whose time somebody presses Ctrl-C."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "minivault.cli.main":
            raise KeyboardInterrupt


def test_ctrl_c_while_the_commands_are_still_read_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "minivault.cli.main", raising=False)
    monkeypatch.delattr("minivault.cli.main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    for begin in (main, lambda: runpy.run_module("minivault", run_name="__main__")):
        with pytest.raises(SystemExit) as end:
            begin()
        assert end.value.code == 130
