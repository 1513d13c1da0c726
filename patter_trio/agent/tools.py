"""Tools: functions of the application that an LLM may call, and their descriptions for it.

::

    @tool
    async def opening_hours(day: Literal["weekday", "weekend"]) -> str:
        '''Look up when the shop is open.

        Args:
            day: which kind of day.
        '''

The JSON Schema of the arguments comes from the type hints, and their descriptions from the docstring (Google style). A
handler is sync (it runs in a worker thread), async, or an async generator that yields ``{"progress": text}``, which is
spoken while the tool runs, and ``{"result": anything}``. It has one of three signatures:

* plain parameters, as above; one named ``call_context`` receives the call and is not part of the schema;
* ``(arguments)``, a dict;
* ``(arguments, call_context)``.
"""  # noqa: D214 (the section belongs to the example)

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, cast, get_args, overload

import attrs

from patter_trio.abc import ToolDefinition
from patter_trio.agent.docstrings import described
from patter_trio.agent.keypad import Keypad
from patter_trio.agent.tool_schema import Signature, function_of, is_of_method, signature_of, without_type_lists
from patter_trio.errors import ConfigurationError
from patter_trio.net.urls import checked_url
from patter_trio.providers.other_names import other_names
from patter_trio.user_code.signatures import is_plain, name_of, parameters_of, positional, takes_extra_argument

BargeInPolicy = Literal["cancel", "detach", "shield"]
"""The fate of a running tool whose reply is cut. ``cancel``: it is cancelled. ``detach``: it goes on until the call
ends. ``shield``: it may also outlive the call, by 5 s at most. Any result enters the conversation."""

CONTEXT_PARAMETER: Final = "call_context"
ARGUMENTS_PARAMETER: Final = "arguments"
# Judged: a caller waits that long for a look-up if the agent has said that it takes a moment, and hardly longer.
DEFAULT_TIMEOUT_S: Final = 10.0
# Judged: longer than nearly every call; a larger number is a mistake of units, such as milliseconds.
MAX_TIMEOUT_S: Final = 600.0
# Judged: three attempts in all, so that a server that is being restarted is met on one of them.
DEFAULT_RETRIES: Final = 2
# Judged: more would only repeat a failure while the caller waits.
MAX_RETRIES: Final = 10

# OpenAI's rule for names.
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# Without ``additionalProperties: False`` a model sometimes invents arguments for a tool that takes none.
_ANY_PARAMETERS: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}
_NO_PARAMETERS: Final[Mapping[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}

Form = Literal["keywords", "arguments", "arguments and context"]


def _checked_name(_: object, __: object, name: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(f"a tool's name must be 1 to 64 of a-z, A-Z, 0-9, _ and -, got {name!r}")


def _checked_description(_: object, __: object, description: Any) -> None:
    if not isinstance(description, str):
        raise ConfigurationError(
            f"a tool's description must be a string, got {type(description).__name__}: {description!r}"
        )


def _checked_policy(_: object, __: object, policy: Any) -> None:
    if policy not in get_args(BargeInPolicy):
        raise ConfigurationError(f"on_barge_in must be one of {', '.join(get_args(BargeInPolicy))}, got {policy!r}")


def _checked_timeout(_: object, __: object, seconds: Any) -> None:
    # A bool is an int for Python: ``timeout_s=True`` would be a second. NaN fails the comparison.
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_TIMEOUT_S:
        raise ConfigurationError(
            f"timeout_s must be more than 0 and at most {MAX_TIMEOUT_S:g} seconds, got {seconds!r}"
        )


def _checked_handler(_: object, __: object, handler: Any) -> None:
    # A tool can be called, too, but has its function and its schema already.
    if handler is not None and (not callable(handler) or isinstance(handler, Tool)):
        raise ConfigurationError(f"a tool's handler must be a function, got {type(handler).__name__}: {handler!r}")


def _checked_webhook(_: object, __: object, url: Any) -> None:
    if url != "":
        checked_url(url, "webhook_url", "a URL (https or http)", ("https", "http"))


def _checked_thread(_: object, __: object, thread: Any) -> None:
    if not isinstance(thread, bool):
        raise ConfigurationError(f"thread must be True or False, got {thread!r}")


def _checked_retries(_: object, __: object, retries: Any) -> None:
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= MAX_RETRIES:
        raise ConfigurationError(f"webhook_retries must be from 0 to {MAX_RETRIES}, got {retries!r}")


def _checked_schema(_: object, __: object, schema: Any) -> None:
    # An object, because vendors accept no other. The key may be absent.
    if not isinstance(schema, Mapping) or schema.get("type", "object") != "object":
        raise ConfigurationError(f"a tool's parameters must be the JSON Schema of an object, got {schema!r}")
    # Tried here, because a schema that cannot be encoded would fail each request of each call.
    try:
        json.dumps(schema)
    # ``ValueError``: a schema that contains itself.
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"a tool's parameters must be serialisable as JSON: {error}") from error


@other_names(
    no_effect={
        "strict": "arguments are checked against the schema in any case, and the LLM gets the problem as the result",
        "reassurance": 'a tool speaks while it works by yielding {"progress": "One moment."}',
    }
)
@attrs.frozen
class Tool:
    """A function that the LLM may call: in this program, or on a server behind a URL.

    Args:
        name: the name for the LLM.
        description: the purpose of the tool and when to call it; the LLM knows nothing else about it.
        parameters: JSON Schema of the arguments, which must be an object.
        handler: the function; omit it if there is a ``webhook_url``.
        webhook_url: the http or https URL that each call is POSTed to; ``docs/tools.md`` describes request and answer.
        timeout_s: seconds that a call may take, retries included; then the LLM gets an error as the result.
        webhook_retries: number of retries, from 0 to 10, if the server could not be reached, closed the connection, or
            answered with status 429 or 5xx. With more than 0, the server must support ``Idempotency-Key``, or repeating
            a request must be harmless.
        on_barge_in: the fate of the tool if its reply is cut while it runs: ``cancel``, ``detach`` or ``shield``.
        thread: run a plain function in a worker thread, so that a database or ``requests`` holds up nobody. False: on
            the event loop, for a function that only computes for a moment, or that uses trio. Async handlers always run
            on the event loop.
        after_speech: run the tool only once the text before it has been played, and never if the caller interrupts that
            text. The LLM is not asked again afterwards. Use it for tools that end or transfer the call.

    Raises:
        ConfigurationError: an option has a wrong type or value, or there is not exactly one of ``handler`` and
            ``webhook_url``.
    """

    name: str = attrs.field(validator=_checked_name)
    description: str = attrs.field(default="", validator=_checked_description)
    # Out of the repr, like the URL: a log line should name the tool, not describe it. URLs may hold secrets.
    parameters: Mapping[str, Any] = attrs.field(default=_NO_PARAMETERS, validator=_checked_schema, repr=False)
    handler: Callable[..., Any] | None = attrs.field(default=None, validator=_checked_handler)
    webhook_url: str = attrs.field(default="", validator=_checked_webhook, repr=False)
    timeout_s: float = attrs.field(default=DEFAULT_TIMEOUT_S, validator=_checked_timeout, kw_only=True)
    # ``detach``: a booking that has begun should end, and a caller who only coughed should not undo it.
    on_barge_in: BargeInPolicy = attrs.field(default="detach", validator=_checked_policy, kw_only=True)
    after_speech: bool = attrs.field(default=False, kw_only=True)
    thread: bool = attrs.field(default=True, validator=_checked_thread, kw_only=True)
    webhook_retries: int = attrs.field(default=DEFAULT_RETRIES, validator=_checked_retries, kw_only=True)
    check: Callable[[Mapping[str, Any]], str] | None = attrs.field(default=None, kw_only=True, repr=False)
    """A check of arguments that match ``parameters``, before the tool starts.

    It returns the problem for the LLM, which may correct its call; an empty string means that the arguments are valid.
    """
    signature: Signature | None = attrs.field(default=None, kw_only=True, repr=False, eq=False)
    """How the LLM's arguments become those of the handler, if ``parameters`` are those of its type hints."""
    # This and the next field are inspected once, for all calls: the signature of a function does not change.
    form: Form = attrs.field(
        init=False, default=attrs.Factory(lambda self: _form(self.handler, self.parameters), takes_self=True)
    )
    """How the handler takes its arguments."""
    takes_context: bool = attrs.field(
        init=False, default=attrs.Factory(lambda self: CONTEXT_PARAMETER in _names(self.handler), takes_self=True)
    )
    """True if the handler has a parameter named ``call_context``."""

    # Here, not in a validator: both fields are needed.
    def __attrs_post_init__(self) -> None:
        if self.handler is not None and self.webhook_url:
            raise ConfigurationError(f"a tool must have exactly one of handler= and webhook_url=; {self.name} has both")
        if self.handler is None and not self.webhook_url:
            raise ConfigurationError(
                f"a tool must have exactly one of handler= and webhook_url=; {self.name} has neither"
            )

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the handler as it is written, so that a test can call a function with ``@tool`` as the function it was.

        Neither schema nor time limit apply. An async handler returns what must be awaited, and a progress generator the
        generator.

        Raises:
            ConfigurationError: the tool is behind a URL, and has no handler.
        """
        if self.handler is None:
            raise ConfigurationError(f"{self.name} must have a handler to be called, got webhook_url=")
        return self.handler(*arguments, **options)

    @property
    def runs_in_thread(self) -> bool:
        """True if the handler is a plain function, to be called in a worker thread."""
        return self.thread and self.handler is not None and is_plain(self.handler)

    @property
    def definition(self) -> ToolDefinition:
        """The description of the tool for the LLM."""
        # Some servers refuse a tool without a description, and its name in words is better than none.
        return ToolDefinition(self.name, self.description or _in_words(self.name), without_type_lists(self.parameters))

    def read(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what the handler gets for arguments that fit ``parameters``: an Enum's member for its value.

        Raises:
            Misfit: one of them is not what its type hint says, though it fits the schema.
        """
        # Not for a schema that has been replaced: its values are not those of the type hints.
        if self.signature is None or self.signature.schema is not self.parameters:
            return arguments
        return self.signature.read(arguments)


@attrs.frozen
class ToolOfMethod:
    """``@tool`` in a class body: on an object of the class it is the tool whose handler is the object's method."""

    function: Callable[..., Any]
    _make: Callable[[Callable[..., Any]], Tool] = attrs.field(repr=False, alias="make")

    def __get__(self, instance: object, owner: type) -> Any:
        """Return the tool of ``instance``, or this, which an agent refuses, on the class."""
        return self if instance is None else self._make(self.function.__get__(instance, owner))


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    *,
    name: str,
    webhook_url: str,
    description: str = "",
    parameters: Mapping[str, Any] | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    on_barge_in: BargeInPolicy = "detach",
    after_speech: bool = False,
    webhook_retries: int = DEFAULT_RETRIES,
) -> Tool: ...


@overload
def tool(
    *,
    handler: Callable[..., Any],
    name: str = "",
    description: str = "",
    parameters: Mapping[str, Any] | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    on_barge_in: BargeInPolicy = "detach",
    after_speech: bool = False,
    thread: bool = True,
) -> Tool: ...


@overload
def tool(
    *,
    name: str = "",
    description: str = "",
    parameters: Mapping[str, Any] | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    on_barge_in: BargeInPolicy = "detach",
    after_speech: bool = False,
    thread: bool = True,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    handler: Callable[..., Any] | None = None,
    name: str = "",
    webhook_url: str = "",
    description: str = "",
    parameters: Mapping[str, Any] | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    on_barge_in: BargeInPolicy = "detach",
    after_speech: bool = False,
    thread: bool = True,
    webhook_retries: int = DEFAULT_RETRIES,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool from a function: name, description and schema come from its name, docstring and type hints.

    Use it as ``@tool``, or as ``@tool(timeout_s=30.0)`` with options of :class:`Tool`; ``tool(handler=f)`` does the
    same. ``parameters`` replaces the schema. ``tool(name=..., webhook_url=...)`` is a :class:`Tool` behind a URL.

    Raises:
        ConfigurationError: a parameter has no type hint, or one without a JSON Schema; or as for :class:`Tool`.
    """
    # Only here: a decorated function without hints is more likely one whose hints were forgotten.
    hintless_is_dict = handler is not None

    # Shared by the two ways of decorating, with and without parentheses.
    def made(handler: Callable[..., Any]) -> Tool:
        # Before the function is inspected, which fails with a worse error for anything else.
        _checked_handler(None, None, handler)
        if makes_tools(handler):
            raise ConfigurationError(f"{name_of(handler)} makes a tool: call it, as in {name_of(handler)}(...)")
        if is_of_method(handler):
            # For type checkers it is the tool that it becomes on an object.
            return cast(Tool, ToolOfMethod(handler, made))
        source = function_of(handler)
        text, about = described(inspect.getdoc(source) or "")
        # A handler that takes all arguments as one dict needs a schema from elsewhere, or none at all.
        takes_all = _names(handler)[:1] == [ARGUMENTS_PARAMETER] or (hintless_is_dict and _is_hintless(handler))
        signature: Signature | None = None
        if not takes_all and parameters is None:
            signature = signature_of(handler, about, leave_out=CONTEXT_PARAMETER)
        return Tool(
            # Objects that can be called have no name but that of their class.
            name or (type(handler).__name__ if source.__name__ == "__call__" else source.__name__),
            description or text,
            signature.schema if signature is not None else parameters or _ANY_PARAMETERS,
            handler,
            signature=signature,
            timeout_s=timeout_s,
            on_barge_in=on_barge_in,
            after_speech=after_speech,
            thread=thread,
        )

    # ``handler=`` and the decorated function are the same thing.
    function = handler if function is None else function
    if webhook_url:
        return Tool(
            name,
            description,
            _NO_PARAMETERS if parameters is None else parameters,
            # Both are passed on if both are given, so that ``Tool`` reports the contradiction.
            function,
            webhook_url,
            timeout_s=timeout_s,
            on_barge_in=on_barge_in,
            after_speech=after_speech,
            webhook_retries=webhook_retries,
        )
    return made if function is None else made(function)


def _in_words(name: str) -> str:
    words = re.sub(r"[_-]+|(?<=[a-z])(?=[A-Z])", " ", name).strip()
    return f"{words.capitalize()}."


def makes_tools(function: object) -> bool:
    """Return True for a function such as ``transfer_call``, whose result is the tool."""
    return getattr(function, "__annotations__", {}).get("return") in (Tool, "Tool")


def _is_hintless(handler: Callable[..., Any]) -> bool:
    taken = positional(parameters_of(handler))
    # ``(arguments, context)``, by whatever names.
    return 0 < len(taken) <= len(("arguments", "context")) and all(
        parameter.annotation is parameter.empty and parameter.name != CONTEXT_PARAMETER for parameter in taken
    )


def _names(handler: Callable[..., Any] | None) -> list[str]:
    return [] if handler is None else [parameter.name for parameter in parameters_of(handler) or ()]


def _form(handler: Callable[..., Any] | None, schema: Mapping[str, Any]) -> Form:
    """Return how a handler takes its arguments: if its first parameter is not in the schema, as one dict."""
    parameters = None if handler is None else parameters_of(handler)
    if parameters is None:
        # A built-in without a signature: one dict is the form that needs no names.
        return "arguments"
    taken = positional(parameters)
    known = schema.get("properties", {})
    if (
        not taken
        or taken[0].name == CONTEXT_PARAMETER
        # By the schema: a parameter that it does not know cannot be filled by name. ``arguments`` is always the dict.
        or (taken[0].name in known and taken[0].name != ARGUMENTS_PARAMETER)
    ):
        return "keywords"
    return "arguments and context" if takes_extra_argument(taken, CONTEXT_PARAMETER) else "arguments"


def tools_of(given: Sequence[Tool | Callable[..., Any] | Mapping[str, Any]] | None) -> tuple[Tool, ...]:
    """Return the tools of ``tools=``, each a tool, a function, or a dict with the arguments of :class:`Tool`.

    Raises:
        ConfigurationError: an item has another type, or two tools have the same name.
    """
    if given is None:
        return ()
    # A mapping is not a ``Sequence``, but the message should be the same for all mistakes.
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        raise ConfigurationError(f"tools must be a list of tools, got {type(given).__name__}: {given!r}")
    tools = tuple(_tool_of(place, item) for place, item in enumerate(given))
    names = [item.name for item in tools]
    # The LLM names a tool, and two tools of one name could not be distinguished.
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ConfigurationError(f"tools must have different names, got twice: {', '.join(double)}")
    return tools


def _tool_of(place: int, item: object) -> Tool:
    if isinstance(item, Tool):
        return item
    if isinstance(item, Mapping):
        try:
            return Tool(**item)
        except TypeError as error:
            raise ConfigurationError(f"tools[{place}]: {error}") from error
    # A method that was taken from its class has no object to be called on.
    if isinstance(item, ToolOfMethod) or (callable(item) and is_of_method(item)):
        name = name_of(item.function if isinstance(item, ToolOfMethod) else item)
        raise ConfigurationError(
            f"tools[{place}]: {name} must be of an object: {name.rpartition('.')[0]}(...).{name.rpartition('.')[2]}"
        )
    # A menu can be called, as on_message is, and a model would have got it as a tool of no use. By its keypad, because
    # the module of menus imports this one.
    if isinstance(getattr(item, "keypad", None), Keypad):
        raise ConfigurationError(f"tools[{place}] must not be a Menu: give it as dtmf=, or to serve as on_message=")
    # Not classes: one that is given by mistake would be called to make an object.
    if callable(item) and not isinstance(item, type):
        try:
            return tool(item)
        except ConfigurationError as error:
            raise ConfigurationError(f"tools[{place}]: {error}") from error
    raise ConfigurationError(
        f"tools[{place}] must be a Tool, a function or a dict, got {type(item).__name__}: {item!r}"
    )


def _end_call(call_context: Any) -> str:
    call_context.hang_up()
    return "The call is being ended."


end_call: Final = Tool(
    "end_call",
    "End the phone call. Say goodbye in the same answer, before calling this: nothing can be said after it.",
    _NO_PARAMETERS,
    _end_call,
    after_speech=True,
    thread=False,
)
"""A tool with which the LLM hangs up after its last words; if the caller interrupts these, the call goes on."""
