"""Derivatives of noisy functions, and how noisy they are."""
