"""``minivault doctor``: is this machine, and what lies on it, fit to serve? Parses and prints."""

from __future__ import annotations

import logging

import typer

from minivault.cli import options
from minivault.cli.console import line, table, working, write_json

EXAMPLES = """\
Examples:

  minivault doctor                      look at the machine, the settings, the vault, the models and the server
  minivault doctor --data-dir ./mv --json

It changes nothing. The exit code is 1 if something must be mended before MiniVault can serve well.
"""
MARKS = {"ok": "ok", "warn": "look", "fail": "MEND"}


def register(app: typer.Typer) -> None:
    app.command("doctor", help="Check the machine, the settings, the vault and the models.", epilog=EXAMPLES)(doctor)


def doctor(data_dir: options.DataDir = None, json: options.Json = False) -> None:
    from minivault.cli.examine import examine

    # What is asked here logs its failures too, and they are told below.
    logging.getLogger("minivault").setLevel(logging.CRITICAL)
    settings = options.settings(data_dir=data_dir)
    with working("Looking"):
        findings = list(examine(settings))
    if json:
        write_json([finding.as_dict() for finding in findings])
    else:
        rows = [[MARKS[finding.verdict], finding.area, finding.what, finding.found] for finding in findings]
        table(["", "area", "what", "found"], rows)
        for finding in findings:
            if finding.advice:
                line(f"{MARKS[finding.verdict]}: {finding.what}: {finding.advice}")
    if any(finding.verdict == "fail" for finding in findings):
        raise typer.Exit(1)
