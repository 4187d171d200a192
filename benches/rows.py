"""What the long comparisons here share: calls of the program, and rows of results that are not made twice."""

import json
import os
import shlex
import subprocess
import sys


class Program:
    """`synth` as a process; with `dry` it only says what it would do."""

    def __init__(self, path, threads=None, dry=False):
        self.words = [path] + (["--threads", str(threads)] if threads else []) + ["-q"]
        self.dry = dry

    def __call__(self, *arguments):
        """What a command prints with --json."""
        words = self.words + [str(word) for word in arguments] + ["--json"]
        print(f"$ {shlex.join(words)}", file=sys.stderr, flush=True)
        if self.dry:
            return {}
        return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)


class Rows:
    """JSON lines in a file, each with an `id`; one that is there is finished."""

    def __init__(self, path):
        self.path = path
        self.all = {}
        if os.path.exists(path):
            self.cut_off()
            with open(path, encoding="utf-8") as lines:
                self.all = {row["id"]: row for row in (self.row(*at) for at in enumerate(lines, 1)) if row}

    def cut_off(self):
        """Removes the beginning of a line that a full disk or a kill has left at the end."""
        with open(self.path, "r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)

    def row(self, number, line):
        try:
            return json.loads(line) if line.strip() else None
        except json.JSONDecodeError as error:
            raise SystemExit(f"{self.path}, line {number}: no row ({error}); remove it, and it is made anew")

    def __contains__(self, name):
        return name in self.all

    def add(self, row):
        self.all[row["id"]] = row
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def is_made(folder):
    """Whether a command has finished this result."""
    return os.path.exists(os.path.join(folder, "synth.json"))


def about_result(folder):
    """What a result says of how it was made."""
    with open(os.path.join(folder, "synth.json"), encoding="utf-8") as file:
        return json.load(file)


def share(path, choices):
    """Notes what the rows of a folder have in common, or ends if it is something else there."""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            there = json.load(file)
        for name, value in choices.items():
            if there.get(name, value) != value:
                sys.exit(f"{path}: its rows have {name} {there[name]}, not {value}: take another folder")
    else:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(choices, file)


class Comparison:
    """Rows of a table, made one after the other: a subclass says in `all` which, and in `page` how they are shown."""

    def __init__(self, args, choices=()):
        """`choices` are those options that all rows of a folder share: another value of one is refused."""
        self.args = args
        self.synth = Program(args.synth, args.threads, args.dry_run)
        self.rows = Rows(os.path.join(args.out, "results.jsonl"))
        if not args.page or args.run:
            os.makedirs(args.out, exist_ok=True)
        if not args.dry_run and (not args.page or args.run):
            share(os.path.join(args.out, "choices.json"), {name: getattr(args, name) for name in choices})

    def path(self, *parts):
        return os.path.join(self.args.out, *parts)

    def is_empty(self):
        """Whether there is nothing to show."""
        return not self.rows.all

    def carry_out(self):
        """Makes what is missing, and shows the table or writes it to `--page`."""
        args = self.args
        if not args.page or args.run:
            self.all()
        text = self.page()
        if args.page and self.is_empty():
            sys.exit(f"{args.out} has no rows: {args.page} is left as it is")
        if args.page:
            with open(args.page, "w", encoding="utf-8") as file:
                file.write(text)
        elif not args.dry_run:
            print(text)


def ranks(values):
    """Places in ascending order, ties with the mean of theirs."""
    order = sorted(values)
    return [order.index(v) + (order.count(v) - 1) / 2 for v in values]


def rank_correlation(a, b):
    """Spearman's; None for fewer than three pairs, or where all of one are alike."""
    a, b = ranks(a), ranks(b)
    n = len(a)
    if n < 3 or len(set(a)) == 1 or len(set(b)) == 1:
        return None
    mean = (n - 1) / 2
    covariance = sum((x - mean) * (y - mean) for x, y in zip(a, b))
    spread = [sum((v - mean) ** 2 for v in values) ** 0.5 for values in (a, b)]
    return covariance / (spread[0] * spread[1])
