import pytest

from pipeline.serving.accept import preferred

OFFERED = ("application/json", "text/html", "text/markdown")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("image/png", "application/json"),
        ("text/html", "text/html"),
        ("TEXT/HTML; charset=utf-8", "text/html"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("text/markdown", "text/markdown"),
        ("text/*", "text/html"),
        ("text/html;q=0.5, text/markdown;q=0.9", "text/markdown"),
        ("text/*, text/html;q=0.1", "text/markdown"),
        ("application/json;q=0.2, */*", "text/html"),
        ("text/html;q=much, ;;;, */*;q=0.1", "application/json"),
    ],
)
def test_the_most_wanted_is_chosen(accept: str, kind: str) -> None:
    assert preferred(accept, OFFERED) == kind
