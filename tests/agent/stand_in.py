"""A control plane for tests of the worker: an HTTP server that says what it is told to and remembers what it hears."""

import hashlib
import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

JOIN_TOKEN = "pileus-join-good"


class ControlPlaneStandIn:
    """Orders go in by `order`, reports and the rest come out of the lists. `down` makes it answer 503 to everything."""

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}
        self.orders: dict[str, dict[str, Any]] = {}  # live ones, by resource
        self.leased: dict[str, str] = {}  # order id → incarnation
        self.reports: list[dict[str, Any]] = []
        self.joined: list[dict[str, Any]] = []
        self.beats: list[dict[str, Any]] = []
        self.samples: list[dict[str, Any]] = []
        self.devices: list[dict[str, Any]] = []
        self.logs: dict[str, tuple[int, bytes]] = {}
        self.imported: dict[tuple[str, int], bytes] = {}  # results of imports, by row and number
        self.progress: list[dict[str, Any]] = []  # of imports
        self.refused_results = ""  # why it takes no result of an import
        self.unowned: list[dict[str, str]] = []
        self.generations: dict[str, int] = {}
        self.turn: dict[str, Any] | None = None  # where it sends whoever asks for a file; None: it knows no such thing
        self.turns: list[tuple[str, dict[str, Any]]] = []  # what it heard about that, with the method
        self.serving: dict[str, Any] | None = None  # what it tells a host that serves its cache
        self.sent_bytes = 0  # of files
        self.down = False
        self.refuse_renewals = False
        self.broker = ""  # where it says that the broker is
        self.unreadable = ""  # why it cannot read reports
        self.takes_many = True  # reports in one call
        self.calls: list[int] = []  # how many reports each call brought
        self.stumbles_at: set[str] = set()  # ids of resources about which it can take no report
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def order(self, verb: str, spec: dict[str, Any], generation: int, type_: str = "instance") -> dict[str, Any]:
        order = {
            "id": str(uuid.uuid4()),
            "resource": {"type": type_, "id": spec["id"]},
            "verb": verb,
            "generation": generation,
            "attempt": 1,
            "lease_seconds": 60,
            "spec": {**spec, "generation": generation},
        }
        self.orders[spec["id"]] = order
        self.generations[spec["id"]] = generation
        return order

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.down:
            return 503, {"title": "down"}
        match method, path.strip("/").split("/")[2:]:
            case _, ["files", _, "turn"]:
                return self._take_turn(method, body)
            case "GET", ["serving"] if self.serving:
                return 200, self.serving
            case "POST", ["samples"]:
                self.samples += body["samples"]
                self.devices += body.get("devices", [])
                return 200, {"kept": len(body["samples"])}
            case "POST", ["join"]:
                self.joined.append(body)
                if body["token"] != JOIN_TOKEN:
                    return 401, {"title": "The join token is not valid", "detail": "It is unknown, used or expired."}
                host = {"id": "1", "name": body["name"]}
                bell = {"redis_url": "redis://h-1:p@127.0.0.1:1/0", "key_prefix": "h:1:", "queue": "host.1"}
                return 201, {"host": host, "token": "secret", "heartbeat_seconds": 10, **bell}
            case "POST", ["heartbeat"]:
                self.beats.append(body)
                told = {"broker": self.broker} if self.broker else {}
                return 200, {"host": {"id": "1", "name": "node1", "enabled": True}, "unowned": self.unowned, **told}
            case "POST", ["claim"]:
                mine = body["incarnation"]
                free = [order for order in list(self.orders.values()) if self.leased.get(order["id"]) != mine]
                chosen = free[: body["limit"]]
                self.leased |= {order["id"]: mine for order in chosen}
                return 200, {"orders": chosen}
            case "POST", ["orders", order_id, "renew"]:
                live = any(order["id"] == order_id for order in list(self.orders.values()))
                if self.refuse_renewals or not live:
                    return 409, {"generation": 99}
                return 200, {"lease_seconds": 60}
            case "POST", ["report" | "reports" as call] if call == "report" or self.takes_many:
                return self._take_reports(body)
            case "PUT", ["console-logs", machine_id]:
                self.logs[machine_id] = body
                return 200, {}
        return 404, {"title": "Not Found"}

    def _take_turn(self, method: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.turns.append((method, body))
        if self.turn is None:
            return 404, {"title": "Not Found"}
        if method != "PUT":
            return 200, {}
        gone_to = {*body["tried"], *(one["peer"] for one in body["failed"])}
        peers = [peer for peer in self.turn.get("peers", []) if peer["id"] not in gone_to]
        return 200, {"peer": peers[0]} if peers and body["peers"] else {"wait": self.turn.get("wait", 0)}

    def take_import(self, path: str, sha256: str | None, body: bytes) -> tuple[int, Any]:
        if self.down:
            return 503, {"title": "down"}
        match path.strip("/").split("/")[2:]:
            case ["imports", _, "progress"]:
                self.progress.append(json.loads(body))
            case ["imports", row, "files", number]:
                if self.refused_results:
                    return 422, {"title": "Refused", "detail": self.refused_results}
                assert hashlib.sha256(body).hexdigest() == sha256
                self.imported[row, int(number)] = body
        return 200, {}

    def _take_reports(self, body: dict[str, Any]) -> tuple[int, Any]:
        """One, or several."""
        told = body.get("reports", [body])
        self.calls.append(len(told))
        answers = [self._take_report(each) for each in told]
        if "reports" not in body:
            return answers[0]
        return 200, {"answers": [{"status": status, "body": said} for status, said in answers]}

    def _take_report(self, report: dict[str, Any]) -> tuple[int, Any]:
        self.reports.append(report)
        if self.unreadable:
            return 400, {"title": "Invalid", "detail": self.unreadable}
        resource_id = report["resource"]["id"]
        if resource_id in self.stumbles_at:
            return 500, {"title": "Internal error"}
        if report["generation"] != self.generations.get(resource_id, report["generation"]):
            return 409, {"generation": self.generations[resource_id]}
        order = self.orders.get(resource_id)
        if order and order["generation"] == report["generation"] and order["id"] in self.leased:
            del self.orders[resource_id]
        return 200, {}

    def seen(self, machine_id: str) -> list[str]:
        """What was reported of a machine, in order."""
        return [report["seen"] for report in self.reports if report["resource"]["id"] == machine_id]

    def last(self, machine_id: str) -> dict[str, Any]:
        return next(report for report in reversed(self.reports) if report["resource"]["id"] == machine_id)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # noqa: N802
                self._say(*stand_in.answer("POST", self.path, json.loads(self._body())))

            def do_PATCH(self) -> None:  # noqa: N802
                self._say(*stand_in.answer("PATCH", self.path, json.loads(self._body())))

            def do_PUT(self) -> None:  # noqa: N802
                if self.path.endswith("/turn"):
                    self._say(*stand_in.answer("PUT", self.path, json.loads(self._body())))
                    return
                if "/imports/" in self.path:
                    self._say(*stand_in.take_import(self.path, self.headers["X-Content-SHA256"], self._body()))
                    return
                self._say(*stand_in.answer("PUT", self.path, (int(self.headers["X-Log-Offset"]), self._body())))

            def do_GET(self) -> None:  # noqa: N802
                if self.path.endswith("/serving"):
                    self._say(*stand_in.answer("GET", self.path, None))
                    return
                path = stand_in.files.get(self.path.rsplit("/", 1)[1])
                if path is None or stand_in.down:
                    self._say(503 if stand_in.down else 404, {})
                    return
                first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
                content = path.read_bytes()[first:]
                stand_in.sent_bytes += len(content)
                self.send_response(206 if first else 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def _say(self, status: int, content: Any) -> None:
                encoded = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(encoded)))
                self.end_headers()
                self.wfile.write(encoded)

            def log_message(self, *arguments: Any) -> None:
                pass

        return Handler
