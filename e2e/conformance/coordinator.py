"""The workers of one run, and the server at which they coordinate.

Ginkgo's workers ask a server for the next spec and report to it what became of each; usually the ginkgo command is
that server. Here we are, in the HTTP form of that protocol, so nothing but e2e.test is needed and results arrive
while the suite runs.
"""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time

EARLY, GONE = 425, 410
# A worker that is interrupted cleans up after its spec.
CLEANUP_SECONDS = 90


class Stopped(Exception):
    """Somebody asked the run to end."""


class Coordinator:
    def __init__(self, command, workers, timeout, output):
        self.command = command
        self.workers = workers
        self.timeout = timeout
        self.seed = int(time.time())
        self.output = output
        self.lock = threading.Lock()
        self.counter = 0
        self.aborted = False
        self.posted = {}
        self.ended = []
        self.results = []
        self.processes = []

    def run(self, progress):
        """Runs all specs; gives their reports, and whether the workers came to their end in time."""
        self.progress = progress
        server = Server(("127.0.0.1", 0), handler(self))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            address = f"http://127.0.0.1:{server.server_address[1]}"
            for number in range(1, self.workers + 1):
                self.processes.append(self.start(number, address))
            return self.results, self.wait()
        except Stopped:
            return self.results, False
        finally:
            self.end()
            server.shutdown()

    def start(self, number, address):
        # One worker is told that there are two as well: alone it would not report to us.
        total = max(self.workers, 2)
        command = self.command + [
            f"--ginkgo.parallel.process={number}",
            f"--ginkgo.parallel.total={total}",
            f"--ginkgo.parallel.host={address}",
            "--ginkgo.no-color",
            "--ginkgo.silence-skips",
            "--ginkgo.output-interceptor-mode=none",
            f"--ginkgo.timeout={self.timeout}s",
            # All workers must put the specs into the same order.
            f"--ginkgo.seed={self.seed}",
        ]
        environment = dict(os.environ, GINKGO_PARALLEL_PROTOCOL="HTTP")
        log = open(self.output / f"worker-{number}.log", "wb")
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def wait(self):
        deadline = time.monotonic() + self.timeout
        for process in self.processes:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                self.aborted = True
                return False
        return not self.aborted

    def end(self):
        for number in (signal.SIGINT, signal.SIGKILL):
            running = [process for process in self.processes if process.poll() is None]
            for process in running:
                process.send_signal(number)
            deadline = time.monotonic() + CLEANUP_SECONDS
            for process in running:
                try:
                    process.wait(max(deadline - time.monotonic(), 0))
                except subprocess.TimeoutExpired:
                    pass

    # What workers ask. The status and the answer.

    def get(self, path):
        with self.lock:
            if path == "/counter":
                self.counter += 1
                return 200, {"Index": self.counter - 1}
            if path == "/abort":
                return (GONE if self.aborted else 200), None
            if path == "/have-nonprimary-procs-finished":
                return (200 if self.others_ended() else EARLY), None
            if path == "/aggregated-nonprimary-procs-report":
                return (200, self.aggregated()) if self.others_ended() else (EARLY, None)
            if path in ("/report-before-suite-state", "/before-suite-state"):
                known = self.posted.get(path.removesuffix("state") + "completed")
                if known is None:
                    return (GONE if self.processes[0].poll() is not None else EARLY), None
                return 200, known
        return 200, None

    def post(self, path, body):
        with self.lock:
            if path == "/did-run":
                result = json.loads(body)
                if is_spec(result):
                    self.results.append(result)
                    self.progress(result)
            elif path == "/suite-did-end":
                self.ended.append(json.loads(body))
            elif path in ("/report-before-suite-completed", "/before-suite-completed"):
                self.posted[path] = json.loads(body)
            elif path == "/abort":
                self.aborted = True
            elif path == "/emit-output":
                with open(self.output / "output.log", "ab") as log:
                    log.write(body)

    def others_ended(self):
        return all(process.poll() is not None for process in self.processes[1:])

    def aggregated(self):
        others = [report for report in self.ended if report["SuiteConfig"]["ParallelProcess"] != 1]
        whole = dict(others[0]) if others else {"SuiteSucceeded": True}
        whole["SpecReports"] = [spec for report in others for spec in report.get("SpecReports") or []]
        whole["SuiteSucceeded"] = all(report["SuiteSucceeded"] for report in others)
        return whole


def is_spec(report):
    """Whether this is a spec that was run, and not one that the focus left out, or a part of the suite itself."""
    if report["LeafNodeType"] != "It":
        return report["State"] not in ("passed", "skipped")
    return report["State"] != "pending" and bool(report["RunTime"] or report.get("Failure"))


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        # A worker that ends leaves its connections as they are.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def handler(coordinator):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Workers report each of thousands of skipped specs: an answer in two packets costs 40 ms of delayed ACK.
        wbufsize = 1 << 16
        disable_nagle_algorithm = True

        def do_GET(self):
            self.answer(*coordinator.get(self.path))

        def do_POST(self):
            coordinator.post(self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            self.answer(200, None)

        def answer(self, status, content):
            body = b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler
