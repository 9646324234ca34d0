"""Trains mace-torch within a budget of time and evaluates it; runs in the peers' environment.

    python train_mace_torch.py TRAIN.extxyz TEST.extxyz --seconds 1800 --threads 2 -o RESULT.json

The peer's side of the accuracy benchmark: what a careful user of mace_run_train would get in the
same time on the same machine. Model, data, losses, optimiser groups, clipping and EMA are mace's
own objects with mace_run_train's defaults and the options its documentation recommends (E0s
"average", amsgrad, EMA 0.99, stage two). mace_run_train counts epochs and cannot be given a time,
so the loop is ours, and departs from its defaults only where that helps the peer:

- the learning rate falls with the elapsed share of the budget (mace's ReduceLROnPlateau waits 50
  epochs, longer than the whole budget): exponentially from `lr` to `stage_two_lr` during stage one,
  linearly to a twentieth of that during stage two;
- stage two (energy weight 1000, as mace has it) begins at 75 % of the budget;
- the budget is processor time where it is one thread, which another process on the machine's
  other core hardly changes, and wall time where there are several;
- E0s are subtracted in float64 before anything is cast: mace adds them in the network's dtype,
  which in float32 rounds the energy of aspirin to 2 meV. The same function, better arithmetic.

Test frames are read after training. The budget covers set-up, training and validation, not the
imports and not the test. SIGTERM and SIGINT end training early; what is there is evaluated.

Give it an idle machine: torch's OpenMP threads spin while they wait for each other, and one busy
neighbour can make a step tens of times slower. step_seconds_p90 far above the median shows it.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np


class Stop:
    """Set by SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self.requested = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._request)

    def _request(self, number: int, _: Any) -> None:
        self.requested = True
        print(f"signal {number}: training ends after this step", file=sys.stderr, flush=True)


def read_configurations(path: Path) -> list[Any]:
    """mace Configurations with REF_energy and REF_forces; every frame must have both."""
    import ase.io
    from mace import data

    keys = data.KeySpecification(
        info_keys={"energy": "REF_energy"}, arrays_keys={"forces": "REF_forces"}
    )
    frames = ase.io.read(path, index=":")
    for i, atoms in enumerate(frames):
        if "REF_energy" not in atoms.info or "REF_forces" not in atoms.arrays:
            raise ValueError(f"{path}, frame {i}: expected REF_energy and REF_forces")
    return [data.config_from_atoms(atoms, key_specification=keys) for atoms in frames]


def subtract_e0s(configurations: list[Any], e0s: dict[int, float]) -> None:
    """Takes the free atoms' energies out of the labels, in float64."""
    for c in configurations:
        c.properties["energy"] -= sum(e0s[int(z)] for z in c.atomic_numbers)


def make_graphs(configurations: list[Any], table: Any, r_max: float) -> list[Any]:
    """mace AtomicData of each configuration."""
    from mace import data

    return [data.AtomicData.from_config(c, z_table=table, cutoff=r_max) for c in configurations]


def learning_rate(share: float, lr: float, stage_two_lr: float, start: float) -> float:
    """Learning rate when `share` of the budget has passed; stage two begins at `start`."""
    if share < start:
        return lr * (stage_two_lr / lr) ** (share / start)
    remaining = min(max((1.0 - share) / (1.0 - start), 0.0), 1.0)
    return stage_two_lr * (0.05 + 0.95 * remaining)


def errors(model: Any, loader: Any, loss_function: Any | None = None) -> dict[str, float]:
    """Mean absolute and root mean square errors in meV and meV/Å, and the mean loss."""
    energy, forces, losses = [], [], []
    for batch in loader:
        out = model(batch.to_dict(), training=False, compute_force=True)
        energy.append((out["energy"] - batch.energy).detach().double().numpy())
        forces.append((out["forces"] - batch.forces).detach().double().numpy().ravel())
        if loss_function is not None:
            losses.append(float(loss_function(pred=out, ref=batch).detach()) * batch.num_graphs)
    e, f = 1e3 * np.concatenate(energy), 1e3 * np.concatenate(forces)
    result = {
        "energy_mae_mev": float(np.abs(e).mean()),
        "energy_rmse_mev": float(np.sqrt((e**2).mean())),
        "force_mae_mev_A": float(np.abs(f).mean()),
        "force_rmse_mev_A": float(np.sqrt((f**2).mean())),
    }
    if losses:
        result["loss"] = sum(losses) / len(e)
    return result


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Trains within the budget, evaluates on the test file; returns the document to write."""
    import torch
    from mace import data, modules
    from mace.tools import AtomicNumberTable, scripts_utils, torch_geometric
    from torch_ema import ExponentialMovingAverage

    from e3nn import o3  # isort: skip  after mace, see mace_models

    stop = Stop()
    clock = time.process_time if args.threads == 1 else time.perf_counter
    began, began_wall = clock(), time.perf_counter()
    torch.set_num_threads(args.threads)
    torch.set_default_dtype(getattr(torch, args.dtype))
    torch.manual_seed(args.seed)
    loader_class = torch_geometric.dataloader.DataLoader

    configurations = read_configurations(args.train)
    table = AtomicNumberTable(sorted({int(z) for c in configurations for z in c.atomic_numbers}))
    e0s = {int(z): float(e) for z, e in data.compute_average_E0s(configurations, table).items()}
    order = np.random.default_rng(args.seed).permutation(len(configurations))
    held_out = max(1, round(args.valid_fraction * len(configurations)))
    subtract_e0s(configurations, e0s)
    graphs = make_graphs(configurations, table, args.r_max)
    valid_graphs = [graphs[i] for i in order[:held_out]]
    train_graphs = [graphs[i] for i in order[held_out:]]
    generator = torch.Generator().manual_seed(args.seed)
    train_loader = loader_class(
        train_graphs,
        batch_size=args.batch_size,
        shuffle=True,
        drop_last=True,
        generator=generator,
    )
    valid_loader = loader_class(valid_graphs, batch_size=10, shuffle=False, drop_last=False)

    zero_energies = np.zeros((1, len(table)))
    neighbors = modules.compute_avg_num_neighbors(train_loader)
    _, scale = modules.scaling_classes["rms_forces_scaling"](train_loader, zero_energies)
    model = modules.ScaleShiftMACE(  # what --model="MACE" builds
        r_max=args.r_max,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
        num_interactions=2,
        num_elements=len(table),
        hidden_irreps=o3.Irreps(args.hidden_irreps),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=zero_energies,
        avg_num_neighbors=neighbors,
        atomic_numbers=table.zs,
        correlation=3,
        gate=modules.gate_dict["silu"],
        use_reduced_cg=False,
        radial_MLP=[64, 64, 64],
        radial_type="bessel",
        heads=["Default"],
        atomic_inter_scale=float(np.asarray(scale).ravel()[0]),
        atomic_inter_shift=0.0,
    )
    options = SimpleNamespace(
        lr=args.lr,
        weight_decay=5e-7,
        amsgrad=True,
        beta=0.9,
        freeze=None,
        lr_params_factors="{}",
        optimizer="adam",
    )
    optimizer = scripts_utils.get_optimizer(
        options, scripts_utils.get_params_options(options, model)
    )
    ema = ExponentialMovingAverage(model.parameters(), decay=0.99)
    stages = [
        modules.WeightedEnergyForcesLoss(energy_weight=1.0, forces_weight=args.forces_weight),
        modules.WeightedEnergyForcesLoss(
            energy_weight=args.stage_two_energy_weight, forces_weight=args.forces_weight
        ),
    ]

    def elapsed() -> float:
        return clock() - began

    steps = epochs = 0
    step_seconds: list[float] = []
    stage = 0
    best_loss, best_state = math.inf, None
    history: list[dict[str, float]] = []
    validate_at = validation_every = max(args.seconds / 40.0, 5.0)
    last_loss = math.nan
    print(
        f"{len(train_graphs)} frames to train, {held_out} to validate; "
        f"set-up took {elapsed():.1f} s",
        file=sys.stderr,
        flush=True,
    )

    def validate() -> None:
        nonlocal best_loss, best_state
        for parameter in model.parameters():
            parameter.requires_grad = False
        with ema.average_parameters():
            result = errors(model, valid_loader, stages[stage])
            if result["loss"] < best_loss:
                best_loss, best_state = result["loss"], copy.deepcopy(model.state_dict())
        for parameter in model.parameters():
            parameter.requires_grad = True
        entry = {"seconds": elapsed(), "steps": steps, "epochs": epochs, "stage": stage + 1}
        history.append({**entry, "train_loss": last_loss, **result})
        print(
            f"{elapsed():7.1f} s  stage {stage + 1}  epoch {epochs}  step {steps}  "
            f"lr {optimizer.param_groups[0]['lr']:.1e}  loss {last_loss:.4g}  valid: forces "
            f"{result['force_mae_mev_A']:.2f} meV/Å, energy {result['energy_mae_mev']:.2f} meV",
            file=sys.stderr,
            flush=True,
        )

    # Parameters that take no gradient (zeroed paths) stay so: mace marks them EmptyParam, whose
    # requires_grad_ does nothing, but assigning requires_grad would; keep them out of the toggle.
    assert all(p.requires_grad for p in model.parameters()), "expected no zeroed product path"
    while not stop.requested and elapsed() < args.seconds:
        for batch in train_loader:
            share = elapsed() / args.seconds
            if share >= 1.0 or stop.requested:
                break
            if stage == 0 and share >= args.stage_two_start:
                validate()
                stage, best_loss = 1, math.inf
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(share, args.lr, args.stage_two_lr, args.stage_two_start)
            step_began = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            output = model(batch.to_dict(), training=True, compute_force=True)
            loss = stages[stage](pred=output, ref=batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
            optimizer.step()
            ema.update()
            last_loss = float(loss.detach())
            steps += 1
            step_seconds.append(time.perf_counter() - step_began)
            if elapsed() >= validate_at:
                validate()
                validate_at = elapsed() + validation_every
        else:
            epochs += 1
    if steps and (not history or history[-1]["steps"] < steps):
        validate()
    spent, wall = elapsed(), time.perf_counter() - began_wall

    if best_state is not None:
        model.load_state_dict(best_state)
    for parameter in model.parameters():
        parameter.requires_grad = False
    test = read_configurations(args.test)
    subtract_e0s(test, e0s)
    test_loader = loader_class(
        make_graphs(test, table, args.r_max), batch_size=10, shuffle=False, drop_last=False
    )
    result = errors(model, test_loader)
    if args.model_out is not None:
        energies = torch.tensor([[e0s[z] for z in table.zs]], dtype=torch.float64)
        model.atomic_energies_fn.atomic_energies = energies
        torch.save(model, args.model_out)
    return {
        **result,
        "steps": steps,
        "epochs": epochs,
        "budget_spent_seconds": spent,
        "wall_seconds": wall,
        "step_seconds_median": float(np.median(step_seconds)) if steps else None,
        "step_seconds_p90": float(np.quantile(step_seconds, 0.9)) if steps else None,
        "stopped_by_signal": stop.requested,
        "params": sum(p.numel() for p in model.parameters()),
        "test_frames": len(test),
        "train_frames": len(train_graphs),
        "valid_frames": held_out,
        "history": history,
        "settings": {
            "train": args.train.name,
            "test": args.test.name,
            "budget_seconds": args.seconds,
            "threads": args.threads,
            "dtype": args.dtype,
            "seed": args.seed,
            "hidden_irreps": args.hidden_irreps,
            "r_max": args.r_max,
            "num_bessel": 8,
            "num_polynomial_cutoff": 5,
            "max_ell": 3,
            "correlation": 3,
            "num_interactions": 2,
            "radial_MLP": [64, 64, 64],
            "MLP_irreps": "16x0e",
            "batch_size": args.batch_size,
            "optimizer": "adam, amsgrad, mace's parameter groups, weight decay 5e-7, clip 10",
            "lr": args.lr,
            "stage_two_lr": args.stage_two_lr,
            "stage_two_start": args.stage_two_start,
            "energy_weight": 1.0,
            "forces_weight": args.forces_weight,
            "stage_two_energy_weight": args.stage_two_energy_weight,
            "ema_decay": 0.99,
            "E0s": "average, subtracted in float64",
            "scaling": "rms_forces_scaling",
            "scale": float(np.asarray(scale).ravel()[0]),
            "avg_num_neighbors": float(neighbors),
            "evaluated": "EMA parameters with the lowest validation loss of the last stage",
        },
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("-o", "--out", type=Path, help="JSON file; stdout when not given")
    parser.add_argument("--model-out", type=Path, help="save the evaluated model here (.model)")
    parser.add_argument("--hidden-irreps", default="64x0e")
    parser.add_argument("--r-max", type=float, default=5.0)
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--stage-two-lr", type=float, default=0.001)
    parser.add_argument("--stage-two-start", type=float, default=0.75, help="share of the budget")
    parser.add_argument("--forces-weight", type=float, default=100.0)
    parser.add_argument("--stage-two-energy-weight", type=float, default=1000.0)
    parser.add_argument("--valid-fraction", type=float, default=0.05)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--seed", type=int, default=123)
    args = parser.parse_args(arguments)
    from mace_models import quiet
    from protocol import guard_stdout

    answers = guard_stdout()  # mace prints on import
    quiet()
    document = train(args)
    text = json.dumps(document, indent=1)
    if args.out is None:
        answers.write(text + "\n")
    else:
        temporary = args.out.with_suffix(args.out.suffix + ".part")
        temporary.write_text(text + "\n")
        temporary.replace(args.out)
    print(
        f"test: forces {document['force_mae_mev_A']:.2f} meV/Å, energy "
        f"{document['energy_mae_mev']:.2f} meV after {document['steps']} steps",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
