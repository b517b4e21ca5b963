"""Recognises secrets written into a file. Prefers silence to noise: known shapes and telling names only."""

from __future__ import annotations

import re
from collections.abc import Mapping

from conductor.core.vendor import Json
from conductor.loader.diagnostics import Report
from conductor.loader.source import Where
from conductor.loader.synonyms import normal
from conductor.loader.templates import strings_in

__all__ = ["check_secrets"]

_SHAPES = re.compile(
    r"""(?x)
    (?<![A-Za-z0-9])(?:
      (?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])                   # AWS access key id
    | gh[pousr]_[A-Za-z0-9]{36,255} | github_pat_[A-Za-z0-9_]{60,255}
    | glpat-[A-Za-z0-9_-]{20,64}
    | xox[abprs]-[A-Za-z0-9-]{10,250}                         # Slack
    | (?:sk|rk)_live_[A-Za-z0-9]{16,250}                      # Stripe
    | dapi[0-9a-f]{32}                                        # Databricks
    | dbt[cu]_[A-Za-z0-9_-]{20,250}                           # dbt Cloud
    | AIza[A-Za-z0-9_-]{35}                                   # Google
    | eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.  # JSON Web Token
    )
    | -----BEGIN[ A-Z]{0,30}PRIVATE[ ]KEY
    | hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/]{10,250}
    | ://[^\s/:@{}$]{0,200}:[^\s/:@{}$]{1,200}@               # user:password@host
    """
)
_NAMES = frozenset(
    {
        "password", "passwd", "secret", "clientsecret", "apikey", "apisecret", "accesstoken", "authtoken",
        "bearertoken",
        "privatekey", "secretkey", "secretaccesskey", "authorization", "xapikey", "token", "refreshtoken",
    }
)  # fmt: skip


def check_secrets(report: Report, data: Json, base: Where = (), *, code: str = "CND040") -> None:
    """Report every text in `data` that looks like a secret, and see that no diagnostic shows it."""
    if not isinstance(data, list | Mapping):
        return
    for where, text in strings_in(data, base):
        found = _SHAPES.search(text)
        name = next((step for step in reversed(where) if isinstance(step, str)), "")
        is_named = normal(name) in _NAMES and bool(text) and "${{" not in text
        if found is None and not is_named:
            continue
        report.conceal(text)
        message = f"`{name}` holds what looks like a secret" if found else f"`{name}` is written out"
        help_text = "move it to connections.yml as `${{ secret('NAME') }}`, and replace it at the vendor"
        report.add(code, message, where, help_text=help_text)
