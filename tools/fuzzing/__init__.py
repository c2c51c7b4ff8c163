"""Fuzzing of the command line: damaged files and odd option values, each in a process of its own (`make fuzz`)."""
