"""Functions of the surroundings of an atom that hold no learned parameters."""

from kohn.descriptors.cutoffs import polynomial_cutoff as polynomial_cutoff
from kohn.descriptors.radial import bessel_basis as bessel_basis
