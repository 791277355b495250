"""How the test server behaves: rates, times and moods, as one value that comes from JSON and may change later."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path

#: What may happen to a create; each with its rate per POST.
CREATE_FAULTS = (
    "drop_before",  # the connection is dropped before the request is handled
    "drop_after",  # created, then the connection is dropped
    "error_before",  # 500, nothing created (the server could not fork)
    "error_after",  # created, then 500
    "slow_reply",  # created at once, the reply comes later than the client waits
    "unavailable",  # 503 in the server's own words, Retry-After; nothing created
    "gateway_before",  # 502 or 504, an HTML page, nothing created
    "gateway_after",  # created, then 502 or 504
    "late_visible",  # the reply is lost, and the session appears only later
    "refuse",  # the Job is refused: the 500 that says jobs.batch was not found
)
#: What may happen to a list, and to any other call but a create.
CALL_FAULTS = ("error", "unavailable", "drop", "gateway")
#: A list that answers well, and is wrong: empty, as it was ``stale`` seconds ago, without half of its rows, or with
#: some of them twice.
LIST_LIES = ("empty", "stale", "partial", "doubled")

#: Images that the server's public cache knows.
IMAGES = (
    "images.canfar.net/skaha/terminal:1.1.1",
    "images.canfar.net/skaha/astroml:latest",
    "images.canfar.net/skaha/improc:latest",
    "images.canfar.net/cirada/possumpipelineprefect-3.12:v1.16.0",
    "images.canfar.net/your/analysis-container:latest",
)

Span = tuple[float, float]


@dataclass
class Plan:
    """Times in seconds, rates from 0 to 1, spans drawn evenly from low to high."""

    seed: int = 0
    user: str = "alice"
    tokens: dict[str, str] | None = None  # token -> user; None: every token is ``user``
    switch_user: tuple[int, str] | None = None  # from that many API calls on, everybody is that user
    version: str = "1.4"  # or "old": anonymous 401, Succeeded, <none>, 16G
    deny: str | None = None  # expired | echo | anonymous | forbidden: what every call gets

    pending: Span = (0.0, 0.0)
    running: Span | None = None  # None: until steered
    fail: float = 0.0  # rate of sessions that end Failed
    fail_once: bool = False  # only first attempts fail (no SKAHACTL_ATTEMPT in the environment)
    memory: float = 3600.0  # an ended session is forgotten after this

    post_latency: float = 0.0
    list_latency: float = 0.0
    call_latency: float = 0.0  # every other call
    faults: dict[str, float] = field(default_factory=dict)  # CREATE_FAULTS
    fault_sends: int = 3  # from the next send of one name on, a create is not disturbed
    late: Span = (0.5, 2.0)
    slow_reply: float = 1.5
    retry_after: int = 1
    list_faults: dict[str, float] = field(default_factory=dict)  # CALL_FAULTS and LIST_LIES
    stale: float = 10.0
    call_faults: dict[str, float] = field(default_factory=dict)  # CALL_FAULTS, for get, logs, events and delete

    answers: dict[str, list[str]] = field(default_factory=dict)  # by kind of call: [status, content type, body]
    list_page: bool = False  # a list is a proxy's HTML page, with 200
    list_trickles: bool = False  # a list comes a blank at a time
    list_empty: bool = False
    delete_ignored: int = 0  # the first so many deletes of each session say 200 and do nothing
    logs_empty: int = 0  # the first so many reads of each log are empty
    log_lines: int = 5  # of a whole log, spread over the run
    log_bytes: int = 0  # filler after the lines
    log_keep: int = 0  # only so many last bytes are kept by the node; 0: all
    item_fail: float = 0.0  # rate of items that end 1, of a command that runs once an item

    decode: str = "real"  # or "escaped": a server that was fixed, to which text arrives as it was sent
    registries: tuple[str, ...] = ("images.canfar.net",)
    images: tuple[str, ...] = IMAGES
    strict_images: bool = False  # images outside the cache need x-skaha-registry-auth
    max_interactive: int = 5
    gpus: int = 28

    def patch(self, data: dict[str, object]) -> None:
        """Sets fields from JSON data; an unknown field or fault is an error."""
        known = {entry.name for entry in fields(self)}
        for key, value in data.items():
            if key not in known:
                raise ValueError(f"unknown field of a plan: {key}")
            setattr(self, key, tuple(value) if isinstance(value, list) else value)
        unknown = set(self.faults) - set(CREATE_FAULTS)
        unknown |= (set(self.list_faults) - set(LIST_LIES) | set(self.call_faults)) - set(CALL_FAULTS)
        if unknown:
            raise ValueError(f"unknown faults: {', '.join(sorted(unknown))}")

    @classmethod
    def of(cls, data: dict[str, object]) -> Plan:
        plan = cls()
        plan.patch(data)
        return plan

    @classmethod
    def read(cls, path: str | Path) -> Plan:
        return cls.of(json.loads(Path(path).read_text(encoding="utf-8")))
