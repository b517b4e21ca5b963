"""`make demo` and `make serve`: start the demo's vendors, run the pipeline (or the service) on them, say what is where.

The project is copied to build/demo, so that what a run writes stays out of the sources; its database is kept, so that a
second run has a history.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["main"]

_HERE = Path(__file__).parent
_PROJECT = Path("build") / "demo"


def _copy_project() -> Path:
    target = _PROJECT.resolve()
    shutil.copytree(_HERE / "project", target, dirs_exist_ok=True)
    return target


def main(arguments: list[str]) -> int:
    """Run the demo; the exit code of the command that it ends with."""
    project = _copy_project()
    command = ["serve"] if "--serve" in arguments else ["run", "orders_to_crm"]
    warehouse = project / "warehouse.duckdb"
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.demo.vendors", str(warehouse)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as vendors:
        assert vendors.stdout is not None
        facts = vendors.stdout.readline()
        if not facts:
            print("error: the demo's vendors did not start: their words are above", file=sys.stderr)
            return 2
        settings = json.loads(facts)
        print(f"Fivetran sandbox  {settings['DEMO_FIVETRAN_URL']}", file=sys.stderr)
        print(f"Hightouch sandbox {settings['DEMO_HIGHTOUCH_URL']}\n", file=sys.stderr, flush=True)
        conductor = Path(sys.executable).with_name("conductor")
        try:
            inherited = dict(os.environ)  # noqa: TID251 - Conductor runs in this environment, plus the demo's secrets
            words = [str(conductor), "--project", str(project), *command]
            done = subprocess.run(words, env=inherited | settings, check=False)
        except KeyboardInterrupt:
            return 130
        finally:
            assert vendors.stdin is not None
            vendors.stdin.close()
    if command[0] == "run":
        shown = _PROJECT
        print(f"\nproject    {shown}/pipelines/orders_to_crm.yml")
        print(f"warehouse  {shown}/warehouse.duckdb   (table customer_orders)")
        print(f"state      {shown}/.conductor         (every run: conductor --project {shown} runs list)")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
