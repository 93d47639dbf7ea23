"""`curate --help` as text of 80 columns: commands in groups (their `rich_help_panel`), in the order of the work."""

from typing import Any

from typer.core import TyperGroup

DATA = "Sources: from upstream data to checked samples"
MIXING = "Mixtures: from samples to a release"
RELEASES = "Releases: check, look at, use"
WATCHING = "Runs: schedule, watch"
_GROUPS = (DATA, MIXING, RELEASES, WATCHING)
_WIDTH = 80


class GroupedHelp(TyperGroup):
    """A group whose help lists its commands by group."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section a group; each command with the first sentence of its help."""
        groups: dict[str, list[tuple[str, str]]] = {group: [] for group in _GROUPS}
        room = min(formatter.width, _WIDTH) - max(map(len, self.commands)) - 6
        for name, command in self.commands.items():
            groups[getattr(command, "rich_help_panel", WATCHING)].append((name, command.get_short_help_str(2 * room)))
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)
