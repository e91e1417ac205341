"""A knarr cluster for a run: started, filled with images, and deleted."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile

REGISTRY = pathlib.Path("/var/lib/knarr/clusters.json")


class Trouble(Exception):
    """What keeps the runner from running."""


class Cluster:
    def __init__(self, knarr, running, nodes, api_port):
        self.knarr = knarr
        self.is_ours = running is None
        self.name = running or f"conformance-{os.getpid()}"
        self.nodes = nodes
        self.api_port = api_port
        self.scratch = None
        self.data_dir = None

    def __enter__(self):
        if not self.is_ours:
            known = json.loads(REGISTRY.read_text()) if REGISTRY.exists() else []
            found = [cluster for cluster in known if cluster["name"] == self.name]
            if not found:
                raise Trouble(f"there is no cluster {self.name}")
            self.data_dir = pathlib.Path(found[0]["dataDir"])
            return self
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="conformance-", dir="/var/tmp"))
        self.data_dir = self.scratch / "data"
        try:
            self.run("up", "--nodes", str(self.nodes), "--data-dir", str(self.data_dir), "--api-port",
                     str(self.api_port), "--no-merge-kubeconfig", "--name", self.name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.is_ours:
            try:
                self.run("delete", "--name", self.name)
            finally:
                shutil.rmtree(self.scratch, ignore_errors=True)

    @property
    def kubeconfig(self):
        return self.data_dir / "kubeconfig"

    def load(self, directory):
        """Imports every archive of a directory into all nodes."""
        archives = sorted(str(path) for path in directory.glob("*.tar"))
        if not archives:
            raise Trouble(f"{directory} has no archives (*.tar)")
        self.run("image", "import", *archives, "--name", self.name)

    def logs(self):
        """The log of the server and of each agent, by the name it shall have among the results."""
        logs = {"server.log": self.data_dir / "server.log"}
        for agent in sorted((self.data_dir / "nodes").glob("*/agent.log")):
            logs[f"agent-{agent.parent.name}.log"] = agent
        return logs

    def run(self, *arguments):
        command = [str(self.knarr), *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise Trouble(f"{' '.join(command)}: {done.stderr or done.stdout}")
