"""How long a model stays is read as Ollama's clients and servers write it, and nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from minivault.duration import seconds_in
from minivault.errors import ConfigError
from minivault.settings import load_settings

WORDS = [("300", 300.0), ("5m", 300.0), ("1h", 3600.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("500ms", 0.5), ("0", 0.0)]


@pytest.mark.parametrize(("text", "seconds"), [*WORDS, ("-1", -1.0), ("-5m", -300.0)])
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert seconds_in(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "m", "5 m", "5x", "1h30", "1e3", "soon", "nan", "--1", "1" * 65])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="or a duration such as 5m"):
        seconds_in(text)


@pytest.mark.parametrize(("text", "seconds"), [*WORDS, ("-1", -1.0), ("-5m", -1.0), ("-3", -1.0)])
def test_the_setting_takes_them_from_a_variable_a_flag_and_the_file(
    text: str, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [load_settings(data_dir=tmp_path, keep_alive=text).keep_alive]
    (tmp_path / "config.toml").write_text(f'keep_alive = "{text}"\n')
    given.append(load_settings(data_dir=tmp_path).keep_alive)
    monkeypatch.setenv("MINIVAULT_KEEP_ALIVE", text)
    given.append(load_settings(data_dir=tmp_path).keep_alive)
    assert given == pytest.approx([seconds] * 3)


@pytest.mark.parametrize(("line", "seconds"), [("60", 60.0), ("0.5", 0.5), ("-1", -1.0), ("-60", -1.0)])
def test_the_file_may_have_a_number(line: str, seconds: float, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f"keep_alive = {line}\n")
    assert load_settings(data_dir=tmp_path).keep_alive == seconds


@pytest.mark.parametrize("line", ['"soon"', '"1000000001s"', "1000000001", "true", "nan", "inf", "[]"])
def test_a_wrong_one_is_told_its_bound_and_not_repeated(line: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f"keep_alive = {line}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(data_dir=tmp_path)
    said = "must be a number from -1 to 1000000000, of seconds, or a duration such as 5m or 1h30m"
    assert str(caught.value) == f"keep_alive (from config.toml): {said}"
