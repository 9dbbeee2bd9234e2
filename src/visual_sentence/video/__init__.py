"""Videos: frames with their times, shots, key frames, and visual sentences out of frames with descriptions.

Needs the extra `video` (PyAV, PySceneDetect). Knows captions and words for descriptions, and an
image's tokens; no model of visual sentences.
"""

from .description import CaptionDescriber, Describer, NoDescriber, WordDescriber, load_describer
from .keyframes import Keyframe, Keyframes, KeyframeSetting, write_keyframes
from .reading import VideoFile, VideoFrame, video_frames
from .sentences import SentenceSetting, WrittenSentences, write_sentences
from .shots import Shot, ShotSetting, Timeline, find_shots
from .token_rows import sequence_rows

__all__ = [
    "VideoFile",
    "VideoFrame",
    "video_frames",
    "Shot",
    "ShotSetting",
    "Timeline",
    "find_shots",
    "Keyframe",
    "KeyframeSetting",
    "Keyframes",
    "write_keyframes",
    "Describer",
    "NoDescriber",
    "WordDescriber",
    "CaptionDescriber",
    "load_describer",
    "SentenceSetting",
    "WrittenSentences",
    "write_sentences",
    "sequence_rows",
]
