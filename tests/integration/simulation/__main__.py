"""A longer search: `python -m tests.integration.simulation --seconds 60 --seed 1`, on a PostgreSQL of its own.

One world per seed until the time is up. Prints what lived; ends with the seed and the life that broke the law, if any.
"""

import random
import time
from argparse import ArgumentParser
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Engine

from domain.database import connect
from ops.migrate import upgrade
from ops.stack import Stack
from tests.integration.simulation.driver import drive


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--jobs", type=int, default=1_000, help="in each world")
    wanted = parser.parse_args()
    with TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        upgrade(stack.database_url)
        engine = connect(stack.database_url, process="simulation", pool_size=8, hot=True)
        _search(engine, wanted.seed, wanted.jobs, wanted.seconds)
        engine.dispose()


def _search(engine: Engine, first_seed: int, jobs: int, seconds: float) -> None:
    started, lives, acts = time.monotonic(), 0, 0
    for seed in count(first_seed):
        try:
            lived, acted = drive(engine, random.Random(seed), jobs=jobs, rounds=24)
        except Exception as error:
            raise SystemExit(f"seed {seed}: {error}") from error
        lives, acts, took_s = lives + lived, acts + acted, time.monotonic() - started
        if took_s > seconds:
            break
    print(
        f"{lives:,} lives, {lives / took_s:,.0f} a second; acted on {acts / took_s:,.0f} times a second; to seed {seed}"
    )


if __name__ == "__main__":
    main()
