"""`python -m tokenloom` is the command line."""

from tokenloom.runtime.cli import main

main()
