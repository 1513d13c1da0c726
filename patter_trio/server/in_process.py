"""Calls whose other side is in this process, and not at a carrier: announced and run like any other."""

import trio

from patter_trio.abc import CallInfo, StreamCodec, StreamStarted
from patter_trio.call.leg import MediaLeg
from patter_trio.errors import PatterError
from patter_trio.net.media_socket import MediaSocket
from patter_trio.server.context import ServerContext


async def hold_call(context: ServerContext, info: CallInfo, socket: MediaSocket, codec: StreamCodec) -> None:
    """Announce a call, and run it over a socket of this process until its end.

    The call takes over the context of this task, so it needs a task of its own.

    Raises:
        PatterError: the server takes no more calls.
    """
    if why := context.refusal(info.call_id):
        raise PatterError(f"the call was not taken: {why}")
    pending = context.pending.announce(info, trio.current_time())
    context.on_announced(pending)
    # Without an await since the announcement: the token never leaves this function, so nobody else can claim the call.
    context.pending.claim(info.call_id, pending.token, trio.current_time())
    await context.run_call(MediaLeg(socket, codec, StreamStarted(info.call_id, {}), info))
