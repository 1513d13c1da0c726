"""Reports of a simulated carrier about one call: webhooks that ask nothing of the agent's server."""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from patter_trio.testing.carriers.protocol import CallRefused, CarrierProtocol, Webhook, WebhookAnswer

_SUCCESS: Final = range(200, 300)
# The bound of the stream's messages: a caller presses no more keys than the stream carries.
MAX_QUEUED_REPORTS: Final = 8192
"""Largest number of reports that wait to be sent."""


class CallReports:
    """The reports of one call, sent one after another.

    Args:
        post: sends a webhook to the agent's server.
        fault: called with what the agent's server has done wrong.
    """

    def __init__(self, post: Callable[[Webhook], Awaitable[WebhookAnswer]], fault: Callable[[str], None]) -> None:
        self._post = post
        self._fault = fault
        self._queued, self._reports = trio.open_memory_channel[Webhook](MAX_QUEUED_REPORTS)

    def __repr__(self) -> str:
        return f"<CallReports {self._queued.statistics().current_buffer_used} waiting>"

    def queue(self, report: Webhook) -> None:
        """Send a report behind those that wait."""
        self._queued.send_nowait(report)

    async def run(self, protocol: CarrierProtocol) -> None:
        """Report the begin of the call, and then what is queued, until cancelled."""
        for report in protocol.opened_reports():
            await self.send(report)
        async for report in self._reports:
            await self.send(report)

    async def send(self, webhook: Webhook) -> None:
        """Send a report; a refusal is a fault of the agent's server."""
        try:
            answer = await self._post(webhook)
        # The server may have closed: what becomes of the report is for the carrier's own log.
        except CallRefused:
            return
        if answer.status not in _SUCCESS:
            self._fault(f"a webhook was answered with {answer.status}")
