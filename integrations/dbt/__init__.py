"""dbt-core as supervised processes on this host: build, run, test, seed, snapshot, source freshness.

Promise: a dbt command is launched at most once per attempt and found again after any crash of Conductor; each attempt
has its own target folder, so results of another run are never taken for its own. A retry can resume the exact failed
invocation by `dbt retry`. Not promised: that a statement already sent to the warehouse dies with the process.
"""

from integrations.dbt.integration import plugin

__all__ = ["plugin"]
