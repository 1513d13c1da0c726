"""What a model writes for programs: reasoning and leaked tool calls are not for the caller, everything else is."""

import pytest

from patter_trio.conversation.hidden_text import MAX_CALL_CHARACTERS, HiddenTextFilter

CALL = '{"name": "end_call", "arguments": {"why": "a } in ``` text"}}'


def shown(text: str, size: int = 1_000_000) -> str:
    hidden = HiddenTextFilter()
    return "".join(hidden.push(text[start : start + size]) for start in range(0, len(text), size)) + hidden.flush()


@pytest.mark.parametrize(
    ("written", "heard"),
    [
        # reasoning
        ("<think>\nThe caller wants hours.\n</think>\n\nWe open at nine.", "We open at nine."),
        ("<thinking>a</thinking>Yes.<THINK>b</THINK> No.", "Yes. No."),
        ('<think duration="3">a < b > c</think>Yes.', "Yes."),
        ("The caller wants hours.</think> We open at nine.", "The caller wants hours. We open at nine."),
        ("Yes. <think>never closed", "Yes."),
        ("[THINK]hm[/THINK]Yes.", "Yes."),
        ("\u25c1think\u25b7hm\u25c1/think\u25b7Yes.", "Yes."),
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>", "Yes."),
        ("<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>", ""),
        # tool calls
        (f"Goodbye! <tool_call>{CALL}</tool_call>", "Goodbye!"),
        (f"Goodbye! <tool_call>\n{CALL}\n", "Goodbye!"),
        (f"<tool_call>{CALL}</tool_call><tool_call>{CALL}</tool_call> Bye.", "Bye."),
        ("Bye. <function=end_call>{}</function>", "Bye."),
        ("<function_calls><invoke name='f'><parameter name='a'>1</parameter></invoke></function_calls>Bye.", "Bye."),
        ("Bye. [TOOL_CALLS] [" + CALL + "]</s>", "Bye."),
        ('Bye. [TOOL_CALLS]end_call[ARGS]{"why": "x"}', "Bye."),
        (f"Bye.\n```json\n{CALL}\n```\nReally.", "Bye. Really."),
        (f"Bye.\n```\n[{CALL}]\n```", "Bye."),
        ("Bye.\n```tool_code\nprint(end_call())\n```", "Bye."),
        (CALL, ""),
        (f"Sure. {CALL} Bye.", "Sure. Bye."),
        ('{"type": "function", "function": {"name": "f", "parameters": {}}}', ""),
        ('{"tool_calls": [{"name": "f", "args": {}}]}', ""),
        ("<|python_tag|>end_call.call()", ""),
        (("Bye.<\uff5ctool\u2581calls\u2581begin\uff5c><\uff5ctool\u2581call\u2581begin\uff5c>f<\uff5ctool\u2581sep\uff5c>{}"
         "<\uff5ctool\u2581call\u2581end\uff5c><\uff5ctool\u2581calls\u2581end\uff5c>"), "Bye."),
        ("<|tool_calls_section_begin|><|tool_call_begin|>f:0<|tool_call_end|><|tool_calls_section_end|>Bye.", "Bye."),
        ("Yes.<|im_end|>", "Yes."),
        ("Yes.<|eot_id|><|end_of_text|>", "Yes."),
        # what stays
        ("I think </3 that a <b>bold</b> <name> is < 5 [sic] [TOO] {x} ok", None),
        ('{"name": Ann} and {"name": "Ann", and {"type": tru} [{"id": 5}] more', None),
        ('{"price": 5} and {"name": "Ann"} and [1, 2] and {', None),
        ('Like this:\n```json\n{"price": 5}\n```\nOr `{"a": 1}`.', None),
        ("```python\nprint(1)\n```", None),
        ("Use a thinking cap; tools are in the box. Call me. [laughs]", None),
        ("<", None),
        ("[", None),
        ("``", None),
    ],
)  # fmt: skip
def test_hidden_text_is_not_shown(written: str, heard: str | None) -> None:
    """However the text is cut, reasoning and tool calls are removed, and nothing else is."""
    expected = written if heard is None else heard
    for size in (1, 2, 3, 5, 7, 1_000_000):
        said = shown(written, size)
        assert said == written if heard is None else " ".join(said.split()) == expected


def test_long_json_is_not_held_for_ever() -> None:
    """JSON of more characters than a call has is shown, as soon as that is known."""
    hidden = HiddenTextFilter()
    begin = '{"name": "' + "x" * MAX_CALL_CHARACTERS
    assert hidden.push(begin[:100]) == ""
    assert hidden.push(begin[100:]) + hidden.push(" end") == begin + " end"


def test_invalid_json_is_not_held() -> None:
    """Invalid JSON is not held back until the end of the answer."""
    hidden = HiddenTextFilter()
    assert hidden.push('{"name": Ann} is a template, ') == '{"name": Ann} is a template, '


def test_long_reasoning_is_not_kept() -> None:
    """Of a reasoning of any length, only as much is kept as the begin of its end may have."""
    hidden = HiddenTextFilter()
    hidden.push("<think>")
    for _ in range(1_000):
        assert hidden.push("We open at nine. ") == ""
    assert "held, hiding" in repr(hidden)
    assert int(repr(hidden).split(", ")[1].split()[0]) <= 100
