"""`python -m mirrord` is `mirrord`."""

from mirrord.cli import main

main()
