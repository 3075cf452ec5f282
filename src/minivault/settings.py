"""Settings: flags > ``MINIVAULT_*`` > ``config.toml`` > defaults. The only module that reads the environment.

Knows nothing of what the settings are for; bounds are checked here, once.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from minivault import duration
from minivault.bounds import in_words
from minivault.byte_size import EXAMPLES, byte_size, written
from minivault.errors import ConfigError
from minivault.nearest import nearest

Bytes = Annotated[int, BeforeValidator(byte_size)]
"""A number of bytes, with a unit or without."""

Precision = Literal["int8", "int4", "f32"]
"""A lane of the native engine."""

DEFAULT_DATA_DIR = Path("~/.minivault")
_LANE = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]{0,99})=(int8|int4|f32)")
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[1-9][0-9]{0,4}))?"
)


class Settings(BaseSettings):
    """Every setting of MiniVault, with its default and its bounds."""

    model_config = SettingsConfigDict(env_prefix="MINIVAULT_", extra="forbid", frozen=True)

    data_dir: Path = Field(default=DEFAULT_DATA_DIR, description="Where the vault, logs, models and config.toml live.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 lets the system choose.")
    unsafe_bind: bool = Field(default=False, description="Allow listening beyond this machine without any API key.")
    tls_cert: Path | None = Field(default=None, description="PEM file of the server's certificate; none: plain HTTP.")
    tls_key: Path | None = Field(default=None, description="PEM file of that certificate's private key.")
    allowed_hosts: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="More Host names to answer to (DNS rebinding)."
    )
    cors_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="Origins whose pages may use this server, such as https://app.example.org."
    )
    require_keys: bool = Field(default=False, description="Ask for an API key even before the first one is made.")
    trusted_proxies: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="Proxies whose X-Forwarded-For is believed: addresses or networks."
    )
    url: str = Field(
        default="http://127.0.0.1:8000",
        description="Server that client commands talk to; else that of data_dir, or that at host and port.",
    )
    api_key: SecretStr | None = Field(default=None, description="The key that client commands show.")
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authorities that client commands and remote models trust; none: the usual ones.",
    )

    model: str = Field(default="guide", min_length=1, max_length=200, description="The default model.")
    preload: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="More models to load at the start; all others load on first use."
    )
    memory_budget: Bytes = Field(
        default=0,
        ge=0,
        le=1 << 50,
        description="Bytes that loaded models take together; 0: three quarters of what is free.",
    )
    keep_alive: Annotated[float, BeforeValidator(duration.keep_alive)] = Field(
        default=1800.0,
        ge=-1,
        le=1e9,
        description="Time that an idle model stays in memory unless it was loaded at the start: seconds, or such as 5m "
        "or 1h; -1: for ever.",
    )
    load_timeout: float = Field(default=300.0, gt=0, le=86_400, description="Seconds a request waits for its model.")
    sse_keep_alive: float = Field(
        default=15.0,
        ge=0,
        le=3600,
        description="Seconds between comments on a stream whose model loads; 0: none.",
    )
    offline: bool = Field(default=False, description="Download nothing, whoever asks.")
    import_dir: Path | None = Field(
        default=None, description="The only folder that models may be imported from over HTTP; none: not at all."
    )
    engine: Literal["auto", "native", "transformers"] = Field(
        default="auto", description="What runs models; auto: native, and transformers for families that it lacks."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="Where the transformers engine computes."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="Arithmetic of the transformers engine; auto: the checkpoint's own."
    )
    precision: Precision = Field(default="int8", description="Arithmetic lane of the native engine.")
    model_precision: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="Lanes of single models, NAME=LANE, where not that of all."
    )
    threads: int = Field(default=0, ge=0, le=1024, description="Compute threads; 0 takes one per core.")
    kernels: Literal["auto", "scalar", "avx2", "avxvnni", "avx512", "neon", "neondot", "neoni8mm"] = Field(
        default="auto", description="Kernel set."
    )
    kv_cache_memory: Bytes = Field(
        default=0,
        ge=0,
        le=1 << 50,
        description="Bytes for a model's KV cache; 0 takes at most a quarter of memory_budget.",
    )
    max_batch_tokens: int = Field(default=512, ge=16, le=65536, description="Token budget of one engine step.")
    max_running: int = Field(default=64, ge=1, le=4096, description="Sequences that run together.")
    max_waiting: int = Field(default=256, ge=0, le=100_000, description="Sequences that may queue; then 503.")
    max_waiting_tokens: int = Field(
        default=500_000, ge=1, le=1_000_000_000, description="Prompt tokens that may queue; then 503."
    )
    request_timeout: float = Field(
        default=0.0, ge=0, le=86_400, description="Most seconds that a request may take, waiting included; 0: no end."
    )
    speculation: bool = Field(
        default=True, description="Guess ahead where a text repeats itself; never changes a byte."
    )

    max_tokens: int = Field(default=256, ge=1, le=1_000_000, description="Default of max_tokens.")
    max_body_bytes: Bytes = Field(default=1 << 20, ge=1024, le=1 << 30, description="Largest request body.")
    max_head_bytes: Bytes = Field(
        default=32 << 10, ge=1024, le=1 << 20, description="Largest head of a request, all headers together."
    )
    head_timeout: float = Field(default=10.0, gt=0, le=3600, description="Seconds for the head of a request to come.")
    body_timeout: float = Field(
        default=30.0, gt=0, le=3600, description="Seconds for the body to come, and one more for each MiB."
    )
    write_timeout: float = Field(
        default=30.0, gt=0, le=3600, description="Seconds that a client may leave its answer unread."
    )
    max_connections: int = Field(default=1000, ge=1, le=100_000, description="Connections at a time; then 503.")
    batch_concurrency: int = Field(default=8, ge=1, le=1024, description="Lines of batches that run together.")
    max_file_bytes: Bytes = Field(default=100 << 20, ge=1024, le=1 << 40, description="Largest file of /v1/files.")
    max_stored_bytes: Bytes = Field(
        default=1 << 30, ge=1024, le=1 << 50, description="Bytes of files that are kept; then 413."
    )
    rate_limit: str = Field(default="600/minute", description="Requests per client, such as 5/minute; empty: none.")
    limits_storage: str = Field(
        default="memory", description="Where limits are counted: memory, or redis://HOST:PORT for several servers."
    )
    share_prefix_cache: bool = Field(
        default=False, description="Share computed prefixes between API keys: faster, but times tell what others asked."
    )
    shutdown_timeout: float = Field(default=30.0, ge=0, le=3600, description="Seconds running work may take to end.")

    receipt_deadline: float = Field(
        default=10.0, gt=0, le=600, description="Seconds a record may take to become durable; then 503."
    )
    vault_key_file: Path | None = Field(
        default=None, description="A file with the key of an encrypted vault; none: it is not encrypted."
    )
    mirror: bool = Field(default=True, description="Write logs/log.jsonl; never beside an encrypted vault.")
    mirror_max_bytes: Bytes = Field(
        default=100 << 20, ge=4096, le=1 << 50, description="Size at which the mirror is rotated."
    )
    head_interval: float = Field(
        default=60.0, ge=1, le=86_400, description="Seconds between signed heads while records come in."
    )
    head_export: Path | None = Field(default=None, description="A file to which each signed head is appended.")
    retention: float = Field(
        default=0.0, ge=0, le=36_500, description="Days after which content is erased; 0 keeps it for ever."
    )
    answer_from_record: bool = Field(
        default=False, description="Give a request that repeats a recorded one the recorded answer."
    )
    otel_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]+",
        description="OTLP/HTTP collector for traces, such as http://localhost:4318; none: no traces.",
    )
    otel_content: bool = Field(default=False, description="Put prompts and answers into traces too.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Diagnostic log level; requests are shown on a terminal only where it is set."
    )
    log_format: Literal["auto", "console", "json"] = Field(default="auto", description="Diagnostic log format.")

    @field_validator("*", mode="before")
    @classmethod
    def _boolean_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """``true`` of the file is no number, though Python takes it as 1: as in a variable, it is a word there."""
        is_number = cls.model_fields[str(info.field_name)].annotation in (int, float)
        return str(value) if isinstance(value, bool) and is_number else value

    @field_validator("allowed_hosts", "preload", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """A variable has names with commas between them, or a JSON list; so may each of several flags."""
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return [name.strip() for one in value for name in one.split(",") if name.strip()]
        if not isinstance(value, str):
            return value
        if not value.lstrip().startswith("["):
            return [name.strip() for name in value.split(",") if name.strip()]
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("must be names with commas between them, or a JSON list") from None

    @field_validator("trusted_proxies", "cors_origins", "model_precision", mode="before")
    @classmethod
    def _split_more(cls, value: Any) -> Any:
        return cls._split(value)

    @field_validator("model_precision", mode="after")
    @classmethod
    def _lanes(cls, value: list[str]) -> list[str]:
        named = [_LANE.fullmatch(one) for one in value]
        if not all(named):
            raise ValueError("each must be NAME=LANE, a model's name and int8, int4 or f32, such as tinyllama=int4")
        if len({found["name"] for found in named if found is not None}) < len(value):
            raise ValueError("names a model twice")
        return value

    def precision_of(self, model: str) -> Precision:
        """The lane of a model, by its name; an adapter has its base's."""
        lanes: dict[str, Any] = dict(one.split("=") for one in self.model_precision)
        lane: Precision = lanes.get(model.partition(":")[0], self.precision)
        return lane

    @field_validator("cors_origins", mode="after")
    @classmethod
    def _exact_origins(cls, value: list[str]) -> list[str]:
        return [_origin(one) for one in value]

    @field_validator(
        "head_export", "vault_key_file", "import_dir", "api_key", "tls_cert", "tls_key", "ca_file", mode="before"
    )
    @classmethod
    def _none_if_empty(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator(
        "data_dir", "head_export", "vault_key_file", "import_dir", "tls_cert", "tls_key", "ca_file", mode="after"
    )
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser()

    @property
    def vault_path(self) -> Path:
        return self.data_dir / "vault.db"

    @property
    def log_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def mirror_dir(self) -> Path | None:
        """Where the plain-text mirror goes; ``None``: nowhere. Beside an encrypted vault it would undo that."""
        return self.log_dir if self.mirror and self.vault_key_file is None else None

    @property
    def models_dir(self) -> Path:
        return self.data_dir / "models"

    @property
    def packed_dir(self) -> Path:
        """Packed weights of large models, for a quick start; may be deleted at any time."""
        return self.data_dir / "cache"

    @property
    def batches_path(self) -> Path:
        """Files that clients uploaded, and batches."""
        return self.data_dir / "batches.db"

    @property
    def config_path(self) -> Path:
        return self.data_dir / "config.toml"


def is_bytes(field: FieldInfo) -> bool:
    """Whether a setting is a number of bytes, which may be written with a unit."""
    return any(isinstance(one, BeforeValidator) and one.func is byte_size for one in field.metadata)


def _origin(listed: str) -> str:
    """An origin in the form in which browsers send it: lower case, without the port that its scheme stands for.

    Raises:
        ValueError: it is none, or one that any page could have.
    """
    if listed == "*" or listed.lower() == "null":
        raise ValueError(
            "* and null are not taken: any page that you visit could then read the vault; list each origin"
        )
    found = _ORIGIN.fullmatch(listed.lower())
    if found is None or found["scheme"] in ("file", "data"):
        raise ValueError("each must be SCHEME://HOST or SCHEME://HOST:PORT, without a path, such as https://a.example")
    port = found["port"] or ""
    stands = {"http": "80", "https": "443"}.get(found["scheme"]) == port
    return f"{found['scheme']}://{found['host']}" + (f":{port}" if port and not stands else "")


class _File(TomlConfigSettingsSource):
    """``config.toml``. It cannot say where it lies itself: that would move the vault away from its settings."""

    def __call__(self) -> dict[str, Any]:
        found = super().__call__()
        # Variables know no case, and the library takes the file's names as it takes theirs; those of TOML are exact.
        capital = [name for name in self.toml_data if name not in Settings.model_fields and not name.islower()]
        if capital:
            faults = [f"{name} (from config.toml): {_fault({'loc': (name,)})}" for name in capital]
            raise ConfigError("; ".join(faults))
        if "data_dir" in found:
            raise ConfigError(
                "data_dir cannot be set in config.toml, which lies in it: use --data-dir or MINIVAULT_DATA_DIR."
            )
        return found


class _OfFolder(EnvSettingsSource):
    """The environment, for one who named a data directory: its server is meant, not the one of ``MINIVAULT_URL``."""

    def __call__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__call__().items() if name != "url"}


def _place(loc: tuple[int | str, ...], flags: Mapping[str, Any]) -> str:
    """The setting at fault, and the variable that it comes from if it does."""
    name = ".".join(str(part) for part in loc) or "settings"
    variable = f"MINIVAULT_{loc[0]}".upper() if loc else ""
    given = {known.upper() for known in os.environ}
    if loc and flags.get(str(loc[0])) is not None:
        return name
    return f"{name} (from {variable})" if variable in given else f"{name} (from config.toml)"


def _fault(fault: Mapping[str, Any]) -> str:
    """What is wrong with a setting, in words, with all its bounds; never its value."""
    name = str(fault["loc"][0]) if fault["loc"] else ""
    field = Settings.model_fields.get(name)
    if field is None:
        closest = nearest(name, Settings.model_fields)
        return f"is not a setting. Did you mean {closest[0]}?" if closest else "is not a setting of this version"
    if fault["type"] == "string_pattern_mismatch":
        return f"must be as it is described: {str(field.description).rstrip('.')}"
    bounds = {
        side: getattr(one, side) for one in field.metadata for side in ("ge", "gt", "le", "lt") if hasattr(one, side)
    }
    if is_bytes(field):
        return f"must be a number of bytes from {written(bounds['ge'])} to {written(bounds['le'])}, {EXAMPLES}"
    if name == "keep_alive":
        return f"must be a number from -1 to {bounds['le']:.0f}, of seconds, or a duration {duration.EXAMPLES}"
    return in_words(fault, int if field.annotation is int else float, bounds)


def load_settings(**flags: Any) -> Settings:
    """Read the settings; ``flags`` that are ``None`` count as not given. With ``data_dir``, ``MINIVAULT_URL`` is not
    read: an option beats a variable, and a folder names a server as an address does. ``data_dir`` counts as set
    (``model_fields_set``) only where an option or a variable names it.

    Raises:
        ConfigError: a value is out of bounds or unknown; names the setting, never its value.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    # An empty one is none: it would be the folder that the command happens to run in.
    named = given.get("data_dir") or os.environ.get("MINIVAULT_DATA_DIR")
    data_dir = Path(named or DEFAULT_DATA_DIR).expanduser()
    if data_dir.exists() and not data_dir.is_dir():
        raise ConfigError(f"data_dir: {data_dir} is no folder.")
    folder_named = bool(given.get("data_dir"))
    given["data_dir"] = data_dir

    class _WithFile(Settings):
        model_config = SettingsConfigDict(toml_file=data_dir / "config.toml")

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            variables = _OfFolder(settings_cls) if folder_named else env_settings
            return init_settings, variables, _File(settings_cls)

    try:
        loaded = _WithFile(**given)
    except ValidationError as error:
        faults = [f"{_place(fault['loc'], flags)}: {_fault(fault)}" for fault in error.errors()]
        raise ConfigError("; ".join(faults)) from None
    except SettingsError:
        # Its words quote nothing, but name classes. Only a variable's own form can be at fault.
        raise ConfigError("A variable of the environment, MINIVAULT_..., cannot be read.") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"Cannot read {data_dir / 'config.toml'}: {error}") from None
    if loaded.vault_key_file is not None and loaded.mirror and "mirror" in loaded.model_fields_set:
        raise ConfigError(
            "mirror and vault_key_file exclude each other: logs/log.jsonl would hold in plain what the key hides."
        )
    if (loaded.tls_cert is None) != (loaded.tls_key is None):
        raise ConfigError("tls_cert and tls_key belong together: give both, or neither.")
    values = {name: getattr(loaded, name) for name in Settings.model_fields}
    if "url" not in loaded.model_fields_set:
        values["url"] = _own_url(loaded)
    return Settings.model_construct(loaded.model_fields_set - (set() if named else {"data_dir"}), **values)


def secret_in(variable: str) -> str | None:
    """What a variable of the environment holds that a model's servers are to be shown; ``None``: there is none."""
    return os.environ.get(variable, "").strip() or None


def origins(data_dir: Path, folder_named: bool = False) -> dict[str, str]:
    """Where each setting's value comes from: its variable, ``config.toml`` or ``default``.

    ``folder_named``: the data directory came as a flag, the only one that was given.

    Raises:
        ConfigError: the file cannot be read.
    """
    variables = {name.upper() for name in os.environ} - ({"MINIVAULT_URL"} if folder_named else set())
    try:
        in_file = tomllib.loads((data_dir / "config.toml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        in_file = {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"Cannot read {data_dir / 'config.toml'}: {error}") from None
    found = {}
    for name in Settings.model_fields:
        variable = f"MINIVAULT_{name}".upper()
        found[name] = variable if variable in variables else "config.toml" if name in in_file else "default"
    return found


def unknown_variables() -> dict[str, str | None]:
    """Variables that look like settings and are none (misspelt, or of another version), each with what it may mean."""
    prefix = "MINIVAULT_"
    known = {f"{prefix}{name}".upper() for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.upper().startswith(prefix) and name.upper() not in known)
    meant = {name: next(iter(nearest(name[len(prefix) :], Settings.model_fields)), None) for name in unknown}
    return {name: f"{prefix}{setting.upper()}" if setting else None for name, setting in meant.items()}


def _own_url(settings: Settings) -> str:
    """Where a server with these settings is to be reached from this machine."""
    if settings.port == 0:
        return settings.url
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    scheme = "http" if settings.tls_cert is None else "https"
    host = f"[{host}]" if ":" in host and "[" not in host else host
    return f"{scheme}://{host}:{settings.port}"
