"""The first word of `longshore up`: that everything answers, and where it is."""

import time
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import msgspec

from ops.dev.places import Places
from ops.dev.program import typed
from ops.joint_log import JointLog
from ops.supervisor import SELF, Supervisor

LATE_AFTER_S = 60.0
LOOK_EVERY_S = 0.05
_OPENER = build_opener(ProxyHandler({}))  # no proxy leads to this machine


def greet(
    log: JointLog, supervisor: Supervisor, environ: Mapping[str, str], places: Places, data: Path, started_at: float
) -> None:
    """Says where everything is once every process of the system is ready; who keeps it waiting, after a minute."""
    deadline = time.monotonic() + LATE_AFTER_S
    waiting = _doors(places)
    while waiting or not _is_healthy(places.url):
        waiting = {name: url for name, url in waiting.items() if _answer(url) is None}
        if time.monotonic() > deadline:
            who = ", ".join(waiting) or "the fleet"
            log.line(SELF, f"not ready after {LATE_AFTER_S:g} s: {who}; the lines above say why")
            deadline = float("inf")
        time.sleep(LOOK_EVERY_S)
    supervisor.trust()
    log.page(_banner(environ, places, data, time.monotonic() - started_at))


def _doors(places: Places) -> dict[str, str]:
    """What answers 200 as soon as a process of this name has started."""
    here = "http://127.0.0.1"
    fleet = {name: f"{here}:{port}/readyz" for name, port in places.metrics.items()}
    outside = {"inbox": f"{here}:{places.inbox}/messages", "receiver": f"{here}:{places.receiver}/mode"}
    return {"web": f"{places.url}/readyz", **fleet, **outside}


def _is_healthy(url: str) -> bool:
    """Every role of the fleet has said so in the database."""
    answer = _answer(f"{url}/health")
    return answer is not None and bool(msgspec.json.decode(answer)["status"] == "healthy")


def _answer(url: str) -> bytes | None:
    """The body of a 200."""
    try:
        with _OPENER.open(url, timeout=2.0) as answer:
            body: bytes = answer.read()
            return body if answer.status == 200 else None
    except (OSError, HTTPException):
        return None


def _banner(environ: Mapping[str, str], places: Places, data: Path, took_s: float) -> str:
    url = environ["LONGSHORE_URL"]
    lines = {
        "API": f"{url}/api/v1",
        "docs": f"{url}/api-docs",
        "metrics": f"{url}/metrics (the fleet's: METRICS_TARGETS in dev.env)",
        "mail inbox": environ["INBOX_URL"],
        "receiver": f"{environ['RECEIVER_URL']} (what came: {environ['RECEIVER_CONTROL']}/deliveries)",
        "API key": environ["LONGSHORE_API_KEY"],
        "admin key": environ["LONGSHORE_ADMIN_KEY"],
        "data": f"{data} (these settings: {data / 'dev.env'})",
    }
    rows = [f"  {name:<11} {value}" for name, value in lines.items()]
    rows += [f"  {'moved':<11} {what}" for what in places.moved]
    last = f"See it work: {typed('demo', data)}. Ctrl-C stops everything."
    return "\n".join(["", f"Longshore is ready after {took_s:.1f} s.", "", *rows, "", last, ""])
