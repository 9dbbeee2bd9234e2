"""Writes the Hub repositories of the models that ship: all that is uploaded, a folder for each.

    python scripts/build_hub_repositories.py --output hub_repositories --owner me
    python scripts/build_hub_repositories.py --output hub_repositories v2l-small

The folders are what `visual-sentence push` uploads; the same package writes the same bytes.
"""

import argparse
import json
import sys
from pathlib import Path

from visual_sentence import UserError
from visual_sentence.conversion.folders import new_folder
from visual_sentence.publishing import assemble_repository, check_loads
from visual_sentence.shipped import SHIPPED


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("names", nargs="*", metavar="NAME", help=f"by default {' '.join(sorted(SHIPPED.values()))}")
    found.add_argument("--output", required=True, type=Path, help="folder of the repositories; each is a new one in it")
    found.add_argument("--owner", default="OWNER", help="whose they will be, which the examples in the cards name")
    found.add_argument("--license", help="what the cards say, as the Hub calls it; by default their own")
    found.add_argument("--check", action="store_true", help="load each as those will who lack the package")
    return found


def build(name: str, options: argparse.Namespace) -> dict:
    """Writes one repository.

    Args:
        name: The model's.
        options: Of the command line.

    Returns:
        What it holds.

    Raises:
        UserError: If there is no such model, or its folder is there already.
    """
    output = options.output / name
    with new_folder(output) as aside:
        repository = assemble_repository(name, aside, f"{options.owner}/{name}", options.license)
        if options.check:
            check_loads(aside, repository.processor_class)
    return {
        "name": name,
        "folder": str(output),
        "size": repository.size,
        "pipelines": list(repository.tasks),
        "notes": list(repository.notes),
        "files": {file.path: {"size": file.size, "sha256": file.sha256} for file in repository.files},
    }


def main() -> int:
    """Write them, and print a JSON object a line."""
    options = parser().parse_args()
    try:
        for name in options.names or sorted(SHIPPED.values()):
            sys.stdout.write(json.dumps(build(name, options)) + "\n")
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
