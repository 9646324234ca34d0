"""Kohn: machine learning of molecules and materials in which the physics holds.

    import kohn
    data = kohn.read("train.extxyz")
    print(kohn.check(data))
    potential = kohn.train("train.extxyz", out="runs/first")
    atoms.calc = kohn.Calculator("runs/first/model.safetensors")

Importing Kohn enables 64-bit numbers in JAX, because total energies are sums over many atoms.
Every array has a stated dtype; networks compute in float32 unless float64 is requested.
"""

import importlib
from typing import TYPE_CHECKING

import jax

from kohn.compilation import keep_compiled, warn_of_faulty_jaxlib
from kohn.memory import keep_memory
from kohn.version import __version__ as __version__

warn_of_faulty_jaxlib()
jax.config.update("jax_enable_x64", True)
keep_compiled()
keep_memory()

if TYPE_CHECKING:
    from kohn.audits import audit as audit
    from kohn.checks import check as check
    from kohn.descriptors.archives import describe as describe
    from kohn.descriptors.archives import similarity as similarity
    from kohn.discovery import screen as screen
    from kohn.evaluation import evaluate as evaluate
    from kohn.interfaces.ase_calculator import Calculator as Calculator
    from kohn.potential import Potential as Potential
    from kohn.potential import PropertyModel as PropertyModel
    from kohn.potential import load as load
    from kohn.simulation import relax as relax
    from kohn.stability.documents import hull as hull
    from kohn.structures import read as read
    from kohn.structures import write as write
    from kohn.training import train as train

_PUBLIC = {
    "read": "kohn.structures",
    "write": "kohn.structures",
    "check": "kohn.checks",
    "describe": "kohn.descriptors.archives",
    "similarity": "kohn.descriptors.archives",
    "hull": "kohn.stability.documents",
    "screen": "kohn.discovery",
    "relax": "kohn.simulation",
    "audit": "kohn.audits",
    "train": "kohn.training",
    "load": "kohn.potential",
    "Potential": "kohn.potential",
    "PropertyModel": "kohn.potential",
    "evaluate": "kohn.evaluation",
    "Calculator": "kohn.interfaces.ase_calculator",
}
__all__ = [
    "Calculator",
    "Potential",
    "PropertyModel",
    "__version__",
    "audit",
    "check",
    "describe",
    "evaluate",
    "hull",
    "load",
    "read",
    "relax",
    "screen",
    "similarity",
    "train",
    "write",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str):
    # Import on first use, so that `import kohn` stays quick.
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'kohn' has no attribute {name!r}")
