"""What a person sees of `longshore demo`: its steps, what came of them, and the lines that do the same by hand."""

from pathlib import Path

import msgspec
from rich.console import Console

from ops.dev.program import program


class Screen:
    """Prints to the terminal; nothing that it shows is read as markup."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)

    def step(self, title: str) -> None:
        self.console.print(f"\n{title}", style="bold cyan", markup=False)

    def say(self, text: str) -> None:
        self.console.print("\n".join(f"  {line}" for line in text.splitlines()), markup=False)

    def end(self, text: str) -> None:
        self.console.print(f"\n[bold green]Done:[/] {text}")

    def typed(self, line: str) -> None:
        self.console.print(f"  $ {line}", style="dim", markup=False)

    def settings(self, dev_env: Path) -> None:
        self.typed(f"set -a; . {dev_env}; set +a    # for the lines below")

    def longshore(self, *words: str) -> None:
        self.typed(" ".join([program(), *(_quoted(word) for word in words)]))

    def curl(self, method: str, path: str, body: object = None, *more: str, key: str = "LONGSHORE_API_KEY") -> None:
        words = ["curl"] if method == "GET" else ["curl", "-X", method]
        words += [f"$LONGSHORE_URL{path}", "-H", f'"X-API-Key: ${key}"', *(_quoted(word) for word in more)]
        if body is not None:
            words += ["-H", '"Content-Type: application/json"', "-d", f"'{msgspec.json.encode(body).decode()}'"]
        self.typed(" ".join(words))


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word
