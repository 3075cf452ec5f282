"""Answers are shown as markdown, made of nodes and text alone: no answer can bring markup, a script or a request."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from playwright.sync_api import Page, expect

from tests.ui.steps import says

EVIL = (
    "<script>window.broken = 1</script>",
    "<img src=x onerror='window.broken = 1'>",
    "<svg/onload=window.broken=1>",
    "[click](javascript:window.broken=1)",
    "[click](JaVaScRiPt:window.broken=1)",
    "[click](data:text/html,<script>window.broken=1</script>)",
    "![x](https://evil.example/pixel.png)",
    '![x](x" onerror="window.broken=1)',
    "```html\n</code></pre><script>window.broken = 1</script>\n```",
    "`<iframe srcdoc='<script>parent.broken=1</script>'>`",
    "| <b onclick=alert(1)>a</b> |\n|---|\n| <style>*{display:none}</style> |",
    "<a href='javascript:window.broken=1'>x</a>",
)


@pytest.mark.parametrize("text", EVIL)
def test_no_answer_runs_or_loads_anything(page: Page, text: str) -> None:
    shown = says(page, text)
    made = shown.evaluate("node => [...node.querySelectorAll('*')].map((one) => one.tagName.toLowerCase())")
    assert not set(made) & {"script", "img", "iframe", "style", "object", "embed", "form", "b"}
    hrefs = shown.evaluate("node => [...node.querySelectorAll('a')].map((one) => one.protocol)")
    assert set(hrefs) <= {"https:", "http:", "mailto:"}
    for link in shown.locator("a, span").all():
        link.click(modifiers=["Alt"], no_wait_after=True)
    assert page.evaluate("window.broken") is None


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("# Title\n\ntext", ["h3", "p"]),
        ("- a\n- b\n  - c", ["ul", "li", "li", "ul", "li"]),
        ("3. a\n4. b", ["ol", "li", "li"]),
        ("> said\n\n---", ["blockquote", "p", "hr"]),
        ("**b** *i* ~~d~~ `c`", ["p", "strong", "em", "del", "code"]),
        ("| a | b |\n|---|---|\n| 1 | 2 |", ["div", "table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]),
        ("snake_case_name and 2 * 3 * 4", ["p"]),
    ],
)
def test_markdown_becomes_nodes(page: Page, text: str, tags: list[str]) -> None:
    shown = says(page, text)
    assert shown.evaluate("node => [...node.querySelectorAll('*')].map((one) => one.tagName.toLowerCase())") == tags


def test_code_is_shown_as_it_is_and_copied_as_it_is(page: Page) -> None:
    code = 'def f(x):  # <b>\n    return "\\n" + x\n'
    shown = says(page, f"```python\n{code}```")
    expect(shown.locator("pre")).to_have_text(code.rstrip("\n"), use_inner_text=False)
    shown.get_by_role("button", name="Copy code").click()
    assert page.evaluate("navigator.clipboard.readText()") == code.rstrip("\n")


def test_a_growing_answer_keeps_the_nodes_that_did_not_change(page: Page) -> None:
    kept = page.evaluate(
        """async () => {
            const { show } = await import("/assets/markdown.js");
            const box = document.createElement("div");
            show(box, "one\\n\\ntw");
            const first = box.firstChild;
            show(box, "one\\n\\ntwo\\n\\n- three");
            return [box.firstChild === first, box.textContent];
        }"""
    )
    assert kept == [True, "onetwothree"]


def test_markdown_takes_a_hostile_text_in_little_time(page: Page) -> None:
    spent = page.evaluate(
        """async () => {
            const { show } = await import("/assets/markdown.js");
            const begun = performance.now();
            for (const piece of ["*a ", "[", "`", "> ", "__", "[a](", "**a", "~~", "- ", "| a "])
                show(document.createElement("div"), piece.repeat(3000));
            return performance.now() - begun;
        }"""
    )
    assert spent < 5000


def test_the_sources_make_no_markup_from_strings() -> None:
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|\beval\("
        r"|new Function|setAttribute\(\s*[\"']style|srcdoc"
    )
    ours = [file for file in (files("minivault.api") / "ui").iterdir() if file.name.endswith(".js")]
    assert len(ours) > 10
    assert [file.name for file in ours if forbidden.search(file.read_text("utf-8"))] == []
