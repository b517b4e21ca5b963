"""The benchmark: Conductor and a bare loop against the same job vendor, each in a process of its own. Not installed.

`python -m bench` prints one table and writes build/bench.json; bench/README.md says what is measured and how.
"""
