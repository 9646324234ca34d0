"""A Gaussian process beside gap_fit: `python -m benchmarks.gaussian_process`.

Both learn energies and forces of the same rMD17 ethanol frames (of $KOHN_DATA, default
../shared/data) with the same SOAP (n_max 8, l_max 6, r_c 5 Å, σ 0.4 Å, ζ 4), the same number of
inducing environments, on one core, each as its users run it: `kohn train` and `gap_fit`, in
processes of their own, in turn; CPU seconds and peak memory are those of the whole process. Then
both predict energies and forces of test frames one by one as ASE calculators, in turn, medians
over the frames; Kohn also in batches. `make peers` makes the peer's environment;
KOHN_PEERS_DESCRIPTORS names another python; where it is not installed, Kohn is measured alone.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import (
    DATA,
    FOLDERS,
    PEERS,
    ROOT,
    installed,
    machine,
    need_data,
    parsed,
    parser_of,
    write_results,
    write_text,
)

TEST_FRAMES = 200
SOAP = {"r_cut": 5.0, "n_max": 8, "l_max": 6, "sigma": 0.4}


def folder() -> Path:
    """Where files of this benchmark lie."""
    path = FOLDERS.work / "gaussian-process"
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_frames(name: str, source: str, frames: slice) -> Path:
    """Frames with labels under the names that both programs are told."""
    from ase.io import read, write

    chosen = []
    for atoms in read(DATA / "rmd17" / source, ":")[frames]:
        atoms.info = {"REF_energy": float(atoms.info["REF_energy"])}
        del atoms.arrays["MD17_forces"]
        chosen.append(atoms)
    path = folder() / f"{name}.xyz"
    write(path, chosen, format="extxyz")
    return path


def kohn_command(train: Path, valid: Path, points: int) -> tuple[list[str], Path]:
    """`kohn train` and the model that it makes."""
    settings = {
        "data": {"train": [str(train)], "valid": [str(valid)]},
        "model": {
            "family": "gaussian-process",
            "soap": {**SOAP, "scaling_radius": 2.5},
            "inducing": points,
        },
        "run": {"threads": 1},
    }
    file, out = folder() / "train.yaml", folder() / "kohn"
    write_text(file, json.dumps(settings))
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "kohn.cli", "train", str(file), "--out", str(out)]
    return command, out / "model.safetensors"


def peer_command(train: Path, points: int) -> tuple[list[str], Path]:
    """`gap_fit` and the model that it makes."""
    model = folder() / "gap.xml"
    soap = (
        f"soap l_max={SOAP['l_max']} n_max={SOAP['n_max']} atom_sigma={SOAP['sigma']} zeta=4 "
        f"cutoff={SOAP['r_cut']} cutoff_transition_width=1.0 n_sparse={points // 3} delta=1.0 "
        "covariance_type=dot_product sparse_method=cur_points add_species=T"
    )
    command = [
        str(Path(PEERS["descriptors"].python).with_name("gap_fit")),
        "energy_parameter_name=REF_energy",
        "force_parameter_name=REF_forces",
        f"at_file={train}",
        f"gap={{{soap}}}",
        "default_sigma={0.001 0.05 0 0}",
        "e0_method=average",
        "do_copy_at_file=F",
        "sparse_separate_file=F",
        f"gp_file={model}",
    ]
    return command, model


def measured(command: list[str]) -> dict[str, float]:
    """CPU and wall seconds and peak memory of a process."""
    started = time.perf_counter()
    with (folder() / f"{Path(command[0]).name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed: see {log.name}")
    return {
        "wall": time.perf_counter() - started,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024.0,
    }


PREDICT = """
import json, sys, time
from ase.io import read
{imported}
calculator, rows = {calculator}, []
for atoms in read(sys.argv[2], ":"):
    asked, energy = atoms.arrays["REF_forces"], atoms.info["REF_energy"]
    atoms.calc = calculator
    started = time.process_time()
    forces, found = atoms.get_forces(), atoms.get_potential_energy()
    rows.append([time.process_time() - started, float(abs(forces - asked).mean()), found - energy])
print(json.dumps(rows))
"""
PREDICT_KOHN = PREDICT.format(imported="import kohn", calculator="kohn.Calculator(sys.argv[1])")
PREDICT_PEER = PREDICT.format(
    imported="from quippy.potential import Potential",
    calculator="Potential(param_filename=sys.argv[1])",
)


def predicted(python: str | Path, script: str, model: Path, test: Path) -> dict[str, float]:
    """Microseconds an atom and errors, frame by frame."""
    command = [str(python), "-c", script, str(model), str(test)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    seconds, forces, energies = np.array(json.loads(done.stdout.splitlines()[-1])).T
    return {
        "microseconds": 1e6 * median(seconds) / 9,
        "forces": 1e3 * float(forces.mean()),
        "energy": 1e3 * float(np.abs(energies - np.median(energies)).mean()),
    }


def batched(model: Path, test: Path) -> float:
    """Microseconds an atom of Kohn in batches, neighbour search included."""
    import kohn

    potential, frames = kohn.load(model), kohn.read(test)
    structures = list(frames)
    potential.predict(structures)
    seconds = []
    for _ in range(5):
        started = time.process_time()
        potential.predict(structures)
        seconds.append(time.process_time() - started)
    return 1e6 * median(seconds) / sum(map(len, structures))


def table(rows: list[dict[str, Any]], in_batches: float) -> str:
    """The measurements in Markdown."""
    lines = [
        "| who | frames | inducing environments | fit, CPU s | peak memory, GiB | force MAE, meV/Å "
        "| energy MAE, meV | E and F, µs an atom |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r['who']} | {r['frames']} | {r['points']} | {r['cpu']:.0f} | "
        f"{r['peak_bytes'] / 2**30:.2f} | {r['forces']:.1f} | {r['energy']:.2f} | "
        f"{r['microseconds']:.0f} |"
        for r in rows
    ]
    return "\n".join([*lines, "", f"Kohn in batches: {in_batches:.0f} µs an atom.", ""])


def main() -> None:
    """Measure and write benchmarks/results/gaussian_process.md."""
    parser = parser_of(__doc__)
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--points", type=int, default=1500)
    arguments = parsed(parser)
    if arguments.quick:
        arguments.frames, arguments.points = 50, 60
    need_data("rmd17/ethanol_train.extxyz", "rmd17/ethanol_test.extxyz")
    peers = installed("descriptors")
    m = machine(peers)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ["OMP_NUM_THREADS"] = "1"
    n = arguments.frames
    train = write_frames("train", "ethanol_train.extxyz", slice(n))
    valid = write_frames("valid", "ethanol_train.extxyz", slice(n, n + 20))
    test = write_frames("test", "ethanol_test.extxyz", slice(TEST_FRAMES))
    rows, models = [], {}
    sides = [("Kohn", kohn_command(train, valid, arguments.points), sys.executable, PREDICT_KOHN)]
    if peers:
        python = PEERS["descriptors"].python
        sides.append(("gap_fit", peer_command(train, arguments.points), python, PREDICT_PEER))
    for who, (command, model), python, script in sides:
        spent = measured(command)
        found = predicted(python, script, model, test)
        rows.append({"who": who, "frames": n, "points": arguments.points, **spent, **found})
        models[who] = model
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    in_batches = batched(models["Kohn"], test)
    measurements = {"rows": rows, "microseconds_in_batches": in_batches}
    write_results("gaussian_process", m, measurements, table(rows, in_batches))


if __name__ == "__main__":
    main()
