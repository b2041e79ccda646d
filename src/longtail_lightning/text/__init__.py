"""Text encoders: `encoder(list of texts) -> (texts, num_features)`. Torch alone; transformers where it is needed."""

from longtail_lightning.text._base import TextEncoder as TextEncoder
from longtail_lightning.text.bag_of_words import BagOfWords as BagOfWords
from longtail_lightning.text.clip import CLIPText as CLIPText
from longtail_lightning.text.hugging_face import HuggingFaceText as HuggingFaceText
from longtail_lightning.text.joined import Encoded as Encoded
from longtail_lightning.text.joined import JoinedTexts as JoinedTexts

__all__ = ["BagOfWords", "CLIPText", "Encoded", "HuggingFaceText", "JoinedTexts", "TextEncoder"]
