"""A calculator in a process of its own: the same numbers, its precision, its errors, its death."""

import signal
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import planted
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from planted import MOLECULE, Planted

import kohn
from kohn.audits import CalculatorProcess
from kohn.audits.counted_calculator import CountedCalculator, atoms_of
from kohn.errors import ConfigError, InputError
from kohn.interfaces.calculator_process import Raised

pytestmark = pytest.mark.slow

MODULE = '''
    """Calculators for the tests, beside the structures."""

    import os

    import numpy as np
    from ase.calculators.emt import EMT
    from ase.calculators.lj import LennardJones


    class Jax(EMT):
        """Refuses to compute in another precision than JAX has by default."""

        def calculate(self, *args, **options):
            import jax
            import jax.numpy as jnp

            if jax.config.jax_enable_x64 or jnp.asarray(np.ones(3)).dtype != jnp.float32:
                raise TypeError("expected float32")
            super().calculate(*args, **options)


    class Dying(EMT):
        """Ends the process on more atoms than four."""

        def calculate(self, *args, **options):
            super().calculate(*args, **options)
            if len(self.atoms) > 4:
                os.abort()


    class Moving(EMT):
        """Moves what it is given."""

        def calculate(self, atoms=None, *others, **options):
            super().calculate(atoms, *others, **options)
            atoms.positions += 0.01


    class Failing(EMT):
        def calculate(self, *args, **options):
            raise ValueError("no [bold]such[/] thing: \\u00c5\\nand more")


    def dead():
        os._exit(7)
'''


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """Modules of the user's own, in the folder where the command was given."""
    (tmp_path / "own.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)


def copper():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def test_it_answers_the_same_numbers_and_counts_the_same_calls():
    laws = ["rotation", "supercell", "determinism", "forces", "fragments"]
    here = kohn.audit(EMT(), copper(), laws=laws)
    with CalculatorProcess("ase.calculators.emt:EMT", {"asap_cutoff": False}) as calculator:
        there = kohn.audit(calculator, copper(), laws=laws)
    assert there.records == here.records
    assert there.header["calculator"] == "ase.calculators.emt:EMT"


@pytest.mark.usefixtures("beside")
def test_jax_is_as_it_ships():
    with CalculatorProcess("own:Jax") as calculator:
        assert kohn.audit(calculator, copper(), laws=["rotation"]).ok
    assert jnp.asarray(np.ones(3)).dtype == jnp.float64


@pytest.mark.usefixtures("beside")
def test_errors_come_with_their_text():
    with (
        CalculatorProcess("own:Failing") as calculator,
        pytest.raises(InputError, match=r"ValueError: no \[bold\]such\[/\] thing: Å\n"),
    ):
        kohn.audit(calculator, copper(), laws=["rotation"])


@pytest.mark.usefixtures("beside")
def test_what_it_does_to_atoms_is_seen():
    with CalculatorProcess("own:Moving") as calculator:
        found = kohn.audit(calculator, copper(), laws=["mutation"])
    assert found.failed == ("mutation",)
    assert found.rows[0]["violation"] > 0.009


@pytest.mark.usefixtures("beside")
def test_a_process_that_dies_is_started_again():
    with CalculatorProcess("own:Dying") as calculator:
        found = kohn.audit(calculator, copper(), laws=["supercell", "rotation", "net-force"])
    verdicts = {r["law"]: (r["verdict"], r["note"]) for r in found.records}
    assert verdicts["supercell"] == (
        "not measured",
        "the calculator raised its process ended by the signal SIGABRT",
    )
    assert verdicts["rotation"][0] == verdicts["net-force"][0] == "passed"


@pytest.mark.usefixtures("beside")
@pytest.mark.parametrize(
    ("name", "arguments", "kind", "said"),
    [
        ("own:dead", {}, InputError, "its process ended with the exit code 7"),
        ("own:Jax", {"asap_cutof": True}, ConfigError, "did you mean 'asap_cutoff'?"),
        ("own", {}, ConfigError, "module:Class"),
    ],
)
def test_what_cannot_be_made(name, arguments, kind, said):
    with pytest.raises(kind) as error:
        CalculatorProcess(name, arguments)
    assert said in str(error.value)


def test_it_ends_with_its_owner():
    """Closed, or because its owner was killed: then its end of the pipe closes."""
    with CalculatorProcess("ase.calculators.emt:EMT") as calculator:
        process = calculator._process
        assert process is not None
        assert process.poll() is None
    assert process.poll() is not None
    orphan = CalculatorProcess("ase.calculators.emt:EMT")._process
    assert orphan is not None
    assert orphan.stdin is not None
    orphan.stdin.close()
    assert orphan.wait(30) == 0


@pytest.mark.usefixtures("beside")
def test_control_c_ends_it_without_a_word(capfd):
    """The terminal sends it to both; what the command then says is its own."""
    process = CalculatorProcess("ase.calculators.emt:EMT")._process
    assert process is not None
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == -signal.SIGINT
    assert capfd.readouterr().err == ""


def test_the_worker_does_not_import_kohn():
    """That is what it is for."""
    from kohn.interfaces import worker

    code = f"import runpy, sys; runpy.run_path({worker.__file__!r}); print(sorted(sys.modules))"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd="/"
    )
    assert "'numpy'" in said.stdout
    assert "'kohn" not in said.stdout
    assert "'jax" not in said.stdout


def test_atoms_go_and_come_as_they_are():
    """Charges, spins and arrays too."""
    atoms = atoms_of(MOLECULE)
    atoms.info |= {"charge": 1, "name": "a [b] Å", "vector": np.arange(3)}
    atoms.set_initial_magnetic_moments([1, 0, 0, -1])
    with CalculatorProcess("ase.calculators.lj:LennardJones") as calculator:
        said = calculator.answer(atoms, ("forces", "energy"))
        assert said["forces"].shape == (4, 3)
        assert CountedCalculator(calculator)(MOLECULE).stress is None
        calculator._process.kill()  # type: ignore[union-attr]
        with pytest.raises(Raised, match="SIGKILL"):
            calculator.answer(atoms, ("energy",))
        assert calculator.answer(atoms, ("energy",))["energy"] == said["energy"]


class WithJax(Planted):
    """The module of this class imports JAX."""


def test_a_calculator_of_jax_in_this_process_is_warned_of():
    with pytest.warns(UserWarning, match="WithJax is written with JAX"):
        kohn.audit(WithJax(planted.honest), MOLECULE, laws=["net-force"])


@pytest.mark.filterwarnings("error:.* is written with JAX")
def test_others_are_not():
    kohn.audit(EMT(), copper(), laws=["net-force"])
    kohn.audit(Planted(planted.honest), MOLECULE, laws=["net-force"])
