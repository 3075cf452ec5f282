"""``minivault vault verify | head | prove | check-proof``: what can be shown to somebody who trusts nobody here.

Parses and prints; heads, proofs and verdicts are the vault's.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minivault.cli import options
from minivault.cli.console import CliError, counting, line, note, pairs, program, to_json, write, write_json
from minivault.cli.files import read_file, refuse_present, write_file
from minivault.cli.own_ledger import is_written, own_ledger
from minivault.cli.units import counted, named
from minivault.cli.vault_reader import open_vault, require_data_dir

if TYPE_CHECKING:
    from minivault.settings import Settings
    from minivault.vault.findings import Verified, VerifyReport
    from minivault.vault.head import HeadPaths, VerifierKey

SHOWN_FINDINGS = 50
VERIFY_EXAMPLES = """\
Examples:

  minivault vault verify                              everything, content and all

  minivault vault verify --quick --since-last         only records, and only what came since

  minivault vault verify --against kept/elsewhere.head
"""

VerifierKeyOption = Annotated[
    str | None, typer.Option("--key", metavar="PUB", help="Its public key, or a file. (default: the vault's own)")
]


def register(app: typer.Typer) -> None:
    app.command(
        "verify",
        help="Check that all that was recorded is there, and as it was recorded. Exit code 1 if it is not.",
        epilog=VERIFY_EXAMPLES,
    )(verify)
    app.command(
        "head",
        help="Print the newest signed head, to be kept elsewhere; or the public key that signs.",
        epilog="Examples:\n\n  minivault vault head -o kept/else.head\n\n  minivault vault head --key -o vault.pub",
    )(head)
    app.command(
        "prove",
        help="Write the proof that a record is in the vault, to be checked without the vault.",
        epilog="Example:\n\n  minivault vault prove 4711 -o 4711.tlog-proof",
    )(prove)
    app.command(
        "check-proof",
        help="Check a proof with the public key alone. Exit code 1 if it proves nothing.",
        epilog="Example:\n\n  minivault vault check-proof 4711.tlog-proof --key vault.pub",
    )(check_proof)


def verify(
    quick: Annotated[bool, typer.Option("--quick", help="Check records and tree alone, not the content.")] = False,
    against: Annotated[
        Path | None, typer.Option(metavar="HEAD", help="A signed head that was kept elsewhere.", show_default=False)
    ] = None,
    since_last: Annotated[
        bool, typer.Option("--since-last", help="Only what came since the last full verification that was good.")
    ] = False,
    key: VerifierKeyOption = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    from minivault.vault.findings import Verified
    from minivault.vault.head import HeadPaths, open_note
    from minivault.vault.verify import verify as verify_vault

    with open_vault(data_dir, may_be_gone=True) as (reader, settings):
        head = None
        if against is not None:
            head = open_note(read_file(against), verifier_key(key, HeadPaths(settings.vault_path)))
        if not reader.exists and head is None and not HeadPaths(settings.vault_path).head.exists():
            raise CliError(f"There is no vault in {settings.data_dir}: nothing to verify.")
        with counting("Verifying", "records") as progress:
            since = Verified.load(settings.vault_path) if since_last else None
            earlier = None if since is None else _when(Verified.path(settings.vault_path))
            report = verify_vault(reader, contents=not quick, against=head, since=since, progress=progress)
        if report.ok and report.contents_checked and reader.exists:
            _keep(Verified(report.records, bytes.fromhex(report.root)), settings.vault_path)
    if json:
        write_json(report.as_dict())
    else:
        if since_last and since is None:
            note("No earlier verification is known here: everything was checked.")
        _show_report(report, earlier)
    if not report.ok:
        raise typer.Exit(1)


def _keep(verified: Verified, vault: Path) -> None:
    try:
        write_file(verified.path(vault), [verified.text()])
    except CliError:
        note("The result cannot be kept beside the vault; --since-last will not know of it.")


def head(
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to put it.")] = None,
    overwrite: options.Overwrite = False,
    public_key: Annotated[bool, typer.Option("--key", help="The public key instead.")] = False,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    from minivault.vault.head import HeadPaths

    if output is not None:
        refuse_present(output, overwrite)
    settings = options.settings(data_dir=data_dir)
    require_data_dir(settings)
    paths = HeadPaths(settings.vault_path)
    key = paths.load_key()
    text = paths.load_note() if paths.load_head() is not None else None
    if key is None or (text is None and not public_key):
        raise CliError(f"No head was signed in {settings.data_dir} yet.")
    if json:
        newest = paths.load_head()
        size, root = (None, None) if newest is None else (newest.size, newest.root.hex())
        _put(output, to_json({"origin": key.name, "size": size, "root": root, "head": text, "key": str(key)}) + "\n")
    else:
        _put(output, f"{key}\n" if public_key or text is None else text)


def prove(
    record: Annotated[str, typer.Argument(metavar="ID", help="An id, or the index of a record.", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to put it.")] = None,
    overwrite: options.Overwrite = False,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    from minivault.vault.proof import Uncovered
    from minivault.vault.proof import prove as prove_record

    if output is not None:
        refuse_present(output, overwrite)
    with open_vault(data_dir, url=url, api_key=api_key) as (reader, settings):
        try:
            text = prove_record(reader, record)
        except Uncovered:
            _have_a_head_signed(settings, record)
            text = prove_record(reader, record)
    _put(output, to_json({"proof": text}) + "\n" if json else text)


def _have_a_head_signed(settings: Settings, record: str) -> None:
    """By the server that writes the vault, which signs one when it is asked for the proof; or else by the vault's own
    ledger, which signs one when it is closed.
    """
    if is_written(settings):
        from minivault.cli.client import Client

        with Client.of(settings) as client:
            client.proof(record)
    else:
        with own_ledger(settings, "Try again in a minute: it signs a head then."):
            pass


def check_proof(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The proof.", show_default=False)],
    key: Annotated[str, typer.Option(metavar="PUB", help="The public key, or a file that holds it.")],
    json: options.Json = False,
) -> None:
    from minivault.errors import InvalidRequest
    from minivault.vault.proof import check_proof as check

    verifier = verifier_key(key, None)
    text = read_file(file)
    try:
        proven = check(text, verifier)
    except InvalidRequest as refusal:
        raise CliError(f"Not proven: {refusal.message}") from None
    if json:
        write_json(
            {"index": proven.index, "leaf_hash": proven.leaf_hash, "size": proven.head.size, "leaf": proven.leaf}
        )
        return
    over = counted(proven.head.size, "record")
    line(f"Proven: record {proven.index} is in {proven.head.origin}, by its signed head over {over}.")
    pairs([("leaf", proven.leaf_hash), *named(proven.leaf)])


def _when(file: Path) -> str | None:
    """When a file was written, to the minute; ``None``: it does not say."""
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(file.stat().st_mtime))
    except OSError:
        return None


_OWN_HEADS = "Self-attested: measured against the vault's own heads, not against a copy kept elsewhere."
_NO_HEAD = (
    "Self-attested by what is there: no signed head is beside the vault, so it cannot be told whether records are"
    " missing at its end. The next start signs one; keep a copy of it elsewhere."
)


def _show_report(report: VerifyReport, earlier: str | None = None) -> None:
    """``earlier``: when the verification was made from which this one goes on."""
    calls = f"({counted(report.calls, 'call')}, {report.open_calls} of them not ended)"
    line(f"{'records':<15}{report.records}" + ("" if report.since else f" {calls}"))
    if report.since:
        line(f"{'checked now':<15}{_span(report.since, report.records)} {calls}, and that the tree goes on")
        line(f"{'taken over':<15}{_span(0, report.since)}, as verified{f' on {earlier}' if earlier else ' before'}")
    if report.digest_only:
        calls = counted(report.digest_only, "call")
        line(f"{'digest only':<15}{calls}, whose content was never stored, by their policy")
    if report.erased:
        line(f"{'erased':<15}{counted(report.erased, 'call')}, each by a record that says so")
    line(f"{'root':<15}{report.root}")
    line(f"{'integrity':<15}{report.integrity}{_scope(report)}")
    line(f"{'completeness':<15}{report.completeness}{_reach(report)}")
    for finding in report.findings[:SHOWN_FINDINGS]:
        line(f"  {finding.fault.value}: {finding.message}")
    if len(report.findings) > SHOWN_FINDINGS:
        line(f"  and {len(report.findings) - SHOWN_FINDINGS} more; --json shows them")
    if report.ok and report.attested_size is None:
        note(_NO_HEAD if report.records and report.signed_size is None else _OWN_HEADS)


def _span(first: int, end: int) -> str:
    """The records from ``first`` up to, and without, ``end``."""
    if end <= first:
        return "no record"
    return f"record {first}" if end == first + 1 else f"records {first} to {end - 1}"


def _scope(report: VerifyReport) -> str:
    """How far the word before it holds, where that is not everything."""
    limits = [] if report.contents_checked else ["content not checked"]
    if report.since:
        limits.append(f"of what was checked now; for everything: {program()} vault verify")
    return f" ({'; '.join(limits)})" if limits else ""


def _reach(report: VerifyReport) -> str:
    if report.ok and report.attested_size is not None:
        return f" up to record {report.attested_size - 1}, by the head kept elsewhere"
    if report.signed_size is None:
        return " (no signed head)" if report.records else ""
    return f" (newest signed head: {counted(report.signed_size, 'record')})"


def verifier_key(key: str | None, paths: HeadPaths | None) -> VerifierKey:
    """The key itself, or one in a file, or the vault's own."""
    from minivault.vault.head import VerifierKey

    if key is not None:
        return VerifierKey.parse(key if "+" in key and not Path(key).exists() else read_file(Path(key)))
    own = None if paths is None else paths.load_key()
    if own is None:
        raise CliError("The vault has no key of its own: give --key.", exit_code=2)
    return own


def _put(output: Path | None, text: str) -> None:
    if output is None:
        write(text)
    else:
        write_file(output, [text], public=True)
        note(f"Written: {output}")
