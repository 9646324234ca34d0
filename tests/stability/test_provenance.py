"""Provenance: what may stand on one hull, and what is refused."""

import pytest
from systems import FILES

from kohn.errors import InputError
from kohn.stability import ConvexHull, Entries, Provenance, parse_formula, read_entries
from kohn.stability.provenance import conflicts, groups, notes, reconciled
from kohn.structures.provenance import provenance_of

MP2020 = "MaterialsProject2020Compatibility"
MIXING = "MaterialsProjectDFTMixingScheme"


def entry(run_type, *schemes, version=None, **parameters):
    cls = [{"@class": s, "@version": version} for s in schemes]
    return {
        "parameters": {"run_type": run_type, "potcar_symbols": ["PBE Fe"], **parameters},
        "energy_adjustments": [{"cls": c, "value": -1.0} for c in cls],
    }


def of_file(*entries, of="Fe"):
    counts = parse_formula(of)
    return reconciled([provenance_of(e) for e in entries], [counts] * len(entries))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (entry("GGA"), Provenance("PBE", "none", "VASP")),
        (entry("GGA_U", MP2020), Provenance("PBE+U", MP2020, "VASP")),
        (entry("R2SCAN", MIXING, version="1"), Provenance("r2SCAN", f"{MIXING} 1", "VASP")),
        (entry("GGA", MP2020, MIXING), Provenance("PBE", MIXING, "VASP")),
        (entry("GGA", model="MACE"), Provenance("PBE", "none", "MACE")),
        ({"correction": -1.0}, Provenance("unknown", "unknown", "unknown")),
        ({}, Provenance("unknown", "none", "unknown")),
    ],
)
def test_what_an_entry_says(given, expected):
    assert provenance_of(given) == expected


def test_one_scheme_covers_a_file():
    assert len(set(of_file(entry("GGA"), entry("GGA", MP2020), entry("GGA+U", MP2020)))) == 1
    assert len(set(of_file(entry("GGA"), entry("GGA+U", MP2020), entry("R2SCAN", MIXING)))) == 1


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ((entry("GGA"), entry("GGA+U")), "functionals differ: PBE .* PBE\\+U"),
        ((entry("GGA", MP2020), entry("R2SCAN")), "functionals differ: .*r2SCAN"),
        ((entry("GGA", MP2020), entry("GGA+U")), "schemes of corrections differ"),
        ((entry("GGA"), entry("GGA", model="MACE")), "codes or models differ: MACE .*; VASP"),
        (
            (entry("GGA", MP2020, version="1"), entry("GGA", MP2020, version="2")),
            "schemes of corrections differ",
        ),
    ],
)
def test_conflicts(file, named):
    ids = [f"id-{i}" for i in range(len(file))]
    with pytest.raises(InputError, match=named) as caught:
        ConvexHull(Entries.of(["Fe"] * 2, [-8, -7.9], ids, provenance=of_file(*file)))
    assert "id-0" in str(caught.value)
    assert "--allow-mixed" in str(caught.value.fix)
    hull = ConvexHull(
        Entries.of(["Fe"] * 2, [-8, -7.9], ids, provenance=of_file(*file)), allow_mixed=True
    )
    assert hull.conflicts


def test_what_is_unknown_is_noted():
    found = groups(["a", "b", "c"], [Provenance("PBE"), Provenance(), Provenance("PBE")])
    assert conflicts(found) == []
    assert notes(found) == ["functional unknown (1 entry: b)"]


def test_candidates_of_another_source():
    hull = ConvexHull(read_entries(FILES["Mn_O"]))
    model = Entries.of(["MnO"], [-16.0], provenance=Provenance(source="MACE"))
    with pytest.raises(InputError, match="codes or models differ"):
        hull.distance(model)
    mixed = ConvexHull(read_entries(FILES["Mn_O"]), allow_mixed=True)
    assert mixed.distance(model).values.shape == (1,)


def test_oxides_are_always_corrected():
    """One without a correction was not processed with its file; r2SCAN is where mixing starts."""
    raw, corrected = entry("GGA"), entry("GGA", MP2020)
    assert len(set(of_file(raw, corrected, of="FeSi"))) == 1
    assert len(set(of_file(raw, corrected, of="Fe2O3"))) == 2
    assert len(set(of_file(raw, corrected, of="O2"))) == 1
    assert len(set(of_file(entry("R2SCAN"), entry("GGA", MIXING), of="Fe2O3"))) == 1


def corrected_hull(scheme=MP2020):
    """Entries as a file of the Materials Project has them."""
    formulas = ["Li", "Al", "O2", "Si", "Li2O", "Al2O3"]
    plain = Provenance("PBE", "none", "VASP")
    of = [plain] * 4 + [Provenance("PBE", scheme, "VASP")] * 2
    told = reconciled(of, [parse_formula(f) for f in formulas])
    return ConvexHull(Entries.of(formulas, [-1.9, -3.7, -9.9, -5.4, -14.9, -37], provenance=told))


PLAIN = Provenance("PBE", "none", "VASP")


@pytest.mark.parametrize("formula", ["Li3Al", "Al", "O2", "Si"])
def test_what_needs_no_correction_stands_beside_corrected_entries(formula):
    hull = corrected_hull()
    candidates = Entries.of([formula], [-9.5], provenance=PLAIN)
    assert candidates.provenance[0].scheme == "none needed"
    assert hull.distance(candidates).values.shape == (1,)


@pytest.mark.parametrize(
    ("formula", "provenance", "named"),
    [
        ("LiAlO2", PLAIN, "schemes of corrections differ"),
        ("LiAlO2", Provenance("PBE+U", "none", "VASP"), "schemes of corrections differ"),
        ("Li3Al", Provenance("PBE+U", "none", "VASP"), "functionals differ"),
        ("Li2Si", PLAIN, "schemes of corrections differ"),
        ("Li3Al", Provenance("SCAN", "none", "VASP"), "functionals differ: .*SCAN"),
        ("Li3Al", Provenance("PBE", "none", "MACE"), "codes or models differ"),
    ],
)
def test_what_does_is_refused(formula, provenance, named):
    with pytest.raises(InputError, match=named):
        corrected_hull().distance(Entries.of([formula], [-9.5], provenance=provenance))


def test_other_schemes_leave_nothing_alone():
    """The mixing scheme depends on all entries; the older one corrects gases."""
    for scheme in (MIXING, "MaterialsProjectCompatibility"):
        with pytest.raises(InputError, match="schemes of corrections differ"):
            corrected_hull(scheme).distance(Entries.of(["Li3Al"], [-9.5], provenance=PLAIN))


def test_uncorrected_entries_are_of_one_kind():
    hull = ConvexHull(Entries.of(["Li", "O2", "Li2O"], [-1.9, -9.9, -14], provenance=PLAIN))
    assert (hull.conflicts, hull.notes) == ([], [])
    corrected = Entries.of(["LiO2"], [-12.0], provenance=Provenance("PBE", MP2020, "VASP"))
    with pytest.raises(InputError, match=r"none \(1 entry: entry 2\)"):
        hull.distance(corrected)
    elements = ConvexHull(Entries.of(["Li", "O2"], [-1.9, -9.9], provenance=PLAIN))
    assert elements.distance(corrected).values.shape == (1,)


def test_files_apart(tmp_path):
    """An intermetallic in a file of its own, as people have their candidates."""
    path = tmp_path / "new.csv"
    header = "id,formula,energy,functional,scheme,source\n"
    path.write_text(header + "a,Li3Al,-9.5,PBE,none,VASP\n")
    hull = corrected_hull()
    assert len(hull.distance(read_entries(path)).values) == 1
    path.write_text(path.read_text() + "b,LiAlO2,-25,PBE,none,VASP\n")
    with pytest.raises(InputError, match=r"none \(1 entry: b\)"):
        hull.distance(read_entries(path))
