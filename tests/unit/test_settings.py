"""Settings: every bad variable named at once, no secret told, the environment before the development file."""

import base64
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
import typer
from sqlalchemy.engine import make_url

from ops.cli.options import read_address
from ops.settings import InvalidSettings, Settings, load_settings, read_env_file

KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
JWT_KEY = base64.b64encode(b"a key that signs access tokens..").decode()
GOOD = {
    "DATABASE_URL": "postgresql://longshore:pg-hidden@127.0.0.1:5432/longshore",
    "REDIS_URL": "redis://:redis-hidden@127.0.0.1:6379/0",
    "SECRET_KEY": KEY,
    "SMTP_URL": "smtps://mail:smtp-hidden@mail.example",
    "JWT_KEYS": JWT_KEY,
}
SECRETS = ("pg-hidden", "redis-hidden", "smtp-hidden", KEY, JWT_KEY, str(base64.b64decode(KEY)))
NOWHERE = Path("no-such-folder/dev.env")


def settings(**changes: str) -> Settings:
    return load_settings({**GOOD, **changes}, NOWHERE)


def problems(**changes: str) -> list[str]:
    with pytest.raises(InvalidSettings) as refused:
        settings(**changes)
    assert str(refused.value) == "; ".join(refused.value.problems)
    return refused.value.problems


def named(problems: list[str]) -> set[str]:
    return {problem.partition(":")[0] for problem in problems}


def test_the_environment_is_read_and_converted() -> None:
    found = settings(PORT="9000", WEBHOOK_ALLOW_HTTP="true", READY_REQUIRES="postgresql, redis", UNRELATED="x")
    assert (found.port, found.webhook_allow_http, found.database_url) == (9000, True, GOOD["DATABASE_URL"])
    assert found.required_for_readiness == {"postgresql", "redis"}
    assert found.secret_bytes == base64.b64decode(KEY)


def test_a_value_may_stand_in_a_file_as_secrets_of_containers_do(tmp_path: Path) -> None:
    secret = tmp_path / "secret_key"
    secret.write_text(f"{KEY}\n")
    found = settings(SECRET_KEY="", SECRET_KEY_FILE=str(secret))
    assert found.secret_bytes == base64.b64decode(KEY)


def test_a_value_in_the_environment_or_in_a_file_wins_over_the_development_file(tmp_path: Path) -> None:
    (tmp_path / "dev.env").write_text("DATABASE_URL=postgresql://127.0.0.1/development\n")
    (tmp_path / "url").write_text(GOOD["DATABASE_URL"])
    found = load_settings(
        {**GOOD, "DATABASE_URL": "", "DATABASE_URL_FILE": str(tmp_path / "url")}, tmp_path / "dev.env"
    )
    assert found.database_url == GOOD["DATABASE_URL"]


def test_a_file_that_cannot_be_read_and_a_value_given_twice_are_named_beside_all_else(tmp_path: Path) -> None:
    latin = tmp_path / "latin"
    latin.write_bytes(b"\xff\xfe")
    found = problems(
        SECRET_KEY="",
        SECRET_KEY_FILE=str(tmp_path / "absent"),
        SMTP_URL="",
        SMTP_URL_FILE=str(latin),
        PORT="x",
        JWT_KEYS_FILE=str(latin),
    )
    assert named(found) == {"SECRET_KEY_FILE", "SECRET_KEY", "SMTP_URL_FILE", "PORT", "JWT_KEYS"}
    assert "given twice" in next(problem for problem in found if problem.startswith("JWT_KEYS"))


def test_lifetimes_and_keys_of_tokens_are_read_in_their_order() -> None:
    found = settings(JWT_KEYS=f"{JWT_KEY}, {KEY}", JWT_EXPIRES_IN="1h", JWT_REFRESH_EXPIRES_IN="30d")
    assert found.jwt_seeds == [base64.b64decode(JWT_KEY), base64.b64decode(KEY)]
    assert (found.access_lifetime, found.refresh_lifetime) == (timedelta(hours=1), timedelta(days=30))
    assert settings(JWT_KEYS="").jwt_seeds == []
    assert settings().access_lifetime == timedelta(minutes=15)
    assert named(problems(JWT_EXPIRES_IN="7d")) == {"JWT_REFRESH_EXPIRES_IN"}


def test_production_admits_no_page_of_just_anybody() -> None:
    assert settings(CORS_ORIGIN="*").allowed_origins == ["*"]
    origins = "https://shop.example, http://[::1]:3000"
    assert settings(CORS_ORIGIN=origins, ENVIRONMENT="production").allowed_origins == origins.split(", ")
    assert named(problems(CORS_ORIGIN="https://shop.example,*", ENVIRONMENT="production")) == {"CORS_ORIGIN"}


def test_every_missing_variable_is_named() -> None:
    with pytest.raises(InvalidSettings) as refused:
        load_settings({}, NOWHERE)
    assert named(refused.value.problems) == {"DATABASE_URL", "REDIS_URL", "SECRET_KEY"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "mysql://127.0.0.1/longshore"),
        ("DATABASE_URL", "postgresql://[::1"),
        ("REDIS_URL", "127.0.0.1:6379"),
        ("SMTP_URL", "mail.example:25"),
        ("DATABASE_URL", "postgresql:/run/longshore"),
        ("REPORTS_URL", "/var/reports"),
        ("REPORTS_URL", "file://reports"),
        ("REPORTS_URL", "file://reports/daily"),
        ("REPORTS_URL", "s3:///prefix"),
        ("MAIL_FROM", "nobody at all"),
        ("MAIL_FROM", "Shop, Inc <orders@shop.example>"),
        ("MAIL_FROM", "orders@shop.example, other@shop.example"),
        ("MAIL_FROM", "Shop <orders@shop.example>\r\nBcc: all@shop.example"),
        ("ENVIRONMENT", "staging"),
        ("HOST", "localhost"),
        ("PORT", "0"),
        ("RATE_LIMIT_MAX_REQUESTS", "0"),
        ("RATE_LIMIT_WINDOW_MS", "999"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("CORS_ORIGIN", "shop.example"),
        ("CORS_ORIGIN", "https://shop.example/page"),
        ("JOB_RETENTION_DAYS", "0"),
        ("JOB_RETENTION_DAYS", "a month"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("METRICS_PORT", "-1"),
        ("LOG_LEVEL", "loud"),
        ("SHUTDOWN_TIMEOUT_SECONDS", "0"),
        ("WORKER_THREADS", "many"),
        ("MAX_BODY_BYTES", "1e6x"),
        ("READY_REQUIRES", "mysql"),
        ("SECRET_KEY", "short"),
        ("SECRET_KEY", base64.b64encode(b"31 bytes are one byte too few..").decode()),
        ("JWT_KEYS", "short"),
        ("JWT_KEYS", f"{KEY},short"),
        ("JWT_EXPIRES_IN", "15 minutes"),
        ("JWT_EXPIRES_IN", "0m"),
        ("JWT_EXPIRES_IN", "900"),
        ("JWT_REFRESH_EXPIRES_IN", "-7d"),
        ("WEBHOOK_ALLOW_NETWORKS", "10.0.0.0/33"),
        ("WEBHOOK_ALLOW_HTTP", "perhaps"),
    ],
)
def test_a_bad_variable_is_named(variable: str, value: str) -> None:
    assert named(problems(**{variable: value})) == {variable}


def test_an_option_that_is_an_address_is_none_by_the_same_rule() -> None:
    assert read_address("::1") == "::1"
    with pytest.raises(typer.BadParameter, match="must be an IP address"):
        read_address("localhost")


def test_all_bad_variables_are_named_at_once_not_one_per_attempt() -> None:
    bad = {"PORT": "http", "LOG_LEVEL": "loud", "SECRET_KEY": "short", "SMTP_URL": "nonsense"}
    assert named(problems(**bad)) == set(bad)


HIDDEN = ["hun@ter", "hun/ter", "hun?ter", "hun#ter", "7/hunter", "7?hun@ter", "7#hunter", "[hunter"]


@pytest.mark.parametrize("password", HIDDEN)
def test_a_password_that_its_reader_would_take_for_something_else_is_refused_and_not_shown(password: str) -> None:
    urls = {
        "DATABASE_URL": f"postgresql://longshore:{password}@127.0.0.1:5432/longshore",
        "REDIS_URL": f"redis://:{password}@127.0.0.1:6379/0",
        "SMTP_URL": f"smtp+starttls://longshore:{password}@mail.example:587",
    }
    if password == "hun@ter":  # the other readers look for the last @
        urls = {"DATABASE_URL": urls["DATABASE_URL"]}
    told = problems(**urls)
    assert [problem.partition(" be read")[0] for problem in told] == [f"{variable}: cannot" for variable in urls]
    assert [piece for piece in ("hun", "ter", "7") if piece in str(told)] == []


@pytest.mark.parametrize(
    "url",
    [
        "postgres://127.0.0.1/longshore",
        "postgresql://longshore:hun%40t%2Fer@[::1]:5432/longshore?sslmode=verify-full",
        "postgresql:///longshore?host=/run/postgresql",
        "postgresql://longshore@%2Frun%2Fpostgresql/longshore",
        "postgresql://longshore@server:x@server.example/longshore",
        "postgresql://longshore:x@one.example,two.example:5432/longshore?target_session_attrs=read-write",
        "postgresql://longshore:x@/longshore?host=one.example:5432&host=two.example:5433",
    ],
)
def test_every_form_of_address_that_the_driver_knows_is_good(url: str) -> None:
    assert make_url(settings(DATABASE_URL=url).database_url).database == "longshore"


@pytest.mark.parametrize(
    "given",
    [
        {"REDIS_URL": "unix:///run/valkey.sock?db=1"},
        {"REDIS_URL": "unix://longshore@/run/valkey.sock?password=x"},
        {"REDIS_URL": "rediss://cache.example"},
        {"SMTP_URL": "smtps://me@mail.example:x@mail.example"},
        {"SMTP_URL": "smtp://"},
        {"HOST": "0.0.0.0"},  # noqa: S104  # told, not bound
        {"HOST": "::1"},
        {"REPORTS_URL": "file:///srv/@home/reports"},
        {"MAIL_FROM": "Der Müller <orders@shop.example>"},
        {"MAIL_FROM": '"Shop, Inc" <orders@shop.example>'},
        {"MAIL_FROM": "orders@localhost"},
    ],
)
def test_what_is_unusual_is_not_wrong(given: dict[str, str]) -> None:
    ((name, value),) = given.items()
    assert getattr(settings(**given), name.lower()) == value


def test_no_problem_tells_a_secret() -> None:
    hidden = "hunter2-hunter2"
    told = problems(
        DATABASE_URL=f"mysql://a:{hidden}@h/d", REDIS_URL=hidden, SECRET_KEY=hidden, SMTP_URL=hidden, JWT_KEYS=hidden
    )
    assert hidden not in str(told)


def test_no_traceback_tells_a_secret() -> None:
    hidden = base64.b64encode(b"hunter2").decode()
    with pytest.raises(InvalidSettings) as refused:
        settings(SECRET_KEY=hidden)
    assert hidden not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("shown", [repr, str, "{}".format, lambda found: f"{found!r:>10}"])
def test_settings_can_be_printed_without_telling_a_secret(shown: object) -> None:
    assert callable(shown)
    text = shown(settings())
    assert [secret for secret in SECRETS if secret in text] == []
    assert "127.0.0.1" in text
    assert "port=8000" in text


def test_the_environment_wins_over_the_development_file(tmp_path: Path) -> None:
    file = tmp_path / "dev.env"
    file.write_text(
        f"# written by `longshore up`\n\nDATABASE_URL=postgresql://dev@127.0.0.1/dev\nREDIS_URL={GOOD['REDIS_URL']}\n"
        f"SECRET_KEY={KEY}\nPORT=8001\n"
    )
    found = load_settings({"PORT": "8002"}, file)
    assert (found.database_url, found.port) == ("postgresql://dev@127.0.0.1/dev", 8002)


def test_an_empty_variable_counts_as_not_set() -> None:
    assert settings(PORT="").port == 8000
    assert named(problems(SECRET_KEY="")) == {"SECRET_KEY"}


def test_a_value_may_contain_equal_signs(tmp_path: Path) -> None:
    file = tmp_path / "dev.env"
    file.write_text(f"SECRET_KEY={KEY}==\nnonsense\n")
    assert read_env_file(file) == {"SECRET_KEY": f"{KEY}=="}
    assert read_env_file(tmp_path / "absent") == {}
