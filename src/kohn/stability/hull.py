"""Compute the lower convex hull of formation energies, distances to it, and decompositions.

With x_i the fractions of the elements in entry i and e_i its formation energy per atom, the hull at
a composition x is the lowest energy of any mixture of entries:

    h(x) = min Σ_i λ_i e_i    with  Σ_i λ_i x_i = x,  λ ≥ 0                       (linear program)
         = max_f μ_f · x      over the facets f,  μ_f = A_f⁻¹ e_f                 (planes)

where the rows of A_f are the compositions of the D entries of facet f. Facets are computed once;
then one matrix product serves all candidates. The facet with the highest plane contains x, and the
shares of its entries are λ = x A_f⁻¹. With more than `MOST_ELEMENTS` elements, facets are too many:
a linear program is solved for each candidate, over the entries made of its elements alone (exact).

    distance = e − h(x)          stable: distance ≤ tolerance

Source: Barber, Dobkin, Huhdanpaa, ACM Trans. Math. Softw. 22, 469 (1996), for Qhull; HiGHS for
linear programs.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.optimize import linprog

from kohn.errors import InputError
from kohn.stability.facets import highest, lower_facets
from kohn.typing import Float, Int

Method = Literal["facets", "program"]
MOST_ELEMENTS = 6
"""Up to this number of elements, the facets of a hull are computed."""
TOLERANCE = 1e-8
"""eV/atom: a phase within this distance of the hull is on it."""
EXACT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
"""The smallest tolerances of HiGHS; with its defaults, errors of h can reach 1e-7 eV/atom."""


@dataclass(frozen=True)
class Decomposition:
    """The mixtures of hull entries into which M compositions x decompose.

    Attributes:
        heights: energies h(x) of the mixtures, eV/atom, [M].
        entries: indices of the hull entries of each mixture, [M, D].
        shares: fractions λ of the atoms that are in each entry, [M, D]; 0 for unused entries.
    """

    heights: Float[np.ndarray, " M"]
    entries: Int[np.ndarray, "M D"]
    shares: Float[np.ndarray, "M D"]


@dataclass(frozen=True, eq=False)
class Facets:
    """The F facets of a lower hull of D elements; A_f has the compositions of facet f as rows.

    Attributes:
        entries: indices of the D entries of each facet, [F, D].
        planes: chemical potentials μ_f of the elements on each facet, eV, [F, D].
        inverses: A_f⁻¹ of each facet, [F, D, D].
    """

    entries: Int[np.ndarray, "F D"]
    planes: Float[np.ndarray, "F D"]
    inverses: Float[np.ndarray, "F D D"]


def lowest(fractions: Float[np.ndarray, "N D"], energies: Float[np.ndarray, " N"]) -> np.ndarray:
    """Return the index of the lowest entry of each composition; the first if entries are equal."""
    key = np.round(fractions, 9)
    order = np.lexsort((np.arange(len(key)), energies, *key.T))
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(key[order], axis=0) != 0).any(axis=1)
    return np.sort(order[first])


@dataclass(frozen=True, eq=False)
class LowerHull:
    """The lower hull h(x) of the formation energies of N entries of one chemical system.

    Attributes:
        fractions: compositions x of the entries, [N, D]; each row adds to 1.
        energies: formation energies e of the entries, eV/atom, [N]; 0 for elemental references.
    """

    fractions: Float[np.ndarray, "N D"]
    energies: Float[np.ndarray, " N"]

    @property
    def elements(self) -> int:
        """D, the number of elements."""
        return self.fractions.shape[1]

    @cached_property
    def candidates(self) -> Int[np.ndarray, " n"]:
        """Indices of the entries that can be on the hull: the lowest entry of each composition, if
        its energy is negative or it is an element."""
        best = lowest(self.fractions, self.energies)
        elemental = self.fractions[best].max(axis=1) > 1 - 1e-9
        return best[(self.energies[best] < 0) | elemental]

    @cached_property
    def facets(self) -> Facets:
        """The facets of the hull, computed by Qhull; see `kohn.stability.facets`."""
        chosen = self.candidates
        entries, planes, inverses = lower_facets(self.fractions[chosen], self.energies[chosen])
        return Facets(chosen[entries], planes, inverses)

    @property
    def method(self) -> Method:
        """The default method: "facets", or with too many elements "program" (linear programs)."""
        return "program" if self.elements > MOST_ELEMENTS else "facets"

    def height(
        self, x: Float[np.ndarray, "M D"], method: Method | None = None
    ) -> Float[np.ndarray, " M"]:
        """Return h(x), eV/atom, of compositions x, computed by `method` or else the default one."""
        if (method or self.method) == "program":
            return np.array([self.program(row)[0] for row in x])
        return highest(self.facets.planes, x)[0]

    def distance(
        self,
        x: Float[np.ndarray, "M D"],
        e: Float[np.ndarray, " M"],
        method: Method | None = None,
    ) -> Float[np.ndarray, " M"]:
        """Return the distances e − h(x) to the hull, eV/atom; negative below the hull."""
        return e - self.height(x, method)

    def decompose(self, x: Float[np.ndarray, "M D"], method: Method | None = None) -> Decomposition:
        """Return the mixture of lowest energy for each composition x; if several mixtures have the
        same energy, return one of them."""
        if (method or self.method) == "program":
            return self._decompose_by_programs(x)
        facets = self.facets
        heights, best = highest(facets.planes, x)
        shares = np.einsum("md,mdk->mk", x, facets.inverses[best])
        for i in np.flatnonzero(shares.min(axis=1) < -1e-9):  # coplanar facets tie
            tied = np.flatnonzero(facets.planes @ x[i] >= heights[i] - 1e-9)
            of_tied = np.einsum("d,fdk->fk", x[i], facets.inverses[tied])
            inside = int(np.argmax(of_tied.min(axis=1)))
            best[i], shares[i] = tied[inside], of_tied[inside]
        return Decomposition(heights, facets.entries[best], np.where(shares > 1e-9, shares, 0.0))

    def program(
        self, x: Float[np.ndarray, " D"], without: Int[np.ndarray, " k"] | None = None
    ) -> tuple[float, Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Solve a linear program; return h(x), and the entries and shares of the lowest mixture.

        Args:
            x: one composition.
            without: indices of entries that must not take part in the mixture.

        Raises:
            InputError: no mixture of the entries has this composition.
        """
        present = x > 0
        allowed = (self.fractions[:, ~present] == 0).all(axis=1)
        if without is not None:
            allowed[without] = False
        chosen = np.flatnonzero(allowed)
        if len(chosen):
            best = lowest(self.fractions[chosen], self.energies[chosen])
            chosen = chosen[best]
            solution = linprog(
                self.energies[chosen],
                A_eq=self.fractions[chosen][:, present].T,
                b_eq=x[present],
                bounds=(0, None),
                method="highs",
                options=EXACT,
            )
            if solution.status == 0:
                used = np.flatnonzero(solution.x > 1e-9)
                return float(solution.fun), chosen[used], solution.x[used]
        raise InputError(
            "no mixture of the entries has this composition",
            expected="an elemental reference for each element",
            received=f"fractions {np.round(x, 4).tolist()}",
        )

    def _decompose_by_programs(self, x: Float[np.ndarray, "M D"]) -> Decomposition:
        heights = np.zeros(len(x))
        entries, shares = np.zeros(x.shape, int), np.zeros(x.shape)
        for i, row in enumerate(x):
            heights[i], chosen, lambdas = self.program(row)
            entries[i, : len(chosen)], shares[i, : len(chosen)] = chosen, lambdas
        return Decomposition(heights, entries, shares)
