"""The version of Kohn, as stated in files and on pages."""

__version__ = "0.1.0"
