"""Labels that cannot be used: refused, left out, or not looked at, as the reader wants it."""

import numpy as np
import pytest

from kohn.checks import check
from kohn.errors import InputError
from kohn.structures import read

CELL = 'Lattice="4 0 0 0 4 0 0 0 4"'
SLAB = f'{CELL} pbc="T T F"'
SIX = "0.1 0.2 0.3 0.01 0.02 0.03"


def frame(comment: str, rows: str = "Cu 0 0 0\nAl 2 2 2\n") -> str:
    return f"2\n{comment}\n{rows}"


NAN_FORCES = frame(
    f"{CELL} Properties=species:S:1:pos:R:3:forces:R:3 energy=-1",
    "Cu 0 0 0 nan nan nan\nAl 2 2 2 0 0 0\n",
)
NOT_FINITE = {
    "energy": frame(f"{CELL} energy=nan"),
    "stress": frame(f'{CELL} energy=-1 stress="nan nan nan nan nan nan nan nan nan"'),
    "forces": NAN_FORCES,
    "dipole": frame('energy=-1 dipole="0 0 inf"'),
}
UNUSABLE = {
    "shape": frame('dipole="1 2" energy=-1'),
    "words": frame("energy=None"),
    "order": frame(f'{CELL} stress="1 2 3 4 5 6 7 8 9"'),
    "contradiction": frame(f'{CELL} stress="{SIX}" virial="{SIX}"'),
    "weight": frame("energy=-1 config_weight=high"),
}


@pytest.fixture
def given(tmp_path):
    def write(text: str, name: str = "x.xyz"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("label", NOT_FINITE)
def test_labels_that_are_not_finite(given, label):
    path = given(frame(f"{CELL} energy=-2") + NOT_FINITE[label])
    with pytest.raises(InputError, match="is not finite"):
        read(path)
    for policy in ("finite", "usable"):
        data = read(path, labels=policy)
        assert label not in data[1].labels
        (left,) = data.sources[0].unusable
        assert (left.label, left.place.frame) == (label, 1)
        assert "line" in str(left.where)
    assert not read(path, labels="none")[1].labels


@pytest.mark.parametrize("kind", UNUSABLE)
def test_labels_that_cannot_be_used(given, kind):
    path = given(UNUSABLE[kind])
    for policy in ("all", "finite"):
        with pytest.raises(InputError):
            read(path, labels=policy)
    data = read(path, labels="usable")
    assert len(data.sources[0].unusable) == (kind != "weight")
    assert data[0].weight == 1.0
    assert not read(path, labels="none")[0].labels


def test_check_says_what_is_not_finite_and_can_be_told_to_go_on(given):
    path = given("".join(NOT_FINITE.values()) + frame(f"{CELL} energy=-2"))
    report = check(path)
    (finding,) = report.of_kind("nonfinite-label")
    assert finding.severity == "error"
    assert finding.count == 4
    assert "dipole, energy, forces, stress" in finding.message
    assert "line" in str(finding.where[0])
    (allowed,) = check(path, allow=["nonfinite-label"]).of_kind("nonfinite-label")
    assert allowed.severity == "warning"


@pytest.mark.parametrize("key", ["stress", "REF_stress", "virial", "REF_virials"])
@pytest.mark.parametrize("numbers", [SIX, "0 0 0 0 0 0", "nan nan nan nan nan nan"])
@pytest.mark.parametrize("cell", ["", f'{CELL} pbc="F F F"'])
def test_a_stress_of_what_is_not_periodic_is_none(given, key, numbers, cell):
    data = read(given(frame(f'{cell} energy=-1 {key}="{numbers}"')))
    assert set(data[0].labels) == {"energy"}
    assert key not in data[0].info
    assert "not periodic" in data.sources[0].notes[0]


@pytest.mark.parametrize("flags", ["T T F", "F T T", "T F F", "T T T"])
def test_virial_and_stress_of_slabs_and_wires(given, flags):
    """One label under two names: stress = −virial / V, V that of the cell as given."""
    pbc = f'{CELL} pbc="{flags}" energy=-1'
    of_virial = read(given(frame(f'{pbc} virial="{SIX}"')))[0].labels["stress"]
    of_stress = read(given(frame(f'{pbc} stress="{SIX}"')))[0].labels["stress"]
    np.testing.assert_allclose(of_virial, -of_stress / 64, atol=1e-15)


@pytest.mark.parametrize(
    ("share", "taken"), [(0.0, True), (0.004, True), (0.049, True), (0.051, False)]
)
def test_stresses_that_are_not_quite_symmetric(given, share, taken):
    numbers = f"1 {0.1 + share} 0 0.1 0.5 0 0 0 0.2"
    path = given(frame(f'{CELL} energy=-1 stress="{numbers}"'))
    if not taken:
        with pytest.raises(InputError, match="not symmetric") as caught:
            read(path)
        assert "xx xy xz yx" in str(caught.value.fix)
        return
    data = read(path)
    assert data[0].labels["stress"][0, 1] == pytest.approx(0.1 + share / 2)
    assert any("symmetric part" in note for note in data.sources[0].notes) == (share > 0)


def test_structures_in_memory_are_judged_as_files_are(given):
    (s,) = read(given(frame(f"{CELL} energy=-2")))
    broken = s.with_labels(energy=np.array(np.nan))
    with pytest.raises(InputError, match="not finite"):
        read([broken])
    assert "energy" not in read([broken], labels="finite")[0].labels
    assert float(read([s])[0].labels["energy"]) == -2
