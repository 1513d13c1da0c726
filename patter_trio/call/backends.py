"""The choice of a call's backend: the agent's engine, or the pipeline of STT, LLM and TTS."""

from patter_trio.call.backend import Backend, CallServices
from patter_trio.call.engine import EngineBackend
from patter_trio.call.options import CallOptions
from patter_trio.call.pipeline import PipelineBackend


def backend_of(services: CallServices, options: CallOptions) -> Backend:
    """Return the backend of a call, not yet open."""
    if options.agent.engine is not None:
        return EngineBackend(services, options.agent.engine)
    return PipelineBackend(services, options.on_message)
