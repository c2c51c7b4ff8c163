"""Disturbs a prediction with two workers in every way, and compares the result: `python examples/crash_demonstration.py`.

The short form of `python -m benchmarks kill`: the command is killed at random moments and started again until it is done, then
one of its workers dies, the scheduler of its cluster dies, the disk is full, inputs may not be read, and a chunk is damaged.
After each, the same command must end with the output of an undisturbed run, byte for byte. It takes a few minutes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, whose benchmarks are in no package

from benchmarks.kill import main

if __name__ == "__main__":
    main(["--verbs", "predict --workers 2", "--kills", "4", *sys.argv[1:]])
