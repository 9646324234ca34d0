"""Writes benchmarks/README.md from benchmarks/results: `python -m benchmarks.collect`."""

from pathlib import Path

HERE = Path(__file__).parent
HEAD = """# Benchmarks

Every table is written by the command above it; `python -m benchmarks.collect` puts them together.
The peers' environments come from `make peers`, the data from `$KOHN_DATA` (default
`../shared/data`).
"""
SECTIONS = {
    "speed": (
        "Speed beside mace-torch and mlip",
        "python -m benchmarks.speed --rounds 3 --repeats 10 --compiled",
        "Two layers, l_max 3, correlation 3, 64 scalar channels, 8 Bessel functions, radial "
        "network 64-64-64, r_c 5 Å, float32, random weights. Kohn and mace-torch 0.3.16 evaluate "
        "the same function with the same weights; Kohn's parameters are fewer because mace-torch "
        "keeps linearly dependent products. mlip 0.2.5 has its own weights of the same shape. "
        "All sides in one run on an idle machine, asked in turn; medians. mace-torch runs in the "
        "fastest of its modes: eager, scripted, torch.compile (with and without its threads "
        "parked); the faster of eager and scripted, which is how it is commonly used, stands "
        "beside it.",
    ),
    "memory": (
        "Large systems",
        "python -m benchmarks.memory",
        "The same network on rattled silicon, through the ASE calculator, neighbour search "
        "included.",
    ),
    "accuracy": (
        "Accuracy on real data",
        "python -m benchmarks.accuracy ethanol aspirin acac silicon ethanol-gp aspirin-gp "
        "silicon-gp; "
        "python -m benchmarks.accuracy --table",
        "rMD17: official split 01, 950 frames to learn from, 50 to validate, 1000 to test. "
        "float32, one core each, times are processor times. mace-torch had the processor time of "
        "our run, the same cutoff, channels, degrees and batch, its own optimiser and a learning "
        "rate that falls over the time given; its E0s are subtracted in float64. "
        "On aspirin it was stopped after 91 % of that time.\n\n"
        "What more time promises: the validation force error of aspirin fell as 23.9, 16.3, 14.1, "
        "13.1, 12.6, 12.4 meV/Å at 5,700, 15,200, 24,700, 34,200, 43,700 and 66,500 steps under "
        "one cosine, and from 15.4 to 12.2 on the test frames between a run of 28,500 steps and "
        "one of 66,500: steps to the power −0.27, so 10 meV/Å would take about twice as long and "
        "the published 6.6 (256 channels, on GPUs) a wider network. Ethanol is different: its "
        "validation error has been flat (4.5 meV/Å) for the last third, and the RMSE is 3.5 on "
        "training, 6.6 on validation and 8.9 meV/Å on test frames: more steps promise nothing "
        "there, more width or regularisation does.\n\n"
        "silicon: yz and xz of the stress are put right in all but the elastic frames "
        "(`put_right`); with the labels as published the same run has a stress error of "
        "0.344 GPa, energy 2.0 meV/atom and forces 55.3 meV/Å.\n\n"
        "-gp: `model: gaussian-process`, 3000 inducing environments (aspirin: 4000), all else by "
        "default. Published GAP, recalled: ethanol 18, aspirin 45 meV/Å.",
    ),
    "descriptors": (
        "SOAP beside DScribe and featomic",
        "python -m benchmarks.descriptors",
        "",
    ),
    "gaussian_process": (
        "A Gaussian process beside gap_fit",
        "python -m benchmarks.gaussian_process",
        "500 frames of rMD17 ethanol with energies and forces, 200 test frames, one core. Energy "
        "errors are after the median difference is taken away: gap_fit's E0 is a mean. The "
        "peer's noises are those of its manual, Kohn's are found by marginal likelihood. Larger "
        "runs are in the table of accuracies above (-gp).",
    ),
    "qm7": (
        "Kernel ridge regression on QM7",
        "python -m benchmarks.qm7",
        "",
    ),
    "tensors": (
        "Dipoles and polarizabilities",
        "python -m benchmarks.tensors",
        "TENSOAP's Zundel cations and water molecules, 760 to learn from, 40 to validate, 200 to "
        "test, split at random with seed 0 such that copies stay together (100 of the cations "
        "repeat others); atomic units.",
    ),
    "invariance": (
        "What an invariant model cannot learn",
        "python -m benchmarks.invariance",
        "Error of dipoles of 200 ethanol molecules in random orientations, as a share of the rms "
        "dipole, after learning from so many others.",
    ),
    "constraints": (
        "Hard and soft constraints on forces",
        "python -m benchmarks.constraints",
        "rMD17 ethanol, 950 frames to learn from, 20,000 steps of five, NequIP body of 16 "
        "channels, l_max 2, two layers, r_c 4 Å, float32, one core. Direct forces have their net "
        "force removed. λ weighs ‖J − Jᵀ‖² / 3n, J = ∂F/∂x, beside 100 for forces. "
        "200 test frames; J of 20 of them, loops of 0.05 Å in all coordinates around 10, both in "
        "float64; two simulations of 5 ps from 300 K with steps of 0.5 fs. Drift is the rms slope "
        "of E + K, E the model's own energy.",
    ),
    "angles": (
        "What angles give DimeNet",
        "python -m benchmarks.angles",
        "E = k_r Σ_bonds (r − r_0)² + k_θ Σ_angles (cos θ − cos θ_0)², with k_r 100 eV/Å², r_0 "
        "1.5 Å ± 3 %, k_θ 1 eV, cos θ_0 −1/3; bonds in random directions, independent of their "
        "lengths; r_c 1.875 Å holds bonds and nothing else. The floor is the spread of the second "
        "sum: the error of the best function of the bond lengths alone. SchNet: 64 channels, 3 "
        "interactions (or 6); DimeNet: 32 channels, 16 angular, l_max 5, 2 rounds (ethanol: 3); "
        "NequIP: 8 channels, l_max 2, 3 layers; MACE: 16 channels, l_max 2, 2 layers. Weights of "
        "the loss 10 and 10, learning rate 0.01, seed 0, float32, one core. In ethanol at 1.7 Å "
        "a few hydrogens of the same carbon are within the cutoff too.",
    ),
    "audits": (
        "Audits",
        "python -m benchmarks.audits [MODEL=FILE …]",
        "Largest violation of each law on two structures: rattled copper, water, rattled ethanol; "
        "of silicon two frames of its test file. Bold: fails; –: not measured. Kohn's four "
        "families: small models, trained for 1,000 steps of 5 on 950 frames of rMD17 ethanol. "
        "mace-torch 0.3.16 has random weights.",
    ),
    "families_accuracy": (
        "Accuracy of the families against their cost",
        "python -m benchmarks.accuracy ethanol ethanol-nequip ethanol-dimenet ethanol-schnet; "
        "python -m benchmarks.families_accuracy",
        "rMD17 ethanol, official split 01, each family with the settings of `kohn template train` "
        "and weights 1 and 100 of energy and forces, one core each, float32; the processor times "
        "are between 22 and 34 minutes, less than the forty that twenty minutes of two cores hold. "
        "A call is energy and forces of one molecule through the ASE calculator. MACE is the "
        "default family because of this picture.",
    ),
    "hulls": (
        "Convex hulls beside pymatgen",
        "python -m benchmarks.hulls",
        "",
    ),
    "screening": (
        "Screening",
        "python -m benchmarks.screening",
        "The first two were measured on an idle machine of two cores; the times of the last beside "
        "other work.",
    ),
    "families": (
        "Speed of the families",
        "python -m benchmarks.families",
        "Energy and forces, neighbour lists computed beforehand, all sides of a family in one run, "
        "asked in turn; medians. Kohn and nequip compute the stress too, schnetpack and mlip do "
        "not. SchNet: 128 channels, 3 interactions, 20 Gaussians, r_c 5 Å, beside schnetpack "
        "2.1.1. NequIP: 32 channels of each degree up to 2, natural parity, 4 layers, 8 Bessel "
        "functions, radial network 64-64, r_c 5 Å, beside nequip 0.19.0 (eager is its default, "
        "aoti is what nequip-compile makes; its self-connections multiply by 32 numbers of the "
        "element where Kohn and mlip choose one of 4 matrices, hence its parameters) and mlip "
        "0.2.5. DimeNet has no maintained peer of its shape. Kohn's filters and radial networks "
        "are tables when it predicts; the share of peak counts the operations of the networks that "
        "they stand for.",
    ),
}


def main() -> None:
    """Put the tables that exist into the README."""
    text = [HEAD]
    for name, (title, command, note) in SECTIONS.items():
        path = HERE / "results" / f"{name}.md"
        if path.exists():
            text.append(f"## {title}\n\n`{command}`\n\n{note}\n\n{path.read_text()}")
    (HERE / "README.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
