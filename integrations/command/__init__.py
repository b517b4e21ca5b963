"""Commands on this host: a script, a binary, `spark-submit`, as supervised processes that outlive Conductor.

Promise: a command is launched at most once per attempt, and exactly once whenever the host answers at all; a restarted
Conductor finds it by its files. An end that nobody recorded is `vanished`, never a success. Not promised: that a
command survives its host, container or service group.
"""

from integrations.command.integration import plugin

__all__ = ["plugin"]
