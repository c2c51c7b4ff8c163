"""Fuzzes the command line: `python -m tools.fuzzing --inputs 10000 --seed 0`; exit code 1 when an input ended badly.

Every input runs in a process of its own, with limits on its time, memory and files. It must end with exit code 0 or 2, with one
line that says what is wrong, and leave no half-written output. The same seed and number give the same input: `--only NUMBER`
runs it again and prints what it said.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tools.fuzzing.running import Outcome, run_case
from tools.fuzzing.samples import make_samples, make_volumes, rehearse
from tools.warm import import_ahead


def main(arguments: list[str] | None = None) -> int:
    """Run inputs until their number or the time is reached, and print what ended badly."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzzing", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000, help="number of inputs (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the inputs (default: 0)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="time budget (default: none)")
    parser.add_argument("--limit", type=float, default=30.0, help="most seconds of one input (default: 30)")
    parser.add_argument("--only", type=int, help="run the input of this number and print what it said")
    parser.add_argument(
        "--short", action="store_true", help="only info, convert and check on volumes, as make test does"
    )
    parser.add_argument("--json", type=Path, help="file for the inputs that ended badly")
    given = parser.parse_args(arguments)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        samples = Path(name)
        import_ahead(lambda: _make(samples, given.short), samples)
        if given.only is not None:
            return _show(run_case(given.seed, given.only, samples, given.limit, given.short))
        outcomes = []
        for number in range(given.first, given.first + given.inputs):
            if time.monotonic() - begin > given.seconds:
                break
            outcomes.append(run_case(given.seed, number, samples, given.limit, given.short))
            if number % 100 == 99:
                print(f"{number + 1} inputs after {time.monotonic() - begin:.0f} s", flush=True)
            if outcomes[-1].problem:
                last = outcomes[-1]
                print(f"{number}: {last.problem}\n    {last.damage}: cleftnet {_short(last)}", flush=True)
    return _summarize(outcomes, time.monotonic() - begin, given.seed, given.json)


def _make(samples: Path, short: bool) -> None:
    if short:
        make_volumes(samples)
    else:
        make_samples(samples)
        rehearse()


def _show(outcome: Outcome) -> int:
    print(f"cleftnet {_short(outcome)}\n{outcome.damage}\n{outcome.stderr}")
    print(f"exit code {outcome.code} after {outcome.seconds:.1f} s; {outcome.problem or 'as it should be'}")
    return 1 if outcome.problem else 0


def _short(outcome: Outcome) -> str:
    return " ".join(
        repr(word) if len(word) < 80 else f"{word[:40]!r}... ({len(word)})" for word in outcome.case.arguments
    )


def _summarize(outcomes: list[Outcome], seconds: float, seed: int, file: Path | None) -> int:
    bad = [outcome for outcome in outcomes if outcome.problem]
    codes = Counter(outcome.code for outcome in outcomes)
    named = {-1000: "a volume too large for the limit"}
    ends = ", ".join(f"{count} with {named.get(code, f'code {code}')}" for code, count in sorted(codes.items()))
    slowest = max((outcome.seconds for outcome in outcomes), default=0.0)
    print(
        f"{len(outcomes)} inputs, seed {seed}, {seconds:.0f} s: {ends}; slowest {slowest:.1f} s; {len(bad)} ended badly"
    )
    for verb, count in sorted(Counter(outcome.case.arguments[0] for outcome in outcomes).items()):
        took = sum(outcome.seconds for outcome in outcomes if outcome.case.arguments[0] == verb)
        print(f"  {verb:10s} {count:6d} inputs, {took / count:.2f} s each")
    if file is not None:
        rows = [
            {"number": o.case.number, "command": o.case.arguments, "damage": o.damage, "code": o.code}
            | {"problem": o.problem, "stderr": o.stderr[-4000:]}
            for o in bad
        ]
        file.write_text(json.dumps(rows, indent=1))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
