"""The whole benchmark on tiny sizes: every process starts, every workload ends, nothing is started twice or lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
def test_a_quick_run_measures_every_workload(tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--json", str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    workloads = json.loads(target.read_text(encoding="utf-8"))["workloads"]
    for name, found in workloads.items():
        if name not in {"help", "install"}:
            assert found["ours"]["elapsed_s"] is not None, (name, done.stderr)
        if name.startswith("W"):
            assert (found["ours"]["duplicates"], found["ours"]["lost"]) == (0, 0), name
    assert "measured beside" in done.stdout
