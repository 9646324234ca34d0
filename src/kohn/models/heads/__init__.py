"""Heads: layers that read forces and properties, not energies, from the features of a network."""
