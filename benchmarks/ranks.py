"""How encoding spreads over the GPUs of a machine: `extract` by one process, then by several under torchrun.

python -m benchmarks.ranks --data FOLDER --model random-vitl --precision bf16 --epochs 20 --json ranks.json
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import common
from vjepa_mlflow.model import choose_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="demo")
    parser.add_argument("--model", default="tiny", help=f"a checkpoint, or {common.RANDOM_VITL}")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json")
    options = parser.parse_args()

    model = common.random_vitl().folder if options.model == common.RANDOM_VITL else options.model
    command = ["-m", "vjepa_mlflow", "extract", "--data", options.data, "--model", str(model)]
    command += ["--precision", options.precision, "--epochs", str(options.epochs)]
    runs = []
    stores = []
    for processes in (1, options.processes):
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        with tempfile.TemporaryDirectory() as cache:
            rates = extract([sys.executable, *launcher, *command], cache)
            stores.append(content(Path(cache)))
        run = {"processes": processes, "clips": len(stores[-1]), "clips_per_second": sum(rates)}
        print(run, flush=True)
        runs.append(run)
    outcome = {
        "times_faster": runs[1]["clips_per_second"] / runs[0]["clips_per_second"],
        "same_bytes": stores[0] == stores[1],
    }
    print(outcome)
    about = {"machine": common.machine(choose_device("auto")), "precision": options.precision}
    common.write_json(options.json, {**about, "runs": runs, **outcome})


def extract(command: list[str], cache: str) -> list[float]:
    """Fills an empty store and returns the pace of each process, in clips a second."""
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "VJEPA_MLFLOW_CACHE": cache}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return [float(pace) for pace in re.findall(r"encoded \(([\d.]+) clips/s\)", done.stdout)]


def content(cache: Path) -> dict[str, str]:
    """The digest of every stored file."""
    files = (cache / "features").rglob("*.safetensors")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


if __name__ == "__main__":
    main()
