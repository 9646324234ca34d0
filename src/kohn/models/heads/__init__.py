"""What is read of the features of a network beside energies: forces by themselves, properties."""
