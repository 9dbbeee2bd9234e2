"""`visual-sentence push`: a model folder to a repository of the Hugging Face Hub."""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options


def push(
    model: Annotated[
        str,
        typer.Argument(help="A model folder, or a model that ships: v2l-small, simlvm-small.", show_default=False),
    ],
    repo_id: Annotated[str, typer.Option("--repo-id", help="Where to, OWNER/NAME.", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository a private one.")] = False,
    revision: Annotated[str, typer.Option(help="Branch, made if it is not there.")] = "main",
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="What the card says, as the Hub calls it: apache-2.0, other, ...")
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete what the repository holds and the folder does not.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Load the folder first as those will who lack the package.")
    ] = True,
    verify: Annotated[bool, typer.Option("--verify", help="Fetch everything again and compare digests.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Upload nothing: say what would change.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer of the Hub.")] = 120.0,
    as_json: options.Json = False,
) -> None:
    """Publish a model on the Hub in one commit: weights, words, processor, the code that loads them, and a card."""
    from visual_sentence.publishing import (
        Patience,
        assemble_repository,
        check_branch,
        check_loads,
        check_repo_id,
        check_token,
        compare,
        publish,
    )

    check_repo_id(repo_id), check_branch(revision)
    if not dry_run:
        check_token()
    with tempfile.TemporaryDirectory(prefix="visual-sentence-") as place:
        repository = assemble_repository(model, Path(place), repo_id, licence, link=True)
        if check:
            check_loads(place, repository.processor_class)
        report: dict[str, Any] = {
            "name": repository.name,
            "repo_id": repo_id,
            "revision": revision,
            "size": repository.size,
            "files": [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in repository.files],
            "pipelines": list(repository.tasks),
            "left_out": list(repository.left_out),
            "notes": list(repository.notes),
            "checked": check,
        }
        if dry_run:
            found = compare(repository, repo_id, revision)
            report["compared"] = not isinstance(found, str)
            report["why_not_compared"] = found if isinstance(found, str) else None
        else:
            done = publish(
                repository,
                repo_id,
                private,
                revision,
                message,
                delete,
                verify,
                Patience(timeout=timeout),
                lambda line: typer.echo(line, err=True),
            )
            found = done.comparison
            report |= {"commit": done.commit, "url": done.url, "is_new_commit": done.is_new_commit}
        if not isinstance(found, str):
            for row in report["files"]:
                row["state"] = found.states[row["path"]]
            gone = list(found.only_there) if delete else []
            report |= {"deleted": gone, "kept": [path for path in found.only_there if path not in gone]}
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
        return
    for line in [*(f"note: {note}" for note in report["notes"]), *(listing(report) if dry_run else outcome(report))]:
        typer.echo(line)


def listing(report: dict[str, Any]) -> list[str]:
    """What would be uploaded, and what that would change."""
    lines = [summary(report)]
    for row in report["files"]:
        state = row.get("state", "")
        lines.append(f"  {state:8}{row['size']:>12,}  {row['sha256'][:12]}  {row['path']}")
    if report["left_out"]:
        lines.append(f"left out: {', '.join(report['left_out'])}")
    if report["compared"]:
        for said in ("deleted", "kept"):
            if report[said]:
                lines.append(f"only in the repository, would be {said}: {', '.join(report[said])}")
    else:
        lines.append(f"could not compare with the Hub: {report['why_not_compared']}")
    return [*lines, "nothing was uploaded (--dry-run)"]


def outcome(report: dict[str, Any]) -> list[str]:
    """What was uploaded, and how it is loaded."""
    if not report["is_new_commit"]:
        return [f"{report['repo_id']} holds all of {report['name']} already, at {report['commit']}: no new commit"]
    counts = [sum(row["state"] == state for row in report["files"]) for state in ("new", "changed", "same")]
    changed = "{} new, {} changed, {} as before".format(*counts)
    gone = f", {len(report['deleted'])} deleted" if report["deleted"] else ""
    return [
        f"{summary(report)}: {changed}{gone}",
        report["url"],
        f'loads anywhere with revision="{report["commit"]}", trust_remote_code=True',
    ]


def summary(report: dict[str, Any]) -> str:
    """One line: from where to where, and how much."""
    size, count = report["size"] / 1e6, len(report["files"])
    return f"{report['name']} -> {report['repo_id']} ({report['revision']}), {size:.1f} MB in {count} files"
