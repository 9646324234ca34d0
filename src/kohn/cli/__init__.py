"""The command line: a thin layer over the importable API."""

from kohn.cli.app import main as main
