import pytest

from visual_sentence.codebook import resolve_templates
from visual_sentence.codebook.templates import fill_template
from visual_sentence.errors import UserError


def test_the_80_templates_of_clip():
    templates = resolve_templates("imagenet-80")
    assert len(set(templates)) == 80
    assert templates[0] == "a bad photo of a {}."
    assert all(template.count("{}") == 1 for template in templates)


def test_own_templates_and_words_with_braces():
    (template,) = resolve_templates(["{0} {}"])
    assert fill_template(template, "f{}") == "{0} f{}"


@pytest.mark.parametrize("templates", ["imagenet", [], ["a photo"], ["{} and {}"]])
def test_useless_templates_are_refused(templates):
    with pytest.raises(UserError):
        resolve_templates(templates)
