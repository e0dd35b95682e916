"""`python -m hubq` is `hubq`."""

from hubq.cli import main

main()
