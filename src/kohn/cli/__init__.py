"""The command line: a thin skin over the importable API."""

from kohn.cli.app import main as main
