"""`python -m blocknerf` is `blocknerf`."""

from blocknerf.cli.main import main

main()
