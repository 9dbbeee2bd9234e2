"""What an image tower sees of pictures, a batch at a time, and kept in a file where it is wanted again."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..modeling import FrozenModel, V2LImageProcessor
from ..progress import progress_bar
from ..words import batched


@torch.no_grad()
def embed_pictures(
    model: FrozenModel,
    image_processor: V2LImageProcessor,
    pictures: Iterable[Image.Image],
    batch_size: int = 32,
    excluded_labels: Sequence[str] = (),
    total: int | None = None,
) -> torch.Tensor:
    """Embeds pictures by the model's tower.

    Args:
        model: Holds the tower.
        image_processor: Makes its views.
        pictures: N pictures, taken as they are needed.
        batch_size: Pictures a forward pass.
        excluded_labels: Labels that the tower is to do without, where it has labels.
        total: How many pictures there are, for the progress bar.

    Returns:
        [N, D] float32 on the CPU, L2-normalised.
    """
    device, dropped = model.device, set(excluded_labels)
    places = [place for place, label in enumerate(model.image_tower.label_ids) if label in dropped]
    excluded = torch.tensor(places, dtype=torch.long, device=device) if places else None
    parts = [torch.zeros(0, model.config.embedding_dim)]
    with progress_bar("looking at pictures", total) as bar:
        for batch in batched(pictures, batch_size):
            views = image_processor(batch, return_tensors="pt", do_local_view=False, do_global_view=True)
            parts.append(model.embed_images(views["global_pixel_values"].to(device), excluded).float().cpu())
            bar.advance(len(batch))
    return torch.cat(parts)


def embed_once(
    model: FrozenModel,
    image_processor: V2LImageProcessor,
    pictures: Iterable[Image.Image],
    folder: Path,
    name: str,
    count: int,
) -> torch.Tensor:
    """As `embed_pictures`; what an earlier run of the same tower and data wrote is read back.

    Args:
        model: As of `embed_pictures`.
        image_processor: As of `embed_pictures`.
        pictures: As of `embed_pictures`.
        folder: The run's folder, where they are kept.
        name: What the data is called.
        count: N.
    """
    key = hashlib.sha256(json.dumps([name, count, image_processor.to_json_string()]).encode())
    for tensor in model.image_tower.state_dict().values():
        key.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    path = folder / f"image-embeds-{key.hexdigest()[:12]}.safetensors"
    try:
        return load_file(path)["image_embeds"]
    except (OSError, SafetensorError, KeyError):  # not there, or cut off
        found = embed_pictures(model, image_processor, pictures, total=count)
    folder.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    save_file({"image_embeds": found}, aside)
    aside.rename(path)
    return found
