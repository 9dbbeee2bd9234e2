"""Prompt templates: the sentences in which a joint text encoder reads a word."""

from collections.abc import Callable, Sequence
from functools import cache

from ..errors import UserError

PLACEHOLDER = "{}"


@cache
def imagenet_templates() -> tuple[str, ...]:
    """The 80 ImageNet prompt templates of CLIP, e.g. "a bad photo of a {}.".

    Taken from `open_clip.OPENAI_IMAGENET_TEMPLATES`, which copies
    https://github.com/openai/CLIP/blob/main/notebooks/Prompt_Engineering_for_ImageNet.ipynb
    """
    # Importing open_clip takes seconds; the other sets do not need it.
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return tuple(template(PLACEHOLDER) for template in OPENAI_IMAGENET_TEMPLATES)


# From name to a function that gives the templates.
TEMPLATE_SETS: dict[str, Callable[[], tuple[str, ...]]] = {
    "imagenet-80": imagenet_templates,
    "plain": lambda: ("{}",),
    "photo": lambda: ("a photo of {}.",),
}


def resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Turns what a user gave into templates.

    Args:
        templates: The name of a set in `TEMPLATE_SETS`, or own templates, each with "{}" where the word goes.

    Returns:
        The templates, at least one.

    Raises:
        UserError: An unknown name, no template at all, or a template that does not contain "{}" exactly once.
    """
    if isinstance(templates, str):
        if templates not in TEMPLATE_SETS:
            raise UserError(
                f"There is no template set {templates!r}: choose one of {', '.join(TEMPLATE_SETS)}, or give "
                "a list of own templates."
            )
        return TEMPLATE_SETS[templates]()
    if not templates:
        raise UserError("The list of templates is empty, so no text could be embedded: give at least one.")
    for template in templates:
        if template.count(PLACEHOLDER) != 1:
            raise UserError(
                f"The template {template!r} contains '{PLACEHOLDER}' {template.count(PLACEHOLDER)} times, "
                "but the word has to go in exactly one place: write it once."
            )
    return tuple(templates)


def fill_template(template: str, text: str) -> str:
    """Puts `text` into `template`; other braces are left alone, as words may contain them."""
    return template.replace(PLACEHOLDER, text)
