"""ChatContext: a conversation that an application builds itself."""

import json
from typing import Any

import pytest

from patter_trio import ChatContext, ConfigurationError


def built() -> ChatContext:
    context = ChatContext("Be brief.")
    context.add_user("When?")
    context.add_assistant("Let me see.")
    context.add_tool_result("9 to 5", "id1")
    context.add_system("Speak French.")
    context.add_user("Thanks.")
    return context


def test_the_form_of_openai() -> None:
    """to_openai() returns the messages in order, and a tool result with the id of its call."""
    assert built().to_openai() == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": "Let me see."},
        {"role": "tool", "content": "9 to 5", "tool_call_id": "id1"},
        {"role": "system", "content": "Speak French."},
        {"role": "user", "content": "Thanks."},
    ]


def test_the_form_of_anthropic_alternates() -> None:
    """to_anthropic() joins the system messages, and adjacent user messages into one, so that the roles alternate."""
    assert built().to_anthropic() == {
        "system": "Be brief.\n\nSpeak French.",
        "messages": [
            {"role": "user", "content": "When?"},
            {"role": "assistant", "content": "Let me see."},
            {"role": "user", "content": "[tool result] 9 to 5\n\nThanks."},
        ],
    }


@pytest.mark.parametrize(
    ("most", "kept"),
    [
        (9, ["Be brief.", "When?", "Let me see.", "9 to 5", "Speak French.", "Thanks."]),
        (3, ["Be brief.", "Speak French.", "Thanks."]),
        (4, ["Be brief.", "Speak French.", "Thanks."]),  # a result without its call is not kept
        (1, ["Be brief."]),
        (0, ["Be brief."]),
        (-1, ["Be brief.", "When?", "Let me see.", "9 to 5", "Speak French.", "Thanks."]),
    ],
)
def test_shortening_keeps_the_prompt_and_the_newest(most: int, kept: list[str]) -> None:
    """truncate() keeps the prompt and the newest messages, and drops a tool result without its call."""
    context = built()
    context.truncate(most)
    assert [message.content for message in context.get_messages()] == kept
    assert len(context) == context.length == len(kept)


def test_json_there_and_back() -> None:
    """A context comes back from JSON unchanged, and only tool results have a tool_call_id there."""
    context = built()
    again = ChatContext.from_json(json.loads(json.dumps(context.to_json())))
    assert again.get_messages() == context.get_messages()
    assert "tool_call_id" not in context.to_json()["messages"][0]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"message": []},
        {"messages": "x"},
        {"messages": [{"role": "judge", "content": "x"}]},
        {"messages": [7]},
    ],
)
def test_invalid_context_is_refused(data: Any) -> None:
    """from_json() raises ConfigurationError for data that does not describe a context."""
    with pytest.raises(ConfigurationError):
        ChatContext.from_json(data)


def test_a_copy_is_its_own() -> None:
    """A message added to a copy leaves the original unchanged, and get_last_n(2) returns the two newest messages."""
    context = built()
    other = context.copy()
    other.add_user("More.")
    assert (context.length, other.length) == (6, 7)
    assert [message.content for message in other.get_last_n(2)] == ["Thanks.", "More."]
    assert other.get_last_n(0) == ()


def test_context_may_be_empty() -> None:
    """Without instructions Anthropic's system is None, truncate(0) keeps nothing, and {} is an empty context."""
    context = ChatContext()
    context.add_user("Hello.")
    assert context.to_anthropic() == {"system": None, "messages": [{"role": "user", "content": "Hello."}]}
    context.truncate(0)
    assert context.length == ChatContext.from_json({}).length == 0
