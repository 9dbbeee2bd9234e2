"""The demo as one page that needs nothing from elsewhere."""

from html import escape

from .results import DemoResult, SentenceResult
from .style import ACCENT, INK, LINE, PAPER


def render_page(result: DemoResult, words_picture: str) -> str:
    """The page: the pictures, the numbers, and the text that the language model read.

    Args:
        result: What was found.
        words_picture: File name of the picture of words.
    """
    found = result.photographs
    rows = "\n".join(
        f"<tr><td>{escape(label)}</td><td>{probability:.1%}</td></tr>"
        for label, probability in found.probabilities.items()
    )
    sentences = "\n".join(map(_section, result.sentences))
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>visual-sentence: the demo</title>
<style>
body {{ font: 17px/1.55 system-ui, sans-serif; color: {INK}; background: {PAPER}; max-width: 64rem;
  margin: 3rem auto; padding: 0 1.5rem }}
img {{ width: 100%; border: 1px solid {LINE}; border-radius: 6px }}
pre {{ background: #fff; border: 1px solid {LINE}; border-radius: 6px; padding: 1rem; white-space: pre-wrap }}
td {{ padding: .15rem 1.5rem .15rem 0 }} h1, h2 {{ line-height: 1.2 }} .answer {{ color: {ACCENT} }}
</style>
<h1>Photographs, written in words</h1>
<p>An image tower and a codebook turned each photograph into the words below it; a language model that was
never trained on images then read four examples and answered a question about a new photograph. The two
motorcycles are two pictures of one scene.</p>
<img src="{words_picture}" alt="Photographs with their words; one question with the probabilities of its answers">
<h2>What the language model read</h2>
<pre>{escape(found.prompt)}</pre>
<h2>What it answered: <span class="answer">{escape(found.answer)}</span></h2>
<table>{rows}</table>
<p>The image tower knows the thousand labels of ImageNet. Things outside that list are given the nearest
words it has, so this is not open-vocabulary recognition.</p>
<h1>Visual sentences</h1>
<p>Three solved pairs stand before each query; the model that ships with the package, trained on two CPU cores, goes on
with the next picture. No training saw these shapes. The last row of each sheet is the worst answer of
all its queries.</p>
{sentences}
</html>
"""


def _section(found: SentenceResult) -> str:
    """One task of visual sentences."""
    name, title = found.best_reference, escape(found.title)
    beside = f"{found.shown(found.references[name])} by the best answer that asks no model ({name.replace('_', ' ')})"
    return f"""<h2>{title}: <span class="answer">{found.shown(found.value)}</span></h2>
<p>Mean of {found.queries} queries; {beside}.</p>
<img src="{escape(found.picture)}" alt="{title}: pairs, query, answer and truth, in rows">"""
