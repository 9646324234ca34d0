"""Heads read other things than energies from the features of a network: forces, properties."""
