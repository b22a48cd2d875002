"""Parses command lines with azure-cli's own tables and parser, and runs none of them.

Each line of stdin is a JSON list, the words behind `az`; for each a line of JSON is written: what was parsed, or why it was not.
Used by tests/tests/az.rs; the packages are those of azure-cli.txt beside it.
"""

import contextlib
import io
import json
import sys

from azure.cli.core import get_default_cli
from knack.events import EVENT_INVOKER_POST_CMD_TBL_CREATE


def parse(words):
    """What the command and its options are, as a run would see them."""
    cli = get_default_cli()
    invoker = cli.invocation_cls(
        cli_ctx=cli, parser_cls=cli.parser_cls, commands_loader_cls=cli.commands_loader_cls, help_cls=cli.help_cls
    )
    cli.invocation = invoker
    loader = invoker.commands_loader
    loader.load_command_table(words)
    command = invoker._rudimentary_get_command(words)
    if command not in loader.command_table:
        return {"error": f"there is no command `{command}`"}
    invoker.data["command_string"] = command
    loader.command_name = command
    loader.load_arguments(command)
    cli.raise_event(EVENT_INVOKER_POST_CMD_TBL_CREATE, commands_loader=loader)
    if words == command.split():
        return {"command": command, "options": {}}
    invoker.parser.cli_ctx = cli
    invoker.parser.load_command_table(loader)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parsed = vars(invoker.parser.parse_args(words))
    except SystemExit as ended:
        return {"error": f"it ends with {ended.code}: {said.getvalue()}"}
    return {"command": command, "options": {k: str(v) for k, v in parsed.items() if v is not None and k[0] != "_"}}


for line in sys.stdin:
    print(json.dumps(parse(json.loads(line))), flush=True)
