"""What programs may import, and that all of it is documented."""

import inspect

import patter_trio


def test_all_is_sorted_and_importable() -> None:
    assert list(patter_trio.__all__) == sorted(patter_trio.__all__)
    assert all(hasattr(patter_trio, name) for name in patter_trio.__all__)


def test_every_export_that_can_have_one_has_a_docstring() -> None:
    bare = [
        name
        for name in patter_trio.__all__
        if inspect.isclass(getattr(patter_trio, name)) and not inspect.getdoc(getattr(patter_trio, name))
    ]
    assert not bare


def test_public_methods_of_the_phone_the_agent_and_the_call_are_documented() -> None:
    bare = [
        f"{kind.__name__}.{name}"
        for kind in (patter_trio.Patter, patter_trio.Agent, patter_trio.CallControl)
        for name, member in inspect.getmembers(kind, inspect.isroutine)
        if not name.startswith("_") and not inspect.getdoc(member)
    ]
    assert not bare
