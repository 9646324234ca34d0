"""Names and values of extended XYZ that used to fall through in silence."""

import numpy as np
import pytest

from kohn.errors import InputError
from kohn.structures import read

NINE = "4 0 0 0 4.1 0 0.3 0 4.2"
CELL = np.array([[4, 0, 0], [0, 4.1, 0], [0.3, 0, 4.2]])
ROWS = "Cu 0 0 0 0.1 0.2 0.3\nAl 2 2 2.1 -0.1 -0.2 -0.3\n"
COLUMNS = "Properties=species:S:1:pos:R:3:forces:R:3"


@pytest.fixture
def given(tmp_path):
    def write(comment: str, rows: str = ROWS):
        path = tmp_path / "x.xyz"
        path.write_text(f"{len(rows.splitlines())}\n{comment}\n{rows}")
        return path

    return write


@pytest.mark.parametrize("key", ["Lattice", "lattice", "LATTICE"])
@pytest.mark.parametrize("value", [f'"{NINE}"', "[[4,0,0],[0,4.1,0],[0.3,0,4.2]]", f"{{{NINE}}}"])
def test_cells(given, key, value):
    (s,) = data = read(given(f"{key}={value} {COLUMNS} energy=-7.5"))
    np.testing.assert_array_equal(s.cell, CELL)
    assert s.periodic.all()
    assert any("read as Lattice" in n for n in data.sources[0].notes) == (key != "Lattice")


@pytest.mark.parametrize("key", ["pbc", "PBC", "Pbc"])
def test_flags(given, key):
    (s,) = read(given(f'Lattice="{NINE}" {COLUMNS} {key}="T T F"'))
    assert s.periodic.tolist() == [True, True, False]


def test_columns_in_lower_case(given):
    (s,) = read(given(f'lattice="{NINE}" {COLUMNS.replace("P", "p")} energy=-7.5'))
    assert set(s.labels) == {"energy", "forces"}


@pytest.mark.parametrize("key", ["cell", "Cell", "unit_cell", "box", "Latice", "lattice_vectors"])
def test_other_names_of_the_cell_are_refused(given, key):
    with pytest.raises(InputError, match="not how extended XYZ names the cell"):
        read(given(f'{key}="{NINE}" {COLUMNS} energy=-7.5'))


@pytest.mark.parametrize("flags", ['periodic="T T F"', "boundary='p p f'", "periodicity=[T,T,F]"])
def test_other_names_of_the_flags_are_refused(given, flags):
    with pytest.raises(InputError, match="periodic flags"):
        read(given(f'Lattice="{NINE}" {COLUMNS} {flags}'))


def test_a_key_that_only_looks_like_the_cell(given):
    """Beside a Lattice, other keys may mean what they like."""
    (s,) = read(given(f'Lattice="{NINE}" {COLUMNS} cell="1 2 3" periodic=very'))
    assert s.info["cell"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        (f'Lattice="{NINE}" lattice="{NINE}" {COLUMNS}', "Lattice occurs twice"),
        (f"{COLUMNS} energy=-7.5 energy=-9.5", "comment line"),
        ("Properties=species:S:1:pos:R:3:forces:R:3:forces:R:3", "a column occurs twice"),
        (f'Lattice="a b c" {COLUMNS}', "Lattice cannot be read"),
        (f"Lattice= {COLUMNS}", "Lattice cannot be read"),
        (f"{COLUMNS} energy=", "the label energy is not a number"),
        (f"{COLUMNS} energy=None", "the label energy is not a number"),
        (f"{COLUMNS} energy=T", "the label energy is not a number"),
        (f"{COLUMNS} energy", "the label energy is not a number"),
        ('cell_parameters="4 4 4 90 90 90"', "names the cell"),
    ],
)
def test_what_contradicts_itself_is_refused(given, comment, message):
    rows = ROWS if "forces:R:3:forces" not in comment else "Cu 0 0 0 1 2 3 4 5 6\n"
    with pytest.raises(InputError, match=message) as caught:
        read(given(comment, rows))
    assert str(caught.value.where).endswith("line 2")


def test_an_empty_value_swallows_nothing(given):
    (s,) = read(given(f'config_type= Lattice="{NINE}" {COLUMNS} comment= energy=-7.5'))
    assert s.config_type == "Default"
    assert s.info["comment"] == ""
    assert float(s.labels["energy"]) == -7.5
    assert s.periodic.all()


def test_exponents_and_truths_of_fortran(given):
    (s,) = read(
        given(
            "Properties=species:S:1:pos:R:3:move_mask:L:1:forces:R:3 energy=-0.75D+01",
            "Cu 0 0 0 TRUE 1.0D-01 0.2 0.3\nAl 2 2 2.1d0 FALSE -1.0d-1 -0.2 -0.3\n",
        )
    )
    assert float(s.labels["energy"]) == -7.5
    assert s.labels["forces"][:, 0].tolist() == [0.1, -0.1]
    assert s.arrays["move_mask"].tolist() == [True, False]


@pytest.mark.parametrize("key", ["stress", "REF_stress"])
@pytest.mark.parametrize(
    "value",
    [
        "[[0.01,0.001,0.002],[0.001,0.02,0.003],[0.002,0.003,0.03]]",
        '"0.01 0.001 0.002 0.001 0.02 0.003 0.002 0.003 0.03"',
        '"0.01 0.02 0.03 0.003 0.002 0.001"',
        '"_JSON [[0.01,0.001,0.002],[0.001,0.02,0.003],[0.002,0.003,0.03]]"',
    ],
)
def test_stresses(given, key, value):
    (s,) = read(given(f'Lattice="{NINE}" {COLUMNS} {key}={value}'))
    expected = [[0.01, 0.001, 0.002], [0.001, 0.02, 0.003], [0.002, 0.003, 0.03]]
    np.testing.assert_allclose(s.labels["stress"], expected, atol=1e-15)


@pytest.mark.parametrize("name", ["element", "symbols", "elements"])
def test_other_names_of_the_elements(given, name):
    (s,) = data = read(given(f"Properties={name}:S:1:pos:R:3:forces:R:3"))
    assert s.symbols == ["Cu", "Al"]
    assert f"the column {name} was read as species" in data.sources[0].notes[0]


def test_columns_that_say_different_elements(given):
    with pytest.raises(InputError, match="different elements") as caught:
        read(given("Properties=species:S:1:Z:I:1:pos:R:3", "Cu 29 0 0 0\nAl 14 0 0 2\n"))
    assert str(caught.value.where).endswith("line 4")


def test_plain_xyz_has_four_columns(given):
    """The specification: without Properties, columns after the fourth are not read."""
    (s,) = data = read(given("water's oxygen (first", "O 0 0 0 0.4 x\nH 0 0 1 -0.2 y\n"))
    assert s.symbols == ["O", "H"]
    assert not s.labels
    assert not s.arrays
    assert "after the fourth" in data.sources[0].notes[0]


@pytest.mark.parametrize(("symbol", "fix"), [("D", "isotope"), ("X", "ghost"), ("Q", "correct")])
def test_what_is_no_element(given, symbol, fix):
    with pytest.raises(InputError, match="not a chemical element") as caught:
        read(given("", f"O 0 0 0\n{symbol} 0 0 1\n"))
    assert fix in str(caught.value.fix)


def test_latin_1(tmp_path):
    path = tmp_path / "x.xyz"
    path.write_bytes("1\ncomment=Ångström\nH 0 0 0\n".encode("latin-1"))
    with pytest.raises(InputError, match="not in UTF-8") as caught:
        read(path)
    assert str(caught.value.where).endswith("line 2")
    assert "0xc5" in str(caught.value.received)
