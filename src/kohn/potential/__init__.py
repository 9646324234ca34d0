"""Open, save and evaluate potentials, and models of other properties than energies."""

from kohn.potential.compiled_model import CompiledModel as CompiledModel
from kohn.potential.compiled_model import evaluate as evaluate
from kohn.potential.extrapolation import ExtrapolationWarning as ExtrapolationWarning
from kohn.potential.extrapolation import TrainingDistances as TrainingDistances
from kohn.potential.files import as_potential as as_potential
from kohn.potential.files import load as load
from kohn.potential.files import load_potential as load_potential
from kohn.potential.files import save as save
from kohn.potential.files import to_bytes as to_bytes
from kohn.potential.moving import MovingPotential as MovingPotential
from kohn.potential.potential import Potential as Potential
from kohn.potential.properties import PropertyModel as PropertyModel
from kohn.potential.reference import Reference as Reference
from kohn.structures import Prediction as Prediction
