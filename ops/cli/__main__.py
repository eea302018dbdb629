"""`python -m ops.cli` is `longshore`."""

from ops.cli import main

main()
