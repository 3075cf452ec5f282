"""Settings: flags over the environment over config.toml over defaults; bounds; errors that name and never echo."""

from __future__ import annotations

from pathlib import Path

import pytest

from minivault.errors import ConfigError
from minivault.settings import Settings, load_settings

BOUNDS = [
    ("port", -1),
    ("port", 65536),
    ("threads", -1),
    ("threads", 1025),
    ("kv_cache_memory", -1),
    ("max_batch_tokens", 15),
    ("max_running", 0),
    ("max_waiting", -1),
    ("max_tokens", 0),
    ("max_body_bytes", 1023),
    ("shutdown_timeout", -0.5),
    ("receipt_deadline", 0),
    ("head_interval", 0.5),
    ("retention", -1),
    ("mirror_max_bytes", 4095),
    ("model", ""),
    ("precision", "int3"),
    ("kernels", "sse"),
    ("log_level", "loud"),
]


def write_config(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(text, encoding="utf-8")
    return folder


def test_defaults_hold_where_nothing_is_said() -> None:
    assert load_settings().port == Settings.model_fields["port"].default


def test_a_flag_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIVAULT_PORT", "9001")
    assert load_settings(port=9002).port == 9002


def test_the_environment_beats_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINIVAULT_PORT", "9001")
    assert load_settings(data_dir=write_config(tmp_path / "data", "port = 9003")).port == 9001


def test_the_file_beats_the_default(tmp_path: Path) -> None:
    assert load_settings(data_dir=write_config(tmp_path / "data", "port = 9003")).port == 9003


def test_the_file_lies_in_the_data_dir_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINIVAULT_DATA_DIR", str(write_config(tmp_path / "data", "threads = 3")))
    assert load_settings().threads == 3


def test_a_flag_that_is_none_was_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIVAULT_PORT", "9001")
    assert load_settings(port=None).port == 9001


def test_a_false_flag_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIVAULT_MIRROR", "true")
    assert load_settings(mirror=False).mirror is False


def test_the_home_directory_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings(data_dir="~/vault").vault_path == tmp_path / "vault" / "vault.db"


@pytest.mark.parametrize(("name", "value"), BOUNDS)
def test_a_value_out_of_bounds_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: must ") as caught:
        load_settings(**{name: value})
    assert "Input should" not in str(caught.value)


def test_a_number_that_is_none_is_told_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIVAULT_PORT", "http")
    with pytest.raises(ConfigError, match=r"^port \(from MINIVAULT_PORT\): must be an integer from 0 to 65535$"):
        load_settings()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("port = true", "port (from config.toml): must be an integer from 0 to 65535"),
        ("threads = false", "threads (from config.toml): must be an integer from 0 to 1024"),
        ("keep_alive = true", "keep_alive (from config.toml): must be a number from -1 to 1000000000"),
        ("max_body_bytes = true", "max_body_bytes (from config.toml): must be a number of bytes from 1KiB to 1GiB"),
    ],
)
def test_a_boolean_is_no_number(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(data_dir=write_config(tmp_path / "data", line))
    assert str(caught.value).startswith(said)


def test_no_number_of_any_name_takes_a_boolean(tmp_path: Path) -> None:
    numbers = [name for name, field in Settings.model_fields.items() if field.annotation in (int, float)]
    file = write_config(tmp_path / "data", "".join(f"{name} = true\n" for name in numbers))
    with pytest.raises(ConfigError) as caught:
        load_settings(data_dir=file)
    assert str(caught.value).count("(from config.toml): must be a") == len(numbers) > 20


@pytest.mark.parametrize("sides", [("ge", "gt"), ("le", "lt")], ids=["lower", "upper"])
def test_every_number_has_bounds(sides: tuple[str, str]) -> None:
    unbounded = [
        name
        for name, field in Settings.model_fields.items()
        if field.annotation in (int, float)
        and not any(hasattr(rule, side) for rule in field.metadata for side in sides)
    ]
    assert unbounded == []


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_a_refused_value_is_never_echoed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIVAULT_PORT", "hunter2-secret")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert "hunter2-secret" not in str(caught.value)


def test_an_unknown_name_in_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"prot .*is not a setting\. Did you mean port\?"):
        load_settings(data_dir=write_config(tmp_path / "data", "prot = 9000"))


@pytest.mark.parametrize("name", ["PORT", "Port"])
def test_a_name_in_capitals_in_the_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} \(from config\.toml\): is not a setting\. Did you mean port\?$"):
        load_settings(data_dir=write_config(tmp_path / "data", f"port = 9000\n{name} = 9001"))


def test_a_file_that_is_no_toml_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.toml"):
        load_settings(data_dir=write_config(tmp_path / "data", "port: 9000"))


def test_an_empty_data_dir_was_not_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINIVAULT_DATA_DIR", "")
    assert load_settings().data_dir == tmp_path / ".minivault"
    assert load_settings(data_dir="").data_dir == tmp_path / ".minivault"


def test_an_empty_head_export_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIVAULT_HEAD_EXPORT", "")
    assert load_settings().head_export is None


def test_an_empty_rate_limit_is_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIVAULT_RATE_LIMIT", "")
    assert load_settings().rate_limit == ""


@pytest.mark.parametrize(
    ("value", "hosts"),
    [
        ("a.example", ["a.example"]),
        ("a.example, b.example,", ["a.example", "b.example"]),
        ('["a.example", "b.example"]', ["a.example", "b.example"]),
        ("", []),
    ],
)
def test_hosts_in_the_environment(monkeypatch: pytest.MonkeyPatch, value: str, hosts: list[str]) -> None:
    monkeypatch.setenv("MINIVAULT_ALLOWED_HOSTS", value)
    assert load_settings().allowed_hosts == hosts


def test_hosts_in_the_file_are_a_list(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "data", 'allowed_hosts = ["a.example"]')
    assert load_settings(data_dir=folder).allowed_hosts == ["a.example"]


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("https://a.example", ["https://a.example"]),
        ("HTTPS://A.example:443, http://localhost:3000", ["https://a.example", "http://localhost:3000"]),
        ("http://[::1]:80,tauri://localhost", ["http://[::1]", "tauri://localhost"]),
        ("", []),
    ],
)
def test_origins_are_kept_as_browsers_send_them(
    monkeypatch: pytest.MonkeyPatch, value: str, origins: list[str]
) -> None:
    monkeypatch.setenv("MINIVAULT_CORS_ORIGINS", value)
    assert load_settings().cors_origins == origins


@pytest.mark.parametrize(
    "value",
    ["*", "null", "hunter2", "https://", "https://a.example/", "https://*.example", "https://u@a.example", "file://x"],
)
def test_what_is_no_exact_origin_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"cors_origins: .*(each origin|without a path)") as caught:
        load_settings(cors_origins=["https://b.example", value])
    assert "hunter2" not in str(caught.value)


def test_a_model_and_its_adapters_have_the_lane_that_is_named_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIVAULT_MODEL_PRECISION", "tiny=int4, big.model-1=f32")
    found = load_settings()
    assert [found.precision_of(name) for name in ("tiny", "tiny:mine", "big.model-1", "other")] == [
        *("int4", "int4", "f32", "int8")
    ]


@pytest.mark.parametrize("value", ["hunter2", "hunter2=int2", "=int4", "Hunter2=int4", "a:b=int4", "a=int4,a=f32"])
def test_a_lane_of_no_model_or_no_lane_of_a_model_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"model_precision: .*(NAME=LANE|twice)") as caught:
        load_settings(model_precision=[value])
    assert "unter2" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("ALLOWED_HOSTS", "[hunter2"), ("PORT", "hunter2")])
def test_a_variable_that_is_wrong_is_named_as_one(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"MINIVAULT_{name}", value)
    with pytest.raises(ConfigError, match=rf"{name.lower()} \(from MINIVAULT_{name}\)") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    assert "config.toml" not in str(caught.value)


def test_the_file_cannot_say_where_it_lies(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "data", 'data_dir = "/elsewhere"')
    with pytest.raises(ConfigError, match=r"data_dir cannot be set in config\.toml"):
        load_settings(data_dir=folder)


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1


def test_a_data_dir_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"data_dir: .*file is no folder"):
        load_settings(data_dir=tmp_path / "file")
