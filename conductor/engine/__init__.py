"""The engine: takes answers and commands, steps runs, commits, performs what is owed. The only clock, the only wait."""
