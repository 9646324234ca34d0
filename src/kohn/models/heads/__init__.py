"""Heads read forces and properties, instead of energies, from the features of a network."""
