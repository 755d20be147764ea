"""docs/settings.md is what the code says, and says something of every setting."""

from pathlib import Path

from pipeline import settings_reference

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_written_from_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_reference.render(), (
        "run: python -m pipeline.settings_reference > docs/settings.md"
    )


def test_every_setting_says_what_it_is() -> None:
    silent = [
        setting.name for _, _, settings in settings_reference.sections() for setting in settings if not setting.about
    ]
    assert not silent


def test_a_comment_is_found_above_a_field_and_on_any_line_of_it() -> None:
    assert settings_reference.field_comments(Sample) == {"one": "of one line", "two": "of several", "three": "above"}


class Sample:
    one: int = 1  # of one line
    two: tuple = 2  # of several
    # above
    three: int = 3
