"""A longer search: `python -m tests.integration.simulation --seconds 60 --seed 1`, on a PostgreSQL of its own.

One world per seed until the time is up. Prints what lived; ends with the seed and the life that broke the law, if any.
"""

import random
import time
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory

from ops.migrate import upgrade
from ops.stack import Stack
from tests.integration.simulation.driver import drive
from tests.integration.simulation.world import Engines, engines_of


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--jobs", type=int, default=1_000, help="in each world")
    wanted = parser.parse_args()
    with TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        upgrade(stack.database_url)
        with engines_of(stack.database_url) as engines:
            _search(engines, wanted.seed, wanted.jobs, wanted.seconds)


def _search(engines: Engines, first_seed: int, jobs: int, seconds: float) -> None:
    started, seed, lives, acts = time.monotonic(), first_seed, 0, 0
    while (took_s := time.monotonic() - started) < seconds:
        try:
            lived, acted = drive(engines, random.Random(seed), jobs=jobs, rounds=24)
        except Exception as error:
            raise SystemExit(f"seed {seed}: {error}") from error
        lives, acts, seed = lives + lived, acts + acted, seed + 1
    print(f"{lives:,} lives, {lives / took_s:,.0f} a second, acted on {acts / took_s:,.0f} times; next seed {seed}")


if __name__ == "__main__":
    main()
