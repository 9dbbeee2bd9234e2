"""What is no picture of a sentence, said before it is read. Imports nothing else of the room."""

from typing import Any

from ..errors import UserError
from ..modeling.processing_simlvm import VIDEO_SUFFIXES


def refuse_video(picture: Any) -> None:
    """Says what to do with a video.

    Args:
        picture: Anything; only paths can be of videos.

    Raises:
        UserError: If it is a path with a video's suffix.
    """
    if str(picture).lower().endswith(VIDEO_SUFFIXES):
        raise UserError(
            f"{picture} is a video, and a sentence is made of pictures: take frames out of it first, by "
            "`visual-sentence keyframes`."
        )
