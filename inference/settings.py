"""Settings of the server, from the environment."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from inference.errors import SettingsInvalid

PathOrText = TypeVar("PathOrText", Path, str)


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _address(value: str) -> str:
    """Take a path, file://PATH or s3://BUCKET/…: anything else would be looked for as a folder, and never be found."""
    scheme, separator, rest = value.partition("://")
    if separator and (scheme not in ("file", "s3") or not rest.strip("/")):
        raise ValueError("expected a path, or s3://BUCKET/…")
    return value


def _named(value: PathOrText) -> PathOrText:
    """Refuse bytes that are not UTF-8: no log line could name them."""
    str(value).encode()
    return value


Address = Annotated[str, AfterValidator(_named), AfterValidator(_address)]
File = Annotated[Path, AfterValidator(_named)]


class Settings(BaseSettings):
    """What the environment says; the name of a variable is the field's in capitals."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    api_host: str = "127.0.0.1"
    """The image sets 0.0.0.0; started by hand, the server is nobody else's."""
    api_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """0 takes a free port and logs it."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """When set, /metrics is answered there and not at API_PORT, so that a network policy can part the two."""
    drain_seconds: Annotated[float, Field(ge=0, le=300)] = 0.0
    """After SIGTERM, time for those who send requests to learn of the end while all goes on; /healthz is 503."""
    log_level: Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)] = "info"
    model_uri: Address = "./lake/registry"
    """A bundle folder, or a registry (a folder or s3://bucket/prefix/registry) whose champion is followed."""
    model_poll_seconds: Annotated[float, Field(ge=0.01)] = 30.0
    model_cache: File = Path("/tmp/fashion-bundles")
    """Where bundles are copied to; needs room for three."""
    rules_uri: Address | None = None
    """A rules file, here or in S3; without it rules.json in the registry's folder, or beside the bundle's, if any."""
    api_tokens_file: File | None = None
    """Lines of name:sha256; when set, everything but health, documentation and the page itself needs a token."""
    challenger_uri: Address | None = None
    """As MODEL_URI: a second model, loaded when memory allows."""
    challenger_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the customers whom the challenger answers, always the same ones."""
    shadow_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the champion's answers that the challenger gives too, for comparison in /metrics only."""
    page: bool = True
    """Whether `/` and the routes behind it are there; they show what customers bought."""
    otel_exporter_otlp_endpoint: str | None = None
    """Where OpenTelemetry's spans go, with the extra `tracing`; the SDK reads its other variables itself."""
    access_log_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of answered requests that get a log line; errors always do."""


def read_settings() -> Settings:
    """Build the settings from the environment; SettingsInvalid names every variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        faults = [
            f"{str(e['loc'][0]).upper()}={e['input']!r}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        ]
        raise SettingsInvalid("; ".join(faults)) from error
