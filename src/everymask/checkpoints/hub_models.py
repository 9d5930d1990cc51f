"""Which segmentation models the Hugging Face Hub has."""

from dataclasses import dataclass

from everymask.errors import CheckpointError

LIMIT = 100


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository of the Hub; None wherever it does not say.

    ``downloads``: of the last 30 days. ``model_type``: as in its config.json. ``license``: as its card states it.
    """

    name: str
    downloads: int | None
    model_type: str | None
    license: str | None


def list_hub_models() -> tuple[HubModel, ...]:
    """The ``LIMIT`` most downloaded image segmentation models of the Hub in the transformers layout, most first.

    HF_ENDPOINT and HF_HUB_OFFLINE hold as huggingface_hub reads them, when it is first imported. Raises
    CheckpointError, and nothing else, for whatever goes wrong.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        found = HfApi().list_models(
            pipeline_tag="image-segmentation",
            filter="transformers",
            sort="downloads",
            limit=LIMIT,
            expand=["config", "downloads", "tags"],
        )
        models = tuple(_read(each.id, each.downloads, each.config, each.tags) for each in found)
    except OfflineModeIsEnabled as error:
        raise CheckpointError(
            "HF_HUB_OFFLINE is set, and what the Hub has is not kept here; unset it, or list the catalogue instead "
            "(everymask models)"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise CheckpointError(
            f"{constants.ENDPOINT} answered HTTP {status} when asked for its models; try again later"
        ) from error
    # huggingface_hub lets the errors of its layers through; here, all of them mean that there was no answer.
    except Exception as error:
        raise CheckpointError(
            f"{constants.ENDPOINT} could not be asked for its models ({type(error).__name__}: {error}); check the "
            "network, the proxy settings and HF_ENDPOINT, or list the catalogue instead (everymask models)"
        ) from error
    return tuple(sorted(models, key=lambda model: -(model.downloads or 0)))


def _read(name: str, downloads: int | None, config: object, tags: list[str] | None) -> HubModel:
    model_type = config.get("model_type") if isinstance(config, dict) else None
    licenses = (tag.removeprefix("license:") for tag in tags or () if tag.startswith("license:"))
    return HubModel(name, downloads, model_type if isinstance(model_type, str) else None, next(licenses, None))
