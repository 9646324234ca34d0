"""Derivatives of noisy functions, and estimates of their noise."""
