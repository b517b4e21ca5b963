"""The command line: one module a noun. Imports typer only; everything else is imported inside the commands."""
