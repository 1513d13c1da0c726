"""Writes docs/reference.md from signatures, docstrings, routes and parsers: ``python docs/make_reference.py``.

An option's text stands in the ``Args:`` section of the docstring of what takes it, its type and default in the signature.
Environment variables have their texts here; :func:`variables_in_code` finds those that the package reads.
"""

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import attrs

import patter_trio
from patter_trio import Agent, CallControl, Patter
from patter_trio.abc import (
    Carrier,
    Engine,
    LanguageModel,
    SpeechToText,
    TextToSpeech,
    TurnDetector,
    VoiceActivity,
)
from patter_trio.cli import parser
from patter_trio.events.callback_registry import SpeechCallbacks
from patter_trio.server.webhooks import routes_of

PAGE: Final = Path(__file__).with_name("reference.md")
PACKAGE: Final = Path(patter_trio.__file__).parent

HEAD: Final = """# Reference

This page is generated from signatures, docstrings, routes and the launcher's parsers by `python docs/make_reference.py`. A
test fails if it is out of date. `help(phone.agent)`, `help(phone.serve)` and `help()` of each class below show the same.
"""

KINDS: Final = (Carrier, Engine, SpeechToText, LanguageModel, TextToSpeech, VoiceActivity, TurnDetector)
"""What a provider can be, in the order of the page."""

UNITS: Final = (
    (r"\bmilliseconds\b", "ms"),
    (r"\bseconds\b", "s"),
    (r"\btokens\b", "tokens"),
    (r"\bwords that it takes\b", "words"),
    (r"\bcalls at once\b", "calls"),
    (r"\bTCP port\b", "port"),
    (r"\bprobability\b|\bhow sure\b", "probability"),
)
"""How the text of a numeric option says its unit; an option without one is a ratio or a setting of the vendor's."""

PUBLIC: Final = (
    "patter_trio",
    "patter_trio.abc",
    "patter_trio.errors",
    "patter_trio.events",
    "patter_trio.pricing",
    "patter_trio.carriers.twilio",
    "patter_trio.engines",
    "patter_trio.engines.openai_realtime",
    "patter_trio.llm.openai",
    "patter_trio.stt.deepgram",
    "patter_trio.stt.whisper",
    "patter_trio.tts.elevenlabs",
    "patter_trio.tts.piper",
    "patter_trio.turn.smart_turn",
    "patter_trio.vad.silero",
)
"""Modules that programs may import, besides the packages in ``PUBLIC_PACKAGES`` with all of their modules."""
ROUTES_MEAN: Final = """All are on the one port of `phone.serve`, over HTTP/1.1, with one request for each connection. A path that is
not here is answered with 404, another method with 405."""
PUBLIC_MEANS: Final = """What these modules define under names without an underscore is public: it changes with a note in the
changelog. Every other module is internal and may change at any time."""
PUBLIC_PACKAGES: Final = ("patter_trio.net", "patter_trio.testing")

OTEL: Final = "tracing; read by the OpenTelemetry SDK or exporter"
ENVIRONMENT: Final[Mapping[str, tuple[str, str]]] = {
    "PATTER_BIND_HOST": ("127.0.0.1", "Address that `phone.serve` and `patter-trio run` listen on without `host`."),
    "PATTER_WEBHOOK_SECRET": (
        "",
        "Signs requests to URLs of `on_message` and of tools without `on_message_secret`; empty: unsigned.",
    ),
    "PATTER_OTEL_ENABLED": ("", "`1`: calls are traced with OpenTelemetry; see [tracing.md](tracing.md)."),
    "TWILIO_ACCOUNT_SID": ("", "`Twilio(account_sid=)`, where that is not given."),
    "TWILIO_AUTH_TOKEN": ("", "`Twilio(auth_token=)`, where that is not given."),
    "DEEPGRAM_API_KEY": ("", "`DeepgramSTT(api_key=)`, where that is not given."),
    "ELEVENLABS_API_KEY": ("", "`ElevenLabsTTS(api_key=)`, where that is not given."),
    "OPENAI_API_KEY": (
        "",
        "`OpenAIRealtime(api_key=)` and `OpenAILLM(api_key=)`, where that is not given; only OpenAI itself gets it.",
    ),
    "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY": (
        "",
        "Proxies to vendors, over HTTP and WebSockets. URLs of tools and of `on_message` never use one.",
    ),
    "OTEL_TRACES_EXPORTER": ("otlp", "Names of exporters, separated by commas, for `init_tracing` without one."),
    "OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": (
        "http/protobuf",
        "`grpc`: the exporter `otlp` speaks gRPC.",
    ),
    "OTEL_SPAN_EVENT_COUNT_LIMIT": ("8192", "Events that a span keeps, with a provider of `init_tracing`'s."),
    "OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": (
        "http://localhost:4318",
        "URL of the collector, for `init_tracing` without `endpoint`.",
    ),
    "OTEL_SERVICE_NAME": ("patter_trio", "`service.name`, for `init_tracing` without `service_name`."),
}
"""Default and text of each variable; the default is empty where nothing is set."""
READ_BY_LIBRARIES: Final = {
    *("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SERVICE_NAME"),
}
"""Variables that no line of the package reads: httpx, ``urllib`` and the OpenTelemetry SDK do."""
MAX_SHOWN_PARAMETERS: Final = 5
HIDDEN: Final = {"hangup"}
"""Second names, for programs that migrate; the page has the first."""


# Docstrings -----------------------------------------------------------------------------------------------------------
def options_in(docstring: str | None) -> dict[str, str]:
    """Return the entries of the ``Args:`` section, each in one line."""
    _, _, rest = inspect.cleandoc(docstring or "").partition("\nArgs:\n")
    section = re.split(r"^\S", rest, maxsplit=1, flags=re.MULTILINE)[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: markdown(text) for name, text in entries}


def markdown(text: str) -> str:
    """Return a docstring's text in one line of Markdown, fit for a table's cell."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", " ".join(text.split()))
    text = re.sub(r"``docs/([\w/]+\.md)``", r"[\1](\1)", text).replace("``", "`")
    text = text.replace("|", "\\|")
    text = text if re.match(r"\w+[/_.(]", text) else text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."


def summary(thing: object) -> str:
    """Return the first sentence of a docstring."""
    return markdown((inspect.getdoc(thing) or "").partition("\n\n")[0])


# Options --------------------------------------------------------------------------------------------------------------
def shown_type(annotation: Any) -> str:
    """Return an annotation without the modules of its names."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", text)
    text = re.sub(r"^Optional\[(.*)\]$", r"\1 | None", text)
    return text.replace("NoneType", "None").replace("|", "\\|")


def annotation(made: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return a parameter's annotation; that of the field where a converter such as ``Path`` has none."""
    if parameter.annotation is parameter.empty and isinstance(made, type) and attrs.has(made):
        return attrs.fields_dict(made)[parameter.name].type
    return parameter.annotation


def shown_default(made: Callable[..., Any], parameter: inspect.Parameter) -> str:
    """Return a default as it would be written; empty for an option that must be given, or whose text says it."""
    default = parameter.default
    if isinstance(made, type) and attrs.has(made) and default is attrs.NOTHING:
        default = getattr(attrs.fields_dict(made)[parameter.name].default, "factory", None)
        computed = attrs.fields_dict(made)[parameter.name].default.takes_self  # type: ignore[union-attr]
        return "" if computed or default is None else f"`{default()!r}`"
    return "" if default is inspect.Parameter.empty else f"`{default!r}`".replace("|", "\\|")


def unit(kind: str, text: str) -> str:
    """Return the unit of a numeric option; empty for one of another type, or without a unit."""
    if not re.search(r"\b(int|float)\b", kind):
        return ""
    return next((name for pattern, name in UNITS if re.search(pattern, text, re.IGNORECASE)), "")


def table(made: Callable[..., Any], docstring: str | None = None, leave_out: Iterable[str] = ()) -> str:
    """Return the options of a class or function as a table.

    Raises:
        SystemExit: an option has no text, or a text no option.
    """
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(made).parameters.items()
        if name not in {"self", *leave_out}
    }
    texts = {name: text for name, text in options_in(docstring or made.__doc__).items() if name not in leave_out}
    if parameters.keys() != texts.keys():
        odd = ", ".join(sorted(parameters.keys() ^ texts.keys()))
        raise SystemExit(f"{made.__qualname__}: Args and parameters must have the same names, these differ: {odd}")
    lines = ["| option | type | unit | default | |", "|---|---|---|---|---|"]
    for name, parameter in parameters.items():
        kind = shown_type(annotation(made, parameter))
        shown = f"*{name}" if parameter.kind is parameter.VAR_POSITIONAL else name
        cells = (f"`{shown}`", f"`{kind}`", unit(kind, texts[name]), shown_default(made, parameter), texts[name])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def providers() -> Iterator[tuple[type, type]]:
    """Yield each kind of provider with each exported class of it."""
    for kind in KINDS:
        for name in patter_trio.__all__:
            exported = getattr(patter_trio, name)
            if inspect.isclass(exported) and issubclass(exported, kind):
                yield kind, exported


def options() -> str:
    """Return the options of phone, agent, server and providers."""
    parts = [
        f"## Patter\n\n{summary(Patter)}\n\n{table(Patter)}",
        f"## phone.agent and Agent\n\n{summary(Agent)} `phone.agent(...)` and `Agent(...)` take the same.\n\n{table(Agent)}",
        f"## phone.serve\n\n{summary(Patter.serve)}\n\n{table(Patter.serve, leave_out=['task_status'])}",
        "## Providers\n",
    ]
    for kind, exported in providers():
        parts.append(f"### {exported.__name__}\n\n`{kind.__name__}`. {summary(exported)}\n\n{table(exported)}")
    parts.append(f"### Fallback\n\n{summary(patter_trio.Fallback)}\n\n{table(patter_trio.Fallback)}")
    return "\n".join(parts)


# Members --------------------------------------------------------------------------------------------------------------
def call_of(name: str, function: Callable[..., Any]) -> str:
    """Return how a method is called, with the names of what it takes; ``...`` for what has a table of its own."""
    shown = []
    parameters = [*inspect.signature(function).parameters.values()][1:]
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        shown.append(f"{parameter.name}{default}")
    taken = "..." if len(parameters) > MAX_SHOWN_PARAMETERS else ", ".join(shown)
    return f"{'await ' if inspect.iscoroutinefunction(function) else ''}{name}({taken})"


def members(of: type) -> str:
    """Return the public methods and properties of a class as a table."""
    lines = ["| | |", "|---|---|"]
    for name, member in vars(of).items():
        if name.startswith("_") or name in HIDDEN:
            continue
        if inspect.isfunction(member):
            lines.append(f"| `{call_of(name, member)}` | {summary(member)} |")
        elif isinstance(member, property):
            lines.append(f"| `{name}` | {summary(member)} |")
    return "\n".join(lines) + "\n"


def objects() -> str:
    """Return the page's part about the members of a phone and of a call."""
    edges = ", ".join(f"`phone.{name}`" for name in vars(SpeechCallbacks) if name.startswith("on_"))
    return f"""## Members of a phone

{members(Patter)}
`phone.events` is the event bus and `phone.speech_events` fires speech edges for adapters of your own: see
[events.md](events.md). Callbacks for speech edges may be set at any time, or to None: {edges}.

## Members of a call: CallControl

The second argument of callbacks and tools that take one, and what `phone.calls` holds. See [callbacks.md](callbacks.md).

{members(CallControl)}"""


# Environment ----------------------------------------------------------------------------------------------------------
def variables_in_code() -> set[str]:
    """Return the names of the environment variables that the package's own code reads."""
    found: set[str] = set()
    for file in sorted(PACKAGE.rglob("*.py")):
        if "testing" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                given = [*node.args[:1]] if ast.unparse(node.func) in ("os.environ.get", "os.getenv") else []
                given += [keyword.value for keyword in node.keywords if keyword.arg == "variable"]
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                given = [node.value] if ast.unparse(target).endswith("_VARIABLE") else []
            else:
                continue
            found |= {one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return found


def environment() -> str:
    """Return the environment variables.

    Raises:
        SystemExit: the code reads a variable that has no text here, or a text's variable is read nowhere.
    """
    documented = {name for names in ENVIRONMENT for name in names.split(", ")}
    odd = (documented - READ_BY_LIBRARIES) ^ variables_in_code()
    if odd:
        raise SystemExit(f"ENVIRONMENT of docs/make_reference.py and the code differ: {', '.join(sorted(odd))}")
    lines = [
        "## Environment variables\n",
        "All are text. The launcher sets those in a file `.env` beside FILE that the environment does not have.\n",
        "| variable | default | |",
        "|---|---|---|",
    ]
    for names, (default, text) in ENVIRONMENT.items():
        shown = ", ".join(f"`{name}`" for name in names.split(", "))
        lines.append(f"| {shown} | {f'`{default}`' if default else ''} | {text} |")
    return "\n".join(lines) + "\n"


# Routes and commands --------------------------------------------------------------------------------------------------
def carriers() -> Iterator[Carrier]:
    """Yield one carrier of each exported class, with made-up credentials."""
    for kind, exported in providers():
        if kind is Carrier:
            yield exported(*["x" for field in attrs.fields(exported) if not field.kw_only])


def routes() -> str:
    """Return what the server answers, and where media streams go."""
    lines = [
        "## HTTP routes\n",
        f"{ROUTES_MEAN}\n",
        "| method | path | |",
        "|---|---|---|",
    ]
    seen: dict[tuple[str, str], str] = {}
    for carrier in carriers():
        for path, methods in routes_of(carrier).items():
            seen |= {(method, path): summary(handler) for method, handler in methods.items()}
        seen["WebSocket", f"{carrier.media_prefix}{{call_id}}"] = "Carry the audio of an announced call, both ways."
    lines += [f"| {method} | `{path}` | {text} |" for (method, path), text in seen.items()]
    return "\n".join(lines) + "\n"


def actions(of: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return what a parser takes, but for ``--help``."""
    return [action for action in of._actions if not isinstance(action, argparse._HelpAction)]  # noqa: SLF001 (no other way)


def command(name: str, of: argparse.ArgumentParser) -> str:
    """Return one command with its arguments and options."""
    lines = [f"### patter-trio {name}\n", markdown(of.description or "") + "\n"]
    lines += ["| option | type | default | |", "|---|---|---|---|"]
    for action in actions(of):
        flag = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        taken = " ".join(filter(None, (flag, str(action.metavar) if action.metavar and action.option_strings else "")))
        kind = getattr(action.type, "__name__", "str") if action.choices is None else " or ".join(action.choices)
        text = (action.help or "").replace("(default: %(default)s)", "")
        default = action.default if action.option_strings else None
        shown = "" if default in (None, "", []) else f"`{default}`"
        lines.append(f"| `{taken}` | {kind} | {shown} | {markdown(text.strip())} |")
    return "\n".join(lines) + "\n"


def commands() -> str:
    """Return the launcher's commands."""
    [group] = [action for action in actions(parser()) if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001 (same)
    parts = ["## The launcher\n", "`patter-trio --version` prints the version; each command has `--help`.\n"]
    return "\n".join([*parts, *(command(name, one) for name, one in group.choices.items())])


# Modules --------------------------------------------------------------------------------------------------------------
def modules_of(package: str) -> list[str]:
    """Return the modules of a public package without an underscore, the package itself first."""
    folder = PACKAGE.joinpath(*package.split(".")[1:])
    files = [file.relative_to(PACKAGE.parent).with_suffix("") for file in sorted(folder.rglob("*.py"))]
    names = {".".join(file.parts).removesuffix(".__init__") for file in files}
    return sorted(name for name in names if not any(part.startswith("_") for part in name.split(".")))


def public_modules() -> list[str]:
    """Return the names of the modules that programs may import."""
    return sorted([*PUBLIC, *(name for package in PUBLIC_PACKAGES for name in modules_of(package))])


def modules() -> str:
    """Return the public modules."""
    lines = [
        "## Public modules\n",
        f"{PUBLIC_MEANS}\n",
        "| module | |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {summary(import_module(name))} |" for name in PUBLIC]
    for package in PUBLIC_PACKAGES:
        inner = ", ".join(f"`{name.removeprefix(package)}`" for name in modules_of(package)[1:])
        lines.append(f"| `{package}` | {summary(import_module(package))} And its modules: {inner}. |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return the whole page."""
    parts = (HEAD, options(), objects(), environment(), routes(), commands(), modules())
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}: {len(PAGE.read_text(encoding='utf-8').splitlines())} lines\n")
