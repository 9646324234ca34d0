"""List all laws in one table: statements, thresholds, and the reasons for the thresholds."""

from collections.abc import Callable
from dataclasses import dataclass

from kohn.audits import derivatives, dynamics, smoothness, symmetries, totals
from kohn.audits.case import Case, Measurement


@dataclass(frozen=True)
class Law:
    """One law of physics, how it is measured, and when a calculator fails it.

    Attributes:
        name: the name of the law, as in the option `--laws`.
        measure: the function that measures the law; its docstring has the equation.
        says: the statement that must hold, in words.
        threshold: the largest violation that passes, in the units of the law; None for a
            diagnostic, which has no verdict.
        ceiling: the largest value to which the threshold may rise if numerical noise exceeds the
            threshold; if noise exceeds the ceiling, the law is not measured.
        reason: the reason for the threshold.
        breaks: the usual causes of a violation.
    """

    name: str
    measure: Callable[[Case], list[Measurement]]
    says: str
    threshold: float | None
    ceiling: float
    reason: str
    breaks: str


ROUNDING = (
    "a thousandth of the meV/atom and meV/Å that relaxations resolve; float64 stays a "
    "thousand times below"
)
TABLE: tuple[Law, ...] = (
    Law(
        "translation",
        symmetries.translation,
        "nothing depends on the position of the whole structure",
        1e-6,
        1e-3,
        ROUNDING,
        "positions used as features; grids in space (egg-box effect)",
    ),
    Law(
        "rotation",
        symmetries.rotation,
        "the energy does not depend on orientation; forces and stress rotate with the structure",
        1e-6,
        1e-3,
        ROUNDING,
        "a model that learnt symmetry from augmented data; wrong products of harmonics",
    ),
    Law(
        "reflection",
        symmetries.reflection,
        "nothing depends on handedness",
        1e-6,
        1e-3,
        ROUNDING,
        "parity dropped in tensor products, triple products as features",
    ),
    Law(
        "permutation",
        symmetries.permutation,
        "results do not depend on the order of the atoms",
        1e-6,
        1e-3,
        ROUNDING,
        "sorted or padded features, forces returned in another order",
    ),
    Law(
        "lattice-shift",
        symmetries.lattice_shift,
        "an atom and its image are the same atom",
        1e-6,
        1e-3,
        ROUNDING,
        "a neighbour search that expects wrapped atoms",
    ),
    Law(
        "unwrapped",
        symmetries.unwrapped,
        "atoms may be given inside or outside of the cell",
        1e-6,
        1e-3,
        ROUNDING,
        "a neighbour search that expects wrapped atoms",
    ),
    Law(
        "supercell",
        symmetries.supercell,
        "twice the crystal has twice the energy, the same forces and stress",
        1e-6,
        1e-3,
        ROUNDING,
        "minimum images in small cells, averages over atoms, a constant per structure; with "
        "electrons, too few k-points",
    ),
    Law(
        "cell-choice",
        symmetries.cell_choice,
        "the same lattice in other vectors, skewed or left-handed, is the same crystal",
        1e-6,
        1e-3,
        ROUNDING,
        "minimum images in skewed cells, det cell instead of |det cell|",
    ),
    Law(
        "fragments",
        totals.fragments,
        "fragments 50 Å apart do not interact",
        1e-6,
        1e-3,
        ROUNDING,
        "global pooling, a constant per structure; also, rightly, electrostatics without cutoff",
    ),
    Law(
        "forces",
        derivatives.forces,
        "forces are minus the derivative of the energy",
        1e-5,
        1e-2,
        "a hundredth of the meV/Å that relaxations resolve; differences of float64 energies "
        "reach 1e-8",
        "direct-force heads, an energy that is not the free energy, unconverged electrons",
    ),
    Law(
        "stress",
        derivatives.stress,
        "stress is the derivative of the energy by strain, over the volume",
        1e-6,
        1e-3,
        "0.16 MPa; lattice constants change by less than a share of 1e-5 in anything stiffer "
        "than 16 MPa",
        "signs and orders of components, missing images, a fixed basis set",
    ),
    Law(
        "jacobian",
        derivatives.jacobian,
        "forces have a symmetric Jacobian: no energy, no symmetry",
        1e-4,
        1e-1,
        "1e-5 of a soft bond's 10 eV/Å²",
        "direct-force heads",
    ),
    Law(
        "loops",
        derivatives.loops,
        "no work is done around a closed loop",
        1e-6,
        1e-2,
        "a share of the work along the path: smooth forces of an energy give 1e-9",
        "direct-force heads",
    ),
    Law(
        "smoothness",
        smoothness.smoothness,
        "no jumps in E, F and dF/dr at any distance",
        1e-4,
        1e-1,
        "1e-5 eV in E, 1e-4 eV/Å in F, 1e-2 eV/Å² in dF/dr (0.1 % of a soft bond's): forces of "
        "this size change no relaxation",
        "truncated potentials, cutoff functions without two smooth derivatives, limits on the "
        "number of neighbours",
    ),
    Law(
        "net-force",
        totals.net_force,
        "forces sum to zero",
        1e-6,
        1e-3,
        ROUNDING,
        "direct-force heads; forces on grids",
    ),
    Law(
        "net-torque",
        totals.net_torque,
        "torques of a molecule sum to zero",
        1e-6,
        1e-3,
        ROUNDING,
        "direct-force heads that are not equivariant",
    ),
    Law(
        "determinism",
        totals.determinism,
        "the same input gives the same output, whatever came before",
        1e-6,
        1e-3,
        ROUNDING,
        "state kept between calls, dropout left on, races on GPUs, self-consistency that starts "
        "from the last result",
    ),
    Law(
        "mutation",
        totals.mutation,
        "the calculator does not change the atoms it is given",
        1e-12,
        1e-12,
        "nothing may change; a round trip through fractional coordinates is forgiven",
        "wrapping or sorting in place",
    ),
    Law(
        "energy-drift",
        dynamics.drift,
        "dynamics at constant energy conserve the energy",
        0.1,
        10.0,
        "0.4 K per ps in a crystal, 3 k_B T per atom",
        "direct-force heads, jumps at the cutoff, float32 sums of large energies",
    ),
    Law(
        "noise",
        derivatives.noise,
        "energies do not scatter between nearby geometries",
        None,
        0.0,
        "a diagnostic: thresholds rise to twenty times its value, up to the ceiling of each law",
        "float32 (1e-6 and more), self-consistency that stops early",
    ),
    Law(
        "short-range",
        smoothness.short_range,
        "two atoms that are too near repel each other",
        None,
        0.0,
        "a diagnostic: what is right depends on the use",
        "no data at short distances and no ZBL: negative is a hole",
    ),
    Law(
        "dissociation",
        smoothness.dissociation,
        "two atoms far apart do not interact",
        None,
        0.0,
        "a diagnostic: what is right depends on the interaction",
        "a long cutoff, or none",
    ),
)
NAMES = tuple(law.name for law in TABLE)
