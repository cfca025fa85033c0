"""A terminal for pages of documentation: bash, in which ``cubeingest`` starts quickly.

A process that has imported everything forks itself for each command, as :mod:`tests.faults.starter` does. What stands on PATH as
``cubeingest`` is a small client that hands its arguments, folder, environment, stdin, stdout and stderr over a socket, passes signals
on and ends with the command's exit code. So a command in a pipe, a loop or the background is what it is in a real terminal.

The upper half is that process, the lower half the side of the tests, :class:`Terminal`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 120
"""Seconds that one block of a page may take on a busy machine."""

CORES = 2
"""On which commands run, so that they start as many workers wherever the tests do: none beside themselves."""


def serve_commands(path: str) -> tuple[dict[str, Any], list[int]] | None:
    """Fork for each connection, and again for its command: the request and its files in that child, None in the server when told to end.

    The process between the two waits for the command, and kills it if the client has gone.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(16)
        os.write(1, b"ready\n")
        while True:
            ready, _, _ = select.select([server, 0], [], [])
            if 0 in ready:
                return None
            client, _ = server.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                server.close()
                return _hand_over(client)
            client.close()


def _hand_over(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    data, files, _, _ = socket.recv_fds(client, 1 << 20, 3)
    while not data.endswith(b"\n"):
        data += client.recv(1 << 20)
    child = os.fork()
    if child == 0:
        client.close()
        return json.loads(data), files
    for file in files:
        os.close(file)
    client.sendall(f"{child}\n".encode())
    ended = os.pidfd_open(child)
    ready, _, _ = select.select([ended, client], [], [])
    if ended not in ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def run_command(request: dict[str, Any], files: list[int]) -> None:
    """In a child: become the command line that was asked for."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["cubeingest", *request["args"]]
    from cubeingest.cli import main

    main()


CLIENT = """\
#!{python} -IS
import json, os, signal, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({path!r})
request = {{"args": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}}
data = json.dumps(request).encode() + b"\\n"
sent = socket.send_fds(connection, [data], [0, 1, 2])
if sent < len(data):
    connection.sendall(data[sent:])
answers = connection.makefile()
pid = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.kill(pid, number))
code = int(answers.readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


# ---- the side of the tests ------------------------------------------------------------------------------------


class Commands:
    """Runs this file as a process. ``folder`` is then to be put on PATH: its ``cubeingest`` asks that process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        socket_path = str(folder / "socket")
        script = folder / "cubeingest"
        script.write_text(CLIENT.format(python=sys.executable, path=socket_path))
        script.chmod(0o755)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | {"OPENBLAS_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = str(Path(__file__).parents[1])
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore:This process:DeprecationWarning", __file__, socket_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


@dataclass(frozen=True)
class Done:
    """A block that has run: its exit code, the line (from 1) of the command that ended it (0: none failed), and what it printed."""

    code: int
    line: int
    said: str


class Terminal:
    """Blocks of one page run in one folder; variables that they export, and where they ``cd``, last from block to block."""

    def __init__(self, folder: Path, commands: Path, scratch: Path, more: dict[str, str]) -> None:
        self.folder, self._scratch = folder, scratch
        self._sessions: list[int] = []
        home = scratch / "home"
        home.mkdir(parents=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "CUBEINGEST_", "XDG_", "SLURM_"))}
        self.environment = {
            **kept, "PATH": os.pathsep.join([str(commands), str(Path(sys.executable).parent), kept.get("PATH", "")]),
            "HOME": str(home), "COLUMNS": "120", "MPLBACKEND": "Agg", "MPLCONFIGDIR": _matplotlib_cache(), **more,
        }  # fmt: skip

    def run(self, text: str) -> Done:
        """Run a block of bash, which ends at the first command that fails."""
        state, failed = self._scratch / "state", self._scratch / "failed"
        state.unlink(missing_ok=True)
        failed.unlink(missing_ok=True)
        script = self._scratch / "block.sh"
        script.write_text(
            f"set -eEo pipefail; trap 'echo $((LINENO - 1)) > {failed}' ERR; trap '{{ env -0; printf \"=%s\" \"$PWD\"; }} > {state}' EXIT\n{text}"
        )
        output = self._scratch / "output"
        with output.open("wb") as file:  # no pipe: what goes on in the background would keep it open
            process = subprocess.Popen(
                ["bash", str(script)], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._sessions.append(process.pid)
        try:
            code, late = process.wait(PATIENCE), ""
        except subprocess.TimeoutExpired:
            self._kill(process.pid)
            code, late = process.wait(), f"\n(not ended after {PATIENCE} seconds)"
        if state.exists():
            *pairs, folder = state.read_text().split("\0")
            self.environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            self.folder = Path(folder.removeprefix("="))
        said = output.read_text(errors="replace") + late
        return Done(code, int(failed.read_text()) if failed.exists() else 0, said)

    def close(self) -> None:
        """End what blocks have left running in the background."""
        for session in self._sessions:
            self._kill(session)

    @staticmethod
    def _kill(session: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(session, signal.SIGKILL)


def _matplotlib_cache() -> str:
    """Where this user's list of fonts is: to make one takes seconds."""
    import matplotlib as mpl

    return str(mpl.get_cachedir())


if __name__ == "__main__":
    from tests.faults.starter import preload

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    preload()
    asked = serve_commands(sys.argv[1])
    if asked is not None:
        run_command(*asked)
