"""What deploys Longshore agrees with the code: Procfile, compose file, image and sample environment, read as text.

No Docker is needed. Whatever one of these files says twice, or says of the code, is compared here.
"""

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from typer.main import get_command

import domain.job_kinds  # noqa: F401  # declares the kinds, which name the queues
from domain.jobs.kind import queues
from ops.cli import app
from ops.dev.children import WORKERS
from ops.settings import Settings

ROOT = Path(__file__).parents[2]
#: What the compose file calls what the Procfile calls otherwise.
SERVICE_OF = {"release": "migrate", "web": "api"}
SECRETS = ("SECRET_KEY", "POSTGRES_PASSWORD")
INTERPOLATED = re.compile(r"\$\{([A-Z_]+)")


def procfile() -> dict[str, list[str]]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    return {name: shlex.split(command) for name, command in (line.split(": ", 1) for line in lines)}


def compose() -> dict[str, Any]:
    file: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return file


def processes() -> dict[str, Any]:
    """The services that run our image."""
    return {name: service for name, service in compose()["services"].items() if "build" in service}


def long_lived() -> dict[str, Any]:
    return {name: service for name, service in processes().items() if name != "migrate"}


def sample() -> dict[str, tuple[bool, str]]:
    """The variables of .env.example: whether one must be set, and the value shown."""
    found = re.findall(r"^(#?)([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    return {name: (not hidden, value) for hidden, name, value in found}


def instructions() -> list[list[str]]:
    """The Dockerfile's instructions, by stage."""
    text = (ROOT / "ops/deploy/Dockerfile").read_text().replace("\\\n", "")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    starts = [number for number, line in enumerate(lines) if line.startswith("FROM ")] + [len(lines)]
    return [lines[start:end] for start, end in pairwise(starts)]


@pytest.mark.parametrize("name", procfile())
def test_each_line_of_the_procfile_is_a_command_of_ours(name: str) -> None:
    program, command, *options = procfile()[name]
    known = get_command(app).commands  # type: ignore[attr-defined]  # the root is a group
    assert program == "longshore"
    known[command].make_context(command, options)  # raises for an option it does not have


def test_compose_runs_what_the_procfile_runs() -> None:
    expected = {SERVICE_OF.get(name, name): command for name, command in procfile().items()}
    assert {name: service["command"] for name, service in processes().items()} == expected


def test_the_worker_processes_are_those_of_longshore_up() -> None:
    workers = {name: command[-1].split(",") for name, command in procfile().items() if command[1] == "worker"}
    assert workers == WORKERS


def test_every_queue_has_a_worker() -> None:
    heard = {queue for command in procfile().values() if command[1] == "worker" for queue in command[-1].split(",")}
    assert heard == {"default", *queues()}


def test_processes_wait_for_the_servers_and_the_migration() -> None:
    prepared = {
        "postgres": {"condition": "service_healthy"},
        "redis": {"condition": "service_healthy"},
        "migrate": {"condition": "service_completed_successfully"},
    }
    assert {name: service["depends_on"] for name, service in long_lived().items()} == dict.fromkeys(
        long_lived(), prepared
    )
    assert processes()["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_every_process_is_probed_for_readiness() -> None:
    for name, service in long_lived().items():
        probe, environment = service["healthcheck"], service["environment"]
        port = environment["PORT"] if name == "api" else environment["METRICS_PORT"]
        assert (probe["interval"], probe["timeout"], probe["retries"]) == ("30s", "10s", 3)
        assert f"http://127.0.0.1:{port}/readyz" in probe["test"][-1]


def test_the_servers_are_probed_too() -> None:
    assert all("healthcheck" in compose()["services"][name] for name in ("postgres", "redis"))


def test_a_process_has_longer_to_stop_than_it_allows_itself() -> None:
    own = next(field.default for field in msgspec.structs.fields(Settings) if field.name == "shutdown_timeout_seconds")
    for service in long_lived().values():
        assert int(service["stop_grace_period"].removesuffix("s")) > own
        assert service["restart"] == "unless-stopped"


def test_the_image_is_named_after_the_version() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert {service["image"] for service in processes().values()} == {f"longshore:${{LONGSHORE_VERSION:-{version[1]}}}"}
    assert sample()["LONGSHORE_VERSION"] == (False, version[1])


def test_data_lives_in_named_volumes() -> None:
    mounts = [mount for service in compose()["services"].values() for mount in service.get("volumes", [])]
    assert {mount.split(":")[0] for mount in mounts} == set(compose()["volumes"])
    assert {"reports:/var/lib/longshore/reports"} == {
        mount for name in ("api", "worker-reports") for mount in processes()[name]["volumes"]
    }


def test_the_mailbox_is_for_development_only() -> None:
    assert compose()["services"]["mailpit"]["profiles"] == ["dev"]


def test_compose_holds_no_secret() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for name in SECRETS:
        values = re.findall(rf"^\s+{name}: (.*)$", text, re.MULTILINE)
        assert values, name
        assert all(value.startswith(f"${{{name}:?") for value in values), name
    assert text.count("${POSTGRES_PASSWORD") == text.count("${POSTGRES_PASSWORD:?")


def test_the_sample_environment_lists_the_settings_and_what_compose_reads() -> None:
    read_by_compose = set(INTERPOLATED.findall((ROOT / "docker-compose.yml").read_text()))
    assert set(sample()) == {name.upper() for name in Settings.__struct_fields__} | read_by_compose


@pytest.mark.parametrize("field", msgspec.structs.fields(Settings), ids=lambda field: field.encode_name)
def test_the_sample_environment_shows_the_defaults(field: msgspec.structs.FieldInfo) -> None:
    must_be_set, value = sample()[field.encode_name]
    assert must_be_set == field.required
    assert (value == "") if field.required else msgspec.convert(value, field.type, strict=False) == field.default


def test_the_image_runs_as_nobody_special() -> None:
    final = instructions()[-1]
    users = [line.split()[1] for line in final if line.startswith("USER ")]
    assert users == ["1001"]
    assert final.index("USER 1001") > max(number for number, line in enumerate(final) if line.startswith("RUN "))


def test_the_image_is_probed_without_curl() -> None:
    probe = next(line for line in instructions()[-1] if line.startswith("HEALTHCHECK "))
    assert "--interval=30s --timeout=3s --start-period=5s --retries=3" in probe
    assert "/livez" in probe
    assert "curl" not in probe


def test_the_image_is_built_from_the_lock() -> None:
    build, final = instructions()
    assert any("--require-hashes --requirement requirements.lock" in line for line in build)
    assert not any(word in line for line in final for word in ("apt-get", "pip ", "gcc", "build-essential"))
    assert [line for line in final if line.startswith("COPY ")] == ["COPY --from=build /venv /venv"]


def test_the_image_is_a_pinned_python_that_the_code_supports() -> None:
    text = (ROOT / "ops/deploy/Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=3\.11-slim-bookworm$", text, re.MULTILINE)
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()


def test_the_image_serves_the_api_unless_told_otherwise() -> None:
    assert instructions()[-1][-1] == 'CMD ["longshore", "web"]'
    assert "PYTHONUNBUFFERED=1" in (ROOT / "ops/deploy/Dockerfile").read_text()


def test_what_the_image_copies_reaches_the_builder() -> None:
    ignore = (ROOT / "ops/deploy/Dockerfile.dockerignore").read_text().split()
    let_in = {word.removeprefix("!") for word in ignore if word.startswith("!")}
    copied = {
        word for line in instructions()[0] if line.startswith("COPY ") for word in line.split()[1:-1] if word != "./"
    }
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)
