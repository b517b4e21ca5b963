"""`python -m bench`: measure, print the table, write build/bench.json. Exits with 1 when a target does not hold."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.around import help_s, installed_mb, listed_mb
from bench.children import ChildError
from bench.figures import Sample, summary, verdicts
from bench.measure import measure_engine, measure_floor, measure_ours
from bench.report import Result, as_table, write_json
from bench.targets import TARGETS
from bench.workloads import ENGINE, WORKLOADS, Workload, quick

_LONG_S = 20.0


async def _workload(workload: Workload) -> Result:
    before = os.getloadavg()[0]
    is_killed = workload.kill_at_s is not None or workload.is_kill_in_transit
    ours: list[Sample] = []
    floor: list[Sample] = []
    for _ in range(workload.repeats):
        ours += await _tried(measure_engine if workload.name == ENGINE.name else measure_ours, workload)
        # A bare loop that is killed has lost everything: there is nothing to compare with.
        # Where it mostly waits, one floor is enough: it has nothing that could vary.
        is_enough = bool(floor) and workload.ideal_s >= _LONG_S
        if not is_killed and workload.name != ENGINE.name and not is_enough:
            floor += await _tried(measure_floor, workload)
    our_figures = summary(ours, workload)
    floor_figures = summary(floor, workload) if floor else None
    return Result(
        name=workload.name,
        title=workload.title,
        ours=our_figures,
        floor=floor_figures,
        verdicts=verdicts(TARGETS[workload.name], our_figures, floor_figures),
        load=(before, os.getloadavg()[0]),
    )


async def _tried(measure: Callable[[Workload], Awaitable[Sample]], workload: Workload) -> list[Sample]:
    """One sample, or none (and why, on the terminal) when the subject hung or ended early."""
    try:
        return [await measure(workload)]
    except (ChildError, TimeoutError) as error:
        sys.stderr.write(f"{workload.name}: no sample: {str(error) or 'it did not come to an end in time'}\n")
        return []


async def _around(name: str, *, is_install: bool) -> Result:
    before = os.getloadavg()[0]
    if name == "help":
        await help_s()  # The first one makes the byte code.
        timed = [seconds for _ in range(3) if (seconds := await help_s()) is not None]
        figures: dict[str, float | None] = {"elapsed_s": sorted(timed)[len(timed) // 2] if timed else None}
        title = "the command line"
    else:
        figures = {"size_mb": await installed_mb() if is_install else listed_mb()}
        title = "installed afresh" if is_install else "as listed by the packages in this environment"
    found = verdicts(TARGETS[name], figures, None)
    return Result(name=name, title=title, ours=figures, floor=None, verdicts=found, load=(before, os.getloadavg()[0]))


async def _measure(options: argparse.Namespace) -> list[Result]:
    results: list[Result] = []
    chosen = {part for part in options.only.split(",") if part}
    # The first processes make the byte code.
    await _tried(measure_ours, quick(WORKLOADS["W4"]))
    await _tried(measure_floor, quick(WORKLOADS["W4"]))
    for name in TARGETS:
        if chosen and not any(name.startswith(part) for part in chosen):
            continue
        sys.stderr.write(f"measuring {name} …\n")
        if name in {"help", "install"}:
            results.append(await _around(name, is_install=options.install_size))
            continue
        workload = ENGINE if name == ENGINE.name else WORKLOADS[name]
        results.append(await _workload(quick(workload) if options.quick else workload))
    return results


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Conductor against a bare loop.")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs; judges nothing")
    parser.add_argument("--only", default="", metavar="NAMES", help="workloads by their beginnings, such as W3,W5t")
    parser.add_argument("--install-size", action="store_true", help="install the base pins afresh and weigh them")
    parser.add_argument("--json", default="build/bench.json", metavar="PATH", help="where the figures are written")
    options = parser.parse_args()
    results = asyncio.run(_measure(options))
    sys.stdout.write(as_table(results) + "\n")
    write_json(results, Path(options.json))
    if options.quick:
        return 0
    return 0 if all(verdict.holds for result in results for verdict in result.verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
