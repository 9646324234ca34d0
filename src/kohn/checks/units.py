"""Check units and signs of labels by independent observations.

No single observation proves that numbers are in another unit. Each function here whose name ends in
`_evidence` makes one observation, and the observations rest on different facts:

    absolute    total energies against the all-electron energies of the atoms
    binding     energies against those of isolated atoms
    spread      how much the energies of similar structures spread
    neighbours  energy differences of neighbouring frames against forces
    strain      energy differences of strained frames against stresses
    magnitude   the size of forces (or the curvature they imply), or of stresses
    restoring   whether forces pull atoms back
    volume      the change of stress with the volume of the cell

Two observations make an error, one makes a warning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kohn.checks.neighbouring_frames import (
    FramePairs,
    Ratio,
    curvature,
    energy_over_strain_work,
    energy_over_work,
)
from kohn.checks.report import Finding
from kohn.structures import E0s, Structure, is_isolated_atom
from kohn.units import BOHR, GPA, HARTREE, KBAR, KCAL_PER_MOL, KJ_PER_MOL

# Hartree-Fock limits of the atoms H … Kr, hartree; Clementi & Roetti, At. Data Nucl. Data
# Tables 14, 177 (1974). Any functional is within 1% of them.
_ATOMS = """0.5 2.862 7.433 14.573 24.529 37.689 54.401 74.809 99.409 128.547 161.859 199.615
241.877 288.854 340.719 397.505 459.482 526.817 599.165 676.758 759.736 848.406 942.884 1043.357
1149.866 1262.444 1381.415 1506.871 1638.964 1777.848 1923.261 2075.360 2234.239 2399.868
2572.441 2752.055"""
ATOM_HARTREE = {z: -float(e) for z, e in enumerate(_ATOMS.split(), start=1)}
"""All-electron total energies of isolated atoms, hartree."""

ENERGY_UNITS = {
    "eV": 1.0,
    "hartree": HARTREE,
    "rydberg": HARTREE / 2,
    "kcal/mol": KCAL_PER_MOL,
    "kJ/mol": KJ_PER_MOL,
}
"""Unit of energy -> its size, eV."""
BOLTZMANN = 8.617333e-5
"""The Boltzmann constant, eV/K."""


@dataclass(frozen=True)
class Evidence:
    """One observation on units: its name, its text, and the unit that it points to, if any."""

    observation: str
    text: str
    unit: str | None = None


def energy_and_force_findings(
    structures: Sequence[Structure], e0s: E0s | None, pairs: FramePairs, name: str
) -> list[Finding]:
    """Return the findings on units and signs of the energies and forces of one set."""
    frames = [s for s in structures if not is_isolated_atom(s)]
    ratio = energy_over_work(pairs)
    curvature_ratio = curvature(pairs)
    absolute = absolute_evidence(frames)
    spread = spread_evidence(frames)
    size = force_size_evidence(frames, curvature_ratio)
    mismatch = neighbour_evidence(ratio)
    # A factor that belongs to no unit is not evidence on units.
    unit_mismatch = mismatch if ratio is not None and _mixed_units(ratio.value) else None
    strain_ratio = energy_over_strain_work(pairs)
    agreement = _energy_agrees_with_stress(strain_ratio) if unit_mismatch is not None else None
    in_ev = agreement is not None or (absolute is not None and absolute.unit == "eV")
    blame_forces = in_ev or (size is not None and spread is None)
    energies = [] if in_ev else [absolute, binding_evidence(frames, e0s), spread]
    if not blame_forces:
        against_stress = _also_against_stress(ratio, strain_ratio) if unit_mismatch else None
        energies += [unit_mismatch, against_stress]
    energies.append(_atomic_units_evidence(absolute, ratio))
    forces = [size, *([unit_mismatch, agreement] if blame_forces else [])]
    forces.append(_same_unit_evidence(absolute, ratio))
    candidates = [
        _finding_of_evidence("energy-units", "energies", "eV", energies, name),
        _finding_of_evidence("force-units", "forces", "eV/Å", forces, name),
        _force_sign(ratio, curvature_ratio, name),
    ]
    findings = [f for f in candidates if f is not None]
    if not any(f.kind in ("energy-units", "force-units", "force-sign") for f in findings):
        findings += _inconsistent(ratio, mismatch, name)
    return findings


def stress_findings(structures: Sequence[Structure], pairs: FramePairs, name: str) -> list[Finding]:
    """Return the findings on the unit and sign of the stresses of one set."""
    frames = [s for s in structures if "stress" in s.labels and s.periodic.all()]
    if not frames:
        return []
    ratio = energy_over_strain_work(pairs)
    modulus = bulk_modulus(frames)
    # If energies contradict forces by the same factor, the energies are wrong.
    wrong_energies = _also_against_stress(energy_over_work(pairs), ratio) is not None
    strain_unit = None if wrong_energies else _strain_unit_evidence(ratio)
    units = [stress_size_evidence(frames, modulus), strain_unit]
    findings = [_finding_of_evidence("stress-units", "stresses", "eV/Å³", units, name)]
    evidence: list[Evidence] = []
    if ratio is not None and ratio.trusted and ratio.value < 0:
        evidence.append(
            Evidence(
                "neighbours",
                f"energies rise under strain where the stress predicts that they fall: ratio "
                f"{ratio.value:.3g} over {ratio.pairs} pairs of frames, where 1 is right",
            )
        )
    if modulus is not None and modulus < 0:
        evidence.append(
            Evidence(
                "volume",
                "stress falls as the volume grows, which implies a negative bulk modulus "
                f"({modulus / GPA:.3g} GPa)",
            )
        )
    if evidence:
        findings.append(
            Finding(
                kind="stress-sign",
                severity="error" if len(evidence) > 1 else "warning",
                message=f"{name}: stresses look as if they were positive in compression",
                evidence=tuple(e.text for e in evidence),
                fix="multiply them by -1: stress is (1/V) dE/d(strain), positive in tension "
                "(VASP prints the opposite sign, which a virial, -V times the stress, has too)",
            )
        )
    return [f for f in findings if f is not None]


# Energies ------------------------------------------------------------------------------------


def absolute_evidence(frames: Sequence[Structure]) -> Evidence | None:
    """Report the unit in which total energies equal the all-electron energies of the atoms.

    Return None if no unit fits, as with pseudopotentials, which leave core electrons out.
    """
    ratios = []
    for s in frames[:: max(1, len(frames) // 500)]:
        if "energy" in s.labels and s.numbers.max() in ATOM_HARTREE:
            atoms = sum(ATOM_HARTREE[int(z)] for z in s.numbers)
            ratios.append(float(s.labels["energy"]) / (atoms * HARTREE))
    if len(ratios) == 0:
        return None
    ratio = float(np.median(ratios))
    for unit, factor in ENERGY_UNITS.items():
        if abs(ratio * factor - 1) < 0.03 and np.std(ratios) < 0.03 * abs(ratio):
            return Evidence(
                "absolute",
                f"total energies are {ratio:.4g} times the all-electron energies of the atoms "
                f"in eV, so they are in {unit}",
                unit,
            )
    return None


def binding_evidence(frames: Sequence[Structure], e0s: E0s | None) -> Evidence | None:
    """Report binding energies, relative to isolated atoms or given E0s, above those of solids."""
    if e0s is None or "least squares" in e0s.source:
        return None
    binding = binding_energies(frames, e0s)
    if len(binding) == 0 or not 15 < -np.median(binding) < 3000:
        return None
    return Evidence(
        "binding",
        f"atoms are bound by {-np.median(binding):.3g} eV each, relative to E0; "
        "the most strongly bound solids have 9",
        "kcal/mol or kJ/mol",
    )


def binding_energies(frames: Sequence[Structure], e0s: E0s) -> np.ndarray:
    """Return (energy - sum of E0) / number of atoms, eV, of frames with an energy and all E0s."""
    known = [
        s
        for s in frames
        if "energy" in s.labels and all(int(z) in e0s.values for z in np.unique(s.numbers))
    ]
    return np.array([(float(s.labels["energy"]) - e0s.total(s)) / len(s) for s in known])


def spread_evidence(frames: Sequence[Structure]) -> Evidence | None:
    """Report energies of similar structures that spread too much or too little to be in eV.

    The energies of a molecule of n atoms that vibrates classically at the temperature T have the
    standard deviation sqrt(3 n / 2) k T. Over many compositions, energies per atom stay within
    about 0.3 eV of a sum over the elements.
    """
    temperatures = []
    groups: dict[bytes, list[Structure]] = {}
    for s in frames:
        if "energy" in s.labels and len(s) > 1:
            groups.setdefault(s.numbers.tobytes(), []).append(s)
    for group in groups.values():
        if len(group) >= 15 and not any(s.periodic.any() for s in group) and len(group[0]) >= 4:
            spread = _spread(np.array([float(s.labels["energy"]) for s in group]))
            temperatures.append(spread / np.sqrt(1.5 * len(group[0])) / BOLTZMANN)
    if temperatures:
        temperature = float(np.median(temperatures))
        if temperature > 6000:
            return Evidence(
                "spread",
                f"energies of one composition spread as at {temperature:.0f} K",
                "kcal/mol or kJ/mol",
            )
    return _residual_evidence([s for group in groups.values() for s in group], len(groups))


def _residual_evidence(frames: list[Structure], compositions: int) -> Evidence | None:
    elements = sorted({int(z) for s in frames for z in s.numbers})
    if len(frames) < max(15, 3 * len(elements)):
        return None
    sizes = np.array([len(s) for s in frames], dtype=np.float64)
    counts = np.array([[np.sum(s.numbers == z) for z in elements] for s in frames])
    energies = np.array([float(s.labels["energy"]) for s in frames]) / sizes
    matrix = counts / sizes[:, None]
    fit = matrix @ np.linalg.lstsq(matrix, energies, rcond=None)[0]
    spread = _spread(energies - fit)
    if spread > 2.0:
        return Evidence(
            "spread",
            f"energies spread by {spread:.3g} eV per atom about a sum over the elements; "
            "about 0.3 is usual",
            "kcal/mol or kJ/mol",
        )
    if compositions >= 30 and len(elements) > 1 and spread < 0.008:
        return Evidence(
            "spread",
            f"energies of {compositions} compositions spread by only {spread:.2g} eV per "
            "atom about a sum over the elements; about 0.1 is usual",
            "hartree",
        )
    return None


def _spread(x: np.ndarray) -> float:
    """Return a standard deviation of x from its quartiles, which a few outliers do not change."""
    low, high = np.percentile(x, [25, 75])
    return float((high - low) / 1.349)


# Forces --------------------------------------------------------------------------------------


def force_size_evidence(frames: Sequence[Structure], stiffness: Ratio | None) -> Evidence | None:
    """Report forces or curvatures too large for any matter, or too small for organic molecules."""
    forces = [s.labels["forces"].ravel() for s in frames if "forces" in s.labels]
    if not forces:
        return None
    # The median over frames, because a few broken structures may have any forces.
    typical = float(np.median([np.sqrt(np.mean(f**2)) for f in forces]))
    stiff = stiffness.value if stiffness is not None and stiffness.trusted else None
    if typical > 15 or (stiff is not None and stiff > 80):
        text = f"forces are typically {typical:.3g} eV/Å"
        text += "" if stiff is None else f" and change by {stiff:.3g} eV/Å²"
        return Evidence("magnitude", f"{text}; about 1 and 10 are usual", "kcal/mol/Å")
    if stiff is not None and 0 < stiff < 0.5 and _organic(frames):
        return Evidence(
            "magnitude",
            f"forces change by only {stiff:.3g} eV/Å² as atoms move; in organic molecules "
            "3 to 20 are usual",
            "hartree/bohr",
        )
    return None


def neighbour_evidence(ratio: Ratio | None) -> Evidence | None:
    """Report that energies change much more, or much less, than the forces predict."""
    if ratio is None or not ratio.trusted or 0.4 < abs(ratio.value) < 2.5:
        return None
    return Evidence(
        "neighbours",
        f"between {ratio.pairs} pairs of neighbouring frames the energy changes by "
        f"{ratio.value:.3g} times what the forces predict{_mixed_units(ratio.value)}",
    )


def _mixed_units(value: float) -> str:
    """Return in words the mixtures of units that explain a ratio energy / work; '' if none does."""
    size = abs(value)
    names = {
        "kcal/mol for eV": 1 / KCAL_PER_MOL,
        "kJ/mol for eV": 1 / KJ_PER_MOL,
        "hartree for eV": 1 / HARTREE,
        "kcal/mol/Å for eV/Å": KCAL_PER_MOL,
        "kJ/mol/Å for eV/Å": KJ_PER_MOL,
        "hartree/bohr for eV/Å": HARTREE / BOHR,
        "hartree/Å for eV/Å": HARTREE,
    }
    near = [f"{name}: {f:.3g}" for name, f in names.items() if 1 / 1.4 < size / f < 1.4]
    return f" ({', '.join(near)})" if near else ""


def _atomic_units_evidence(absolute: Evidence | None, ratio: Ratio | None) -> Evidence | None:
    """Report hartree with hartree/bohr: energies change by 1/0.529 = 1.89 times the work."""
    if absolute is None or absolute.unit != "hartree" or ratio is None or not ratio.trusted:
        return None
    if ratio.pairs < 15 or not 1.5 < ratio.value < 2.4:
        return None
    return Evidence(
        "neighbours",
        f"energies change by {ratio.value:.3g} times what the forces predict, the mark of "
        f"hartree with hartree/bohr ({1 / BOHR:.3g})",
    )


def _same_unit_evidence(absolute: Evidence | None, ratio: Ratio | None) -> Evidence | None:
    """Report that forces are not in eV/Å if they agree with energies that are not in eV."""
    if absolute is None or absolute.unit == "eV" or ratio is None or not ratio.trusted:
        return None
    atomic = _atomic_units_evidence(absolute, ratio)
    if atomic is None and not 0.7 < ratio.value < 1.4:
        return None
    unit = "hartree/bohr" if atomic else f"{absolute.unit}/Å"
    return Evidence(
        "neighbours",
        f"forces agree with the energies of neighbouring frames, which are in {absolute.unit}, "
        f"so the forces are in {unit}",
    )


def _energy_agrees_with_stress(strain_ratio: Ratio | None) -> Evidence | None:
    """Report that energies are right if they change under strain as the stress predicts."""
    if strain_ratio is None or not strain_ratio.trusted or not 0.4 < strain_ratio.value < 2.5:
        return None
    return Evidence(
        "strain",
        f"between {strain_ratio.pairs} pairs of strained frames the energy changes by "
        f"{strain_ratio.value:.3g} times what the stress predicts, so energies are right",
    )


def _also_against_stress(ratio: Ratio | None, strain_ratio: Ratio | None) -> Evidence | None:
    """Report that energies contradict forces and stress by the same factor."""
    if neighbour_evidence(ratio) is None or ratio is None or strain_ratio is None:
        return None
    if not strain_ratio.trusted or not 1 / 1.6 < strain_ratio.value / ratio.value < 1.6:
        return None
    return Evidence(
        "strain",
        f"between {strain_ratio.pairs} pairs of strained frames the energy changes by "
        f"{strain_ratio.value:.3g} times what the stress predicts",
    )


def _force_sign(ratio: Ratio | None, curvature_ratio: Ratio | None, name: str) -> Finding | None:
    evidence = []
    if ratio is not None and ratio.trusted and ratio.value < 0:
        evidence.append(
            f"between {ratio.pairs} pairs of neighbouring frames the energy rises along the "
            f"forces: ratio {ratio.value:.3g}, where 1 is right"
        )
    if curvature_ratio is not None and curvature_ratio.trusted and curvature_ratio.value < 0:
        evidence.append(
            "forces push atoms away from their positions in neighbouring frames "
            f"({curvature_ratio.pairs} pairs), but should pull them back"
        )
    if not evidence:
        return None
    return Finding(
        kind="force-sign",
        severity="error" if len(evidence) > 1 else "warning",
        message=f"{name}: forces look like gradients: their sign is wrong",
        evidence=tuple(evidence),
        fix="multiply them by -1: forces are minus the gradient of the energy",
    )


def _inconsistent(ratio: Ratio | None, mismatch: Evidence | None, name: str) -> list[Finding]:
    loose = ratio is not None and ratio.pairs >= 15 and ratio.distance < 0.25
    if mismatch is not None:
        evidence = mismatch.text
    elif loose and ratio is not None and ratio.agreement < 0.75:
        evidence = (
            f"in {100 * (1 - ratio.agreement):.0f}% of {ratio.pairs} pairs of neighbouring "
            "frames the energy rises where the forces predict that it falls, or the reverse"
        )
    else:
        return []
    return [
        Finding(
            kind="energy-force-inconsistent",
            severity="warning",
            message=f"{name}: energies do not change as the forces predict",
            evidence=(evidence,),
            fix="check that energies and forces come from the same calculation, frame by frame "
            "and atom by atom",
        )
    ]


# Stress --------------------------------------------------------------------------------------


def bulk_modulus(frames: Sequence[Structure]) -> float | None:
    """Return the bulk modulus V dp/dV, eV/Å³, from the volume V and the mean normal stress p.

    It is the median over the compositions in which p depends clearly on V; None without these.
    """
    groups: dict[bytes, list[Structure]] = {}
    for s in frames:
        groups.setdefault(s.numbers.tobytes(), []).append(s)
    moduli = []
    for group in groups.values():
        if len(group) < 8:
            continue
        volume = np.array([s.volume for s in group])
        normal = np.array([np.trace(s.labels["stress"]) / 3 for s in group])
        if volume.std() < 0.003 * volume.mean() or normal.std() == 0:
            continue
        if abs(np.corrcoef(volume, normal)[0, 1]) > 0.7:
            moduli.append(np.polyfit(volume, normal, 1)[0] * volume.mean())
    return float(np.median(moduli)) if moduli else None


def stress_size_evidence(frames: Sequence[Structure], modulus: float | None) -> Evidence | None:
    """Report stresses or a bulk modulus larger than in any matter that is often computed."""
    typical = float(np.median([np.abs(s.labels["stress"]).max() for s in frames]))
    if typical < 0.5 and (modulus is None or abs(modulus) < 1000 * GPA):
        return None
    text = f"stresses are typically {typical:.3g} eV/Å³ ({typical / GPA:.3g} GPa)"
    if modulus is not None:
        text += f", and imply a bulk modulus of {abs(modulus) / GPA:.3g} GPa (diamond has 440)"
    return Evidence("magnitude", text, "GPa or kbar")


def _strain_unit_evidence(ratio: Ratio | None) -> Evidence | None:
    """Report that energies change under strain much more, or less, than the stresses predict."""
    if ratio is None or not ratio.trusted or 0.2 < abs(ratio.value) < 5:
        return None
    size = abs(ratio.value)
    near = [u for u, f in {"GPa": GPA, "kbar": KBAR}.items() if 1 / 2.5 < size / f < 2.5]
    return Evidence(
        "strain",
        f"between {ratio.pairs} pairs of strained frames the energy changes by {ratio.value:.3g} "
        "times what the stress predicts" + (f", the mark of {near[0]}" if near else ""),
        near[0] if near else None,
    )


# Findings ------------------------------------------------------------------------------------


def _finding_of_evidence(
    kind: str, quantity: str, unit: str, evidence: Sequence[Evidence | None], name: str
) -> Finding | None:
    """Return an error for two or more independent observations, a warning for one, else None."""
    observations = {e.observation: e for e in evidence if e is not None}
    if not observations:
        return None
    units = [e.unit for e in observations.values() if e.unit is not None]
    guess = f" ({units[0]}?)" if units else ""
    return Finding(
        kind=kind,
        severity="error" if len(observations) > 1 else "warning",
        message=f"{name}: {quantity} look as if they were not in {unit}{guess}",
        evidence=tuple(e.text for e in observations.values()),
        fix=f"convert them to {unit} (kohn.units has the factors)",
    )


def _organic(frames: Sequence[Structure]) -> bool:
    elements = {int(z) for s in frames for z in np.unique(s.numbers)}
    molecules = not any(s.periodic.any() for s in frames)
    return molecules and {1, 6} <= elements <= {1, 6, 7, 8, 9, 16, 17}
