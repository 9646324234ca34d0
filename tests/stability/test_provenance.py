"""Provenance: what may stand on one hull, and what is refused."""

import pytest
from systems import FILES

from kohn.errors import InputError
from kohn.stability import ConvexHull, Entries, Provenance, read_entries
from kohn.stability.provenance import conflicts, groups, notes, provenance_of, reconciled

MP2020 = "MaterialsProject2020Compatibility"
MIXING = "MaterialsProjectDFTMixingScheme"


def entry(run_type, *schemes, version=None, **parameters):
    cls = [{"@class": s, "@version": version} for s in schemes]
    return {
        "parameters": {"run_type": run_type, "potcar_symbols": ["PBE Fe"], **parameters},
        "energy_adjustments": [{"cls": c, "value": -1.0} for c in cls],
    }


def of_file(*entries):
    return reconciled([provenance_of(e) for e in entries])


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
    assert notes(found) == ["the functional of these is unknown (1 entry: b)"]


def test_candidates_of_another_source():
    hull = ConvexHull(read_entries(FILES["Mn_O"]))
    model = Entries.of(["MnO"], [-16.0], provenance=Provenance(source="MACE"))
    with pytest.raises(InputError, match="codes or models differ"):
        hull.distance(model)
    mixed = ConvexHull(read_entries(FILES["Mn_O"]), allow_mixed=True)
    assert mixed.distance(model).values.shape == (1,)
