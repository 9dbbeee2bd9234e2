"""The demo as one page that needs nothing from elsewhere."""

from html import escape

from .results import DemoResult, SheetResult
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
    reconstruction = "" if result.reconstruction is None else _section(result.reconstruction)
    restorations, sentences = ("\n".join(map(_section, found)) for found in (result.restorations, result.sentences))
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
<h1>Pictures of words alone</h1>
<p>A model that was trained on a CPU core wrote these photographs as words of the language model's vocabulary, one
for each square of 8 pixels, and drew them again of nothing else. No training saw them.</p>
{reconstruction}
<h1>Damaged pictures, mended by reading</h1>
<p>The language model, which was never trained on images, reads pieces of other photographs in these words, damaged and
whole, and then writes the whole piece of a damaged one. It has 135 million parameters, and what it writes is mostly
worse than leaving the picture as it is; the paper's models have fifty times as many and more.</p>
{restorations}
<h1>Visual sentences</h1>
<p>Three solved pairs stand before each query; the model that ships with the package, trained on two CPU cores, goes on
with the next picture. No training saw these shapes or this tissue. The last row of each sheet is the worst answer of
all its queries.</p>
{sentences}
</html>
"""


def _section(found: SheetResult) -> str:
    """One task."""
    title = escape(found.title)
    state = " No better than without a model." if found.is_failure else ""
    note = f" {escape(found.note)}" if found.note else ""
    return f"""<h2>{title}: <span class="answer">{found.shown(found.value)}</span></h2>
<p>Mean of {found.queries}: {escape(found.summary())}.{state}{note}</p>
<img src="{escape(found.picture)}" alt="{title}: pictures in rows">"""
