"""Vendor integrations, one folder each. They see only `conductor.sdk` and `conductor.core`, never each other."""
