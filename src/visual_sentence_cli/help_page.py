"""The command's own help: one page, on which the commands stand in groups."""

import typer
from typer.core import TyperGroup


class OnePage(TyperGroup):
    """A group whose help is plain text, a line for each command: frames around seven groups would not fit a screen."""

    def format_help(self, ctx, formatter) -> None:
        """As any command's help, without the frames of typer's."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_options(ctx, formatter)  # the commands behind them
        self.format_epilog(ctx, formatter)

    def format_commands(self, ctx, formatter) -> None:
        """The commands by their groups, in the order in which they were put in."""
        every = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        commands = {name: command for name, command in every.items() if command is not None and not command.hidden}
        width = max(map(len, commands))
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, command in commands.items():
            rows = groups.setdefault(getattr(command, "rich_help_panel", None) or "Others", [])
            rows.append((name.ljust(width), command.get_short_help_str()))
        formatter.write_paragraph()
        for title, rows in groups.items():
            formatter.write(f"{typer.style(title, bold=True)}:\n")
            with formatter.indentation():
                formatter.write_dl(rows)
