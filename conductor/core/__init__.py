"""The pure core: values, state tables and decisions. Standard library only; no clock, no randomness, no I/O."""
