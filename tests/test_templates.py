import pytest
from markdown_it import MarkdownIt

from pipeline.pages.templates import lasting, plain, rough


@pytest.mark.parametrize(
    "text",
    [
        "tf_efficientnet_b4.aa_in1k",
        "_all_ of *it*, `code` & <b>",
        "[a](b), scale [0.8, 1.2]",
        r"C:\d &amp; x",
    ],
)
def test_any_text_is_shown_as_it_is(text: str) -> None:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert MarkdownIt("commonmark").render(f"so: {plain(text)}") == f"<p>so: {escaped}</p>\n"


def test_so_is_all_that_is_in_a_list_or_a_mapping_and_nothing_but_texts_changes() -> None:
    assert plain({"a|b": ["x\n y", 1, None, ("*",)]}) == {r"a\|b": ["x y", 1, None, [r"\*"]]}
    assert plain("batch_size of scale [0.8, 1]") == "batch_size of scale [0.8, 1]"


@pytest.mark.parametrize(
    ("value", "said"), [(0.00123456, "0.0012"), (0.315, "0.32"), (12.7, "13"), (1266, "1,300"), (0, "0")]
)
def test_estimates_have_two_digits(value: float, said: str) -> None:
    assert rough(value) == said


@pytest.mark.parametrize(("seconds", "said"), [(61.4, "61 s"), (7531.6, "126 minutes"), (36_000, "10.0 hours")])
def test_times_are_said_as_one_says_them(seconds: float, said: str) -> None:
    assert lasting(seconds) == said
