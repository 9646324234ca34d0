"""How labels were computed: what files say, and what is given for what they leave out."""

from kohn.structures.provenance import UNKNOWN, Provenance, filled


def test_what_is_given_fills_what_files_do_not_say_and_nothing_else():
    given = Provenance("r2SCAN", "none", "QE")
    assert filled(Provenance("PBE", UNKNOWN, "VASP"), given) == Provenance("PBE", "none", "VASP")
    assert filled(Provenance(UNKNOWN, UNKNOWN, UNKNOWN), given) == given
    nothing = Provenance(UNKNOWN, UNKNOWN, UNKNOWN)
    assert filled(given, nothing) == given
