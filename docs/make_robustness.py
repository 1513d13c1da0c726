"""Write the table of docs/robustness.md from the catalogue of faults: ``python docs/make_robustness.py``."""

import re
from pathlib import Path

from patter_trio.errors import CallEnded
from patter_trio.testing.faults import FAULTS, Fault, Hears
from patter_trio.testing.faults.request_faults import REQUEST_FAULTS

PAGE = Path(__file__).with_name("robustness.md")
BEGIN, END = "<!-- the catalogue -->\n", "<!-- end of the catalogue -->\n"


def becomes(fault: Fault) -> str:
    """Return the effect of a fault on a call."""
    if not fault.outcome:
        return "goes on, exact to the millisecond" if fault.harmless else "goes on"
    within = "1 s" if fault.within <= 1 else f"{fault.within:g} s"
    return f"ends as `{fault.outcome}` within {within}"


def hears(fault: Fault) -> str:
    """Return what the caller hears of the agent's replies after a fault."""
    if fault.outcome:
        return Hears.NOTHING_MORE
    return f"{fault.hears}; the agent may miss questions" if fault.deaf else fault.hears


def table() -> str:
    """Return the catalogue, grouped by kind."""
    lines = ["| | the other side ... | the call | the caller hears | the log has the reason |", "|---|---|---|---|---|"]
    for kind in dict.fromkeys(fault.kind for fault in FAULTS.values()):
        lines.append(f"| **{kind}** | | | | |")
        lines += [
            f"| {fault.name} | {fault.peer} | {becomes(fault)} | {hears(fault)} | {'yes' if fault.why else ''} |"
            for fault in FAULTS.values()
            if fault.kind == kind
        ]
    lines.append("| **requests** | | | | |")
    lines += [
        f"| {fault.name} | {fault.peer} | goes on; the request raises `{fault.error.__name__}` "
        f"| every word{'' if fault.error is CallEnded else '; of a transfer that failed, the apology'} | yes |"
        for fault in REQUEST_FAULTS.values()
    ]
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """Return the page with its table brought up to date."""
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: BEGIN + table() + END, text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
