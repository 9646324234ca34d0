"""Provide the command line of Kohn: its commands call functions that can also be imported."""

from kohn.cli.app import main as main
