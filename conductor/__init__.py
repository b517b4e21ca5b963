"""Conductor: a thin coordinator that starts, follows and judges runs in other data tools.

Importing this package does nothing: no I/O, no registry, no settings.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
