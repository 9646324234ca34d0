"""Describe the surroundings of atoms by functions without learned parameters.

Descriptors are available as functions and as scikit-learn transformers of structures (`Soap`,
`CoulombMatrix`, `StructureFactor`). Kernels compare structures by their descriptors.
"""

import importlib
from typing import TYPE_CHECKING

from kohn.descriptors.cutoffs import polynomial_cutoff as polynomial_cutoff
from kohn.descriptors.radial import bessel_basis as bessel_basis

if TYPE_CHECKING:
    from kohn.descriptors.coulomb_matrix import coulomb_spectrum as coulomb_spectrum
    from kohn.descriptors.coulomb_matrix import sorted_coulomb_matrix as sorted_coulomb_matrix
    from kohn.descriptors.kernels import KernelConfig as KernelConfig
    from kohn.descriptors.kernels import environment_kernel as environment_kernel
    from kohn.descriptors.kernels import kernel_matrix as kernel_matrix
    from kohn.descriptors.soap import SoapConfig as SoapConfig
    from kohn.descriptors.structure_factor import StructureFactorConfig as StructureFactorConfig
    from kohn.descriptors.transformers import CoulombMatrix as CoulombMatrix
    from kohn.descriptors.transformers import Soap as Soap
    from kohn.descriptors.transformers import StructureFactor as StructureFactor

# No function here may have the name of its module (coulomb_matrix, soap, structure_factor):
# importing the module would replace the function.
_PUBLIC = {
    "coulomb_spectrum": "coulomb_matrix",
    "sorted_coulomb_matrix": "coulomb_matrix",
    "KernelConfig": "kernels",
    "environment_kernel": "kernels",
    "kernel_matrix": "kernels",
    "SoapConfig": "soap",
    "StructureFactorConfig": "structure_factor",
    "CoulombMatrix": "transformers",
    "Soap": "transformers",
    "StructureFactor": "transformers",
}
__all__ = [
    "CoulombMatrix",
    "KernelConfig",
    "Soap",
    "SoapConfig",
    "StructureFactor",
    "StructureFactorConfig",
    "bessel_basis",
    "coulomb_spectrum",
    "environment_kernel",
    "kernel_matrix",
    "polynomial_cutoff",
    "sorted_coulomb_matrix",
]


def __getattr__(name: str):
    # Imported on first use: models need only cutoffs and radial bases; scikit-learn takes a second.
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
