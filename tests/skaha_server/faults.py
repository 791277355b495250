"""Deals out faults from a seed.

A create's fault depends on the seed, the replica and how often that name was sent, not on the order in which requests
happen to arrive; and any 100 replicas get exactly the rates that the plan names. Other calls draw by their number.
"""

from __future__ import annotations

import random

from tests.skaha_server.plan import Plan

DECK = 100


class Dealer:
    def __init__(self, plan: Plan):
        self.plan = plan
        self.dealt: dict[str, int] = {}  # by fault, and by "list.error" and the like
        self._sends: dict[str, int] = {}
        self._calls: dict[str, int] = {}

    def create(self, name: str, replica: str | None) -> str | None:
        """The fault of this create of ``name``; ``replica`` its REPLICA_ID if it has one."""
        send = self._sends[name] = self._sends.get(name, 0) + 1
        if not self.plan.faults or send > self.plan.fault_sends:
            return None
        place = int(replica) - 1 if replica and replica.isdecimal() else len(self._sends) - 1
        return self._count(self._deck(send)[place % DECK])

    def call(self, kind: str) -> str | None:
        """The fault of a call that is no create; ``kind`` is list, get, logs, events or delete."""
        number = self._calls[kind] = self._calls.get(kind, 0) + 1
        rates = self.plan.list_faults if kind == "list" else self.plan.call_faults
        draw = random.Random(f"{self.plan.seed}:{kind}:{number}").random()
        for fault, rate in rates.items():
            if draw < rate:
                self._count(f"{kind}.{fault}")
                return fault
            draw -= rate
        return None

    def lateness(self, name: str) -> float:
        return random.Random(f"{self.plan.seed}:late:{name}:{self._sends.get(name)}").uniform(*self.plan.late)

    def coin(self, name: str) -> bool:
        return random.Random(f"{self.plan.seed}:coin:{name}:{self._sends.get(name)}").random() < 0.5

    def _deck(self, send: int) -> list[str | None]:
        deck: list[str | None] = []
        for fault, rate in self.plan.faults.items():
            deck += [fault] * round(rate * DECK)
        deck += [None] * (DECK - len(deck))
        random.Random(f"{self.plan.seed}:deck:{send}").shuffle(deck)
        return deck

    def _count(self, fault: str | None) -> str | None:
        if fault is not None:
            self.dealt[fault] = self.dealt.get(fault, 0) + 1
        return fault
