"""Estimate the derivatives of noisy functions, and the noise itself."""
