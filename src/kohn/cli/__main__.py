"""Run the command line: `python -m kohn.cli`."""

from kohn.cli.app import main

main()
