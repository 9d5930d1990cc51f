"""The files of a checkpoint in the transformers layout."""

import json
import re
from pathlib import Path
from typing import Any

from everymask.errors import CheckpointError

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
TOKENIZER, VOCABULARY, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
TOKENIZER_FILES = (TOKENIZER, VOCABULARY, MERGES, "tokenizer_config.json", "special_tokens_map.json")
INDEX_SUFFIX = ".index.json"
WEIGHTS = (
    "model.safetensors",
    "model.safetensors" + INDEX_SUFFIX,
    "pytorch_model.bin",
    "pytorch_model.bin" + INDEX_SUFFIX,
)
"""Where weights may lie, in the order they are looked for; an index names the shards of a split file."""
MODELSCOPE_CONFIG, MODELSCOPE_WEIGHTS = "configuration.json", "pytorch_model.pt"
MMCV_SUFFIXES = (".pth", ".pth.tar")


def mmcv_weights(folder: Path) -> Path | None:
    """The weights that mmcv saved in a folder without weights of the names above; None if there are none either.

    They are in ModelScope's file, or in the only one with a name as the projects that use mmcv give it. Raises
    CheckpointError where there are several of those.
    """
    if any((folder / name).exists() for name in WEIGHTS):
        return None
    if (folder / MODELSCOPE_WEIGHTS).exists():
        return folder / MODELSCOPE_WEIGHTS
    found = sorted(path for path in folder.glob("*") if path.name.endswith(MMCV_SUFFIXES))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CheckpointError(f"{folder} has several files of weights ({names}); put the one that is meant in a folder")
    return found[0] if found else None


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a checkpoint.

    Raises CheckpointError if the file is missing, is not JSON, or holds something else than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path.parent} has no {path.name}; a checkpoint in the transformers layout has {CONFIG}, {PREPROCESSOR} "
            f"and weights ({WEIGHTS[0]} or {WEIGHTS[2]}); save it again or add the file"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}; check the file and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); download or save the checkpoint again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a JSON {type(content).__name__} where an object is needed")
    return content


def read_shard_index(path: Path) -> dict[str, str]:
    """The ``weight_map`` of an index file: the shard of every key.

    A shard must be a plain file name beside the index: a checkpoint decides nothing about other folders. (Resolving
    links is no test of that, since files in the Hub's cache are links themselves.)
    Raises CheckpointError for any other name and for an index without a map.
    """
    kind = path.name.removesuffix(INDEX_SUFFIX).rpartition(".")[2]
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f'{path} has no "weight_map"; download or save the checkpoint again')
    for shard in weight_map.values():
        if not isinstance(shard, str) or not re.fullmatch(rf"[\w.-]+\.{kind}", shard):
            raise CheckpointError(
                f"{path} names the shard {shard!r}; only plain .{kind} file names in the same folder are read"
            )
    return weight_map
