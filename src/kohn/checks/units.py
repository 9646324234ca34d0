"""Units and signs judged by independent observations.

No single look at numbers proves that they are in another unit. Each function here that ends in
`_evidence` is one observation, and different ones rest on different facts:

    absolute    total energies against the all-electron energies of the atoms
    binding     energies against those of isolated atoms
    spread      how far energies of similar structures lie apart
    neighbours  energy differences of neighbouring frames against forces
    strain      energy differences of strained frames against stresses
    magnitude   the size of forces (or their curvature), or of stresses
    restoring   whether forces pull atoms back
    volume      how pressure changes with the volume

Two of them make an error, one makes a warning.
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
"""eV in one of each."""
BOLTZMANN = 8.617333e-5
"""eV/K."""


@dataclass(frozen=True)
class Evidence:
    """One observation: which it is, in words, and the unit that it points to (if it does)."""

    observation: str
    text: str
    unit: str | None = None


def energy_and_force_findings(
    structures: Sequence[Structure], e0s: E0s | None, pairs: FramePairs, name: str
) -> list[Finding]:
    """Findings on units and signs of energies and forces of one set."""
    frames = [s for s in structures if not is_isolated_atom(s)]
    ratio = energy_over_work(pairs)
    bent = curvature(pairs)
    absolute = absolute_evidence(frames)
    spread = spread_evidence(frames)
    size = force_size_evidence(frames, bent)
    off = neighbour_evidence(ratio)
    # A factor that no unit has is no matter of units.
    steep = off if ratio is not None and _named(ratio.value) else None
    strained = energy_over_strain_work(pairs)
    agrees = _energy_agrees_with_stress(strained) if steep is not None else None
    known = agrees is not None or (absolute is not None and absolute.unit == "eV")
    blame_forces = known or (size is not None and spread is None)
    of_energy = [] if known else [absolute, binding_evidence(frames, e0s), spread]
    if not blame_forces:
        of_energy += [steep, _also_against_stress(ratio, strained) if steep else None]
    of_energy.append(_atomic_units_evidence(absolute, ratio))
    of_forces = [size, *([steep, agrees] if blame_forces else [])]
    of_forces.append(_same_unit_evidence(absolute, ratio))
    findings = [
        _findings_of_evidence("energy-units", "energies", "eV", of_energy, name),
        _findings_of_evidence("force-units", "forces", "eV/Å", of_forces, name),
        _force_sign(ratio, bent, name),
    ]
    found = [f for f in findings if f is not None]
    if not any(f.kind in ("energy-units", "force-units", "force-sign") for f in found):
        found += _inconsistent(ratio, off, name)
    return found


def stress_findings(structures: Sequence[Structure], pairs: FramePairs, name: str) -> list[Finding]:
    """Findings on unit and sign of the stress of one set."""
    frames = [s for s in structures if "stress" in s.labels and s.periodic.all()]
    if not frames:
        return []
    ratio = energy_over_strain_work(pairs)
    volume = stiffness(frames)
    # Where energies contradict forces by the same factor, it is theirs.
    theirs = _also_against_stress(energy_over_work(pairs), ratio) is not None
    units = [stress_size_evidence(frames, volume), None if theirs else _strain_unit_evidence(ratio)]
    findings = [_findings_of_evidence("stress-units", "stresses", "eV/Å³", units, name)]
    against: list[Evidence | None] = []
    if ratio is not None and ratio.trusted and ratio.value < 0:
        against.append(
            Evidence(
                "neighbours",
                f"energies rise under strain where the stress says that they fall: ratio "
                f"{ratio.value:.3g} over {ratio.pairs} pairs of frames, where 1 is right",
            )
        )
    if volume is not None and volume < 0:
        against.append(
            Evidence(
                "volume",
                "stress goes down as the volume goes up, a negative bulk modulus "
                f"({volume / GPA:.3g} GPa)",
            )
        )
    evidence = [e for e in against if e is not None]
    if evidence:
        findings.append(
            Finding(
                kind="stress-sign",
                severity="error" if len(evidence) > 1 else "warning",
                message=f"{name}: stresses look as if they were positive in compression",
                evidence=tuple(e.text for e in evidence),
                fix="multiply them by -1: stress is (1/V) dE/d(strain), positive in tension "
                "(VASP prints the opposite; so is a virial, -V times it)",
            )
        )
    return [f for f in findings if f is not None]


# Energies ------------------------------------------------------------------------------------


def absolute_evidence(frames: Sequence[Structure]) -> Evidence | None:
    """The unit in which total energies are those of all electrons of the atoms, if there is one.

    Pseudopotentials leave core electrons out, so their energies fit none, and say nothing.
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
                f"in eV: they equal them in {unit}",
                unit,
            )
    return None


def binding_evidence(frames: Sequence[Structure], e0s: E0s | None) -> Evidence | None:
    """Atoms bound more strongly than any are, relative to isolated atoms (or given E0s)."""
    if e0s is None or "least squares" in e0s.source:
        return None
    binding = binding_energies(frames, e0s)
    if len(binding) == 0 or not 15 < -np.median(binding) < 3000:
        return None
    return Evidence(
        "binding",
        f"atoms are bound by {-np.median(binding):.3g} eV each, relative to E0; "
        "the strongest bound solids have 9",
        "kcal/mol or kJ/mol",
    )


def binding_energies(frames: Sequence[Structure], e0s: E0s) -> np.ndarray:
    """(E - sum of E0) / atoms, eV, of frames with an energy and known elements."""
    known = [
        s
        for s in frames
        if "energy" in s.labels and all(int(z) in e0s.values for z in np.unique(s.numbers))
    ]
    return np.array([(float(s.labels["energy"]) - e0s.total(s)) / len(s) for s in known])


def spread_evidence(frames: Sequence[Structure]) -> Evidence | None:
    """Energies of like structures that lie too far apart, or too close, for any temperature.

    A molecule of n atoms that vibrates classically at T has energies that spread by
    sqrt(3 n / 2) k T. Over many compositions, energies per atom stay within some 0.3 eV of a
    sum of terms of the elements.
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
            f"energies spread by {spread:.3g} eV an atom about a sum over the elements; "
            "some 0.3 is usual",
            "kcal/mol or kJ/mol",
        )
    if compositions >= 30 and len(elements) > 1 and spread < 0.008:
        return Evidence(
            "spread",
            f"energies of {compositions} compositions spread by only {spread:.2g} eV an atom "
            "about a sum over the elements; some 0.1 is usual",
            "hartree",
        )
    return None


def _spread(x: np.ndarray) -> float:
    """Standard deviation that a few outliers do not move (from quartiles)."""
    low, high = np.percentile(x, [25, 75])
    return float((high - low) / 1.349)


# Forces --------------------------------------------------------------------------------------


def force_size_evidence(frames: Sequence[Structure], bent: Ratio | None) -> Evidence | None:
    """Forces, or how they change with position, larger than in any matter; or, in organic
    molecules, smaller."""
    forces = [s.labels["forces"].ravel() for s in frames if "forces" in s.labels]
    if not forces:
        return None
    # The median over frames: a few torn structures may have any forces.
    typical = float(np.median([np.sqrt(np.mean(f**2)) for f in forces]))
    stiff = bent.value if bent is not None and bent.trusted else None
    if typical > 15 or (stiff is not None and stiff > 80):
        text = f"forces are typically {typical:.3g} eV/Å"
        text += "" if stiff is None else f" and change by {stiff:.3g} eV/Å²"
        return Evidence("magnitude", f"{text}; some 1 and 10 are usual", "kcal/mol/Å")
    if stiff is not None and 0 < stiff < 0.5 and _organic(frames):
        return Evidence(
            "magnitude",
            f"forces change by only {stiff:.3g} eV/Å² as atoms move; in organic molecules "
            "3 to 20 are usual",
            "hartree/bohr",
        )
    return None


def neighbour_evidence(ratio: Ratio | None) -> Evidence | None:
    """Energies that change by another factor than forces say."""
    if ratio is None or not ratio.trusted or 0.4 < abs(ratio.value) < 2.5:
        return None
    return Evidence(
        "neighbours",
        f"between {ratio.pairs} pairs of neighbouring frames the energy changes by "
        f"{ratio.value:.3g} times what the forces say{_named(ratio.value)}",
    )


def _named(value: float) -> str:
    """What a ratio of energy to work may come from."""
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
    """Hartree with hartree/bohr: energies change by 1/0.529 = 1.89 times -F . dx (in Å)."""
    if absolute is None or absolute.unit != "hartree" or ratio is None or not ratio.trusted:
        return None
    if ratio.pairs < 15 or not 1.5 < ratio.value < 2.4:
        return None
    return Evidence(
        "neighbours",
        f"energies change by {ratio.value:.3g} times what the forces say, the mark of hartree "
        f"with hartree/bohr ({1 / BOHR:.3g})",
    )


def _same_unit_evidence(absolute: Evidence | None, ratio: Ratio | None) -> Evidence | None:
    """Forces that belong to energies that are not in eV are not in eV/Å either."""
    if absolute is None or absolute.unit == "eV" or ratio is None or not ratio.trusted:
        return None
    atomic = _atomic_units_evidence(absolute, ratio)
    if atomic is None and not 0.7 < ratio.value < 1.4:
        return None
    unit = "hartree/bohr" if atomic else f"{absolute.unit}/Å"
    return Evidence(
        "neighbours",
        f"forces belong to the energies of neighbouring frames, which are in {absolute.unit}: "
        f"so they are in {unit}",
    )


def _energy_agrees_with_stress(strained: Ratio | None) -> Evidence | None:
    """Energies that change under strain as the stress says: then it is not they that are off."""
    if strained is None or not strained.trusted or not 0.4 < strained.value < 2.5:
        return None
    return Evidence(
        "strain",
        f"between {strained.pairs} pairs of strained frames the energy changes by "
        f"{strained.value:.3g} times what the stress says, so energies are right",
    )


def _also_against_stress(ratio: Ratio | None, strained: Ratio | None) -> Evidence | None:
    """Energies that differ by one factor from what forces say and from what stress says."""
    if neighbour_evidence(ratio) is None or ratio is None or strained is None:
        return None
    if not strained.trusted or not 1 / 1.6 < strained.value / ratio.value < 1.6:
        return None
    return Evidence(
        "strain",
        f"between {strained.pairs} pairs of strained frames the energy changes by "
        f"{strained.value:.3g} times what the stress says",
    )


def _force_sign(ratio: Ratio | None, bent: Ratio | None, name: str) -> Finding | None:
    evidence = []
    if ratio is not None and ratio.trusted and ratio.value < 0:
        evidence.append(
            f"between {ratio.pairs} pairs of neighbouring frames the energy rises along the "
            f"forces: ratio {ratio.value:.3g}, where 1 is right"
        )
    if bent is not None and bent.trusted and bent.value < 0:
        evidence.append(
            f"forces push atoms away from where they are in neighbouring frames ({bent.pairs} "
            "pairs), where they should pull them back"
        )
    if not evidence:
        return None
    return Finding(
        kind="force-sign",
        severity="error" if len(evidence) > 1 else "warning",
        message=f"{name}: forces look like gradients, with the sign not turned",
        evidence=tuple(evidence),
        fix="multiply them by -1: forces are minus the gradient of the energy",
    )


def _inconsistent(ratio: Ratio | None, off: Evidence | None, name: str) -> list[Finding]:
    loose = ratio is not None and ratio.pairs >= 15 and ratio.distance < 0.25
    if off is not None:
        evidence = off.text
    elif loose and ratio is not None and ratio.agreement < 0.75:
        evidence = (
            f"in {100 * (1 - ratio.agreement):.0f}% of {ratio.pairs} pairs of neighbouring "
            "frames the energy goes up where the forces say that it goes down, or the reverse"
        )
    else:
        return []
    return [
        Finding(
            kind="energy-force-inconsistent",
            severity="warning",
            message=f"{name}: energies do not change as the forces say",
            evidence=(evidence,),
            fix="check that energies and forces are of the same calculation, frame by frame "
            "and atom by atom",
        )
    ]


# Stress --------------------------------------------------------------------------------------


def stiffness(frames: Sequence[Structure]) -> float | None:
    """V dp/dV of the mean normal stress p, a bulk modulus in eV/Å³; None where it is unclear.

    The median over compositions whose volumes differ and whose stresses follow them.
    """
    groups: dict[bytes, list[Structure]] = {}
    for s in frames:
        groups.setdefault(s.numbers.tobytes(), []).append(s)
    found = []
    for group in groups.values():
        if len(group) < 8:
            continue
        volume = np.array([s.volume for s in group])
        normal = np.array([np.trace(s.labels["stress"]) / 3 for s in group])
        if volume.std() < 0.003 * volume.mean() or normal.std() == 0:
            continue
        if abs(np.corrcoef(volume, normal)[0, 1]) > 0.7:
            found.append(np.polyfit(volume, normal, 1)[0] * volume.mean())
    return float(np.median(found)) if found else None


def stress_size_evidence(frames: Sequence[Structure], volume: float | None) -> Evidence | None:
    """Stresses, or a bulk modulus, larger than in any matter that is computed often."""
    typical = float(np.median([np.abs(s.labels["stress"]).max() for s in frames]))
    if typical < 0.5 and (volume is None or abs(volume) < 1000 * GPA):
        return None
    text = f"stresses are typically {typical:.3g} eV/Å³ ({typical / GPA:.3g} GPa)"
    if volume is not None:
        text += f", and imply a bulk modulus of {abs(volume) / GPA:.3g} GPa (diamond has 440)"
    return Evidence("magnitude", text, "GPa or kbar")


def _strain_unit_evidence(ratio: Ratio | None) -> Evidence | None:
    """Energies under strain that change by another factor than stresses say."""
    if ratio is None or not ratio.trusted or 0.2 < abs(ratio.value) < 5:
        return None
    size = abs(ratio.value)
    near = [u for u, f in {"GPa": GPA, "kbar": KBAR}.items() if 1 / 2.5 < size / f < 2.5]
    return Evidence(
        "strain",
        f"between {ratio.pairs} pairs of strained frames the energy changes by {ratio.value:.3g} "
        "times what the stress says" + (f", the mark of {near[0]}" if near else ""),
        near[0] if near else None,
    )


# Verdicts ------------------------------------------------------------------------------------


def _findings_of_evidence(
    kind: str, what: str, unit: str, evidence: Sequence[Evidence | None], name: str
) -> Finding | None:
    """An error on two independent observations, a warning on one, else nothing."""
    known = {e.observation: e for e in evidence if e is not None}
    if not known:
        return None
    looks = [e.unit for e in known.values() if e.unit is not None]
    like = f" ({looks[0]}?)" if looks else ""
    return Finding(
        kind=kind,
        severity="error" if len(known) > 1 else "warning",
        message=f"{name}: {what} look as if they were not in {unit}{like}",
        evidence=tuple(e.text for e in known.values()),
        fix=f"convert them to {unit} (kohn.units has the factors)",
    )


def _organic(frames: Sequence[Structure]) -> bool:
    elements = {int(z) for s in frames for z in np.unique(s.numbers)}
    molecules = not any(s.periodic.any() for s in frames)
    return molecules and {1, 6} <= elements <= {1, 6, 7, 8, 9, 16, 17}
