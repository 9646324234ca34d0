"""Mathematics of rotations and reflections: harmonics, Wigner matrices, products of tensors."""

from kohn.o3.clebsch_gordan import clebsch_gordan as clebsch_gordan
from kohn.o3.harmonics import degree_slice as degree_slice
from kohn.o3.harmonics import solid_harmonics as solid_harmonics
from kohn.o3.harmonics import spherical_harmonics as spherical_harmonics
from kohn.o3.harmonics import to_complex as to_complex
from kohn.o3.products import evaluate_chain as evaluate_chain
from kohn.o3.products import product as product
from kohn.o3.products import symmetric_product as symmetric_product
from kohn.o3.wigner import to_e3nn as to_e3nn
from kohn.o3.wigner import wigner_d as wigner_d
