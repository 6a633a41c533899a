"""Models on the Hugging Face hub: upload a model directory as one commit, and download a `SentenceModel`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from smim import __version__, storage
from smim.errors import UserError
from smim.generation import SentenceModel, load
from smim.model.directory import CONFIG, WEIGHTS, find, load_model

try:
    from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
except ModuleNotFoundError as error:
    raise UserError(f"huggingface_hub is needed ({error}); install it with `pip install 'smim[hub]'`") from None

CARD = "README.md"
_NEEDED = [CONFIG, WEIGHTS, "tokenizer/*"]
# The last three are files of an exported model (`smim.sentence_transformer`).
_UPLOADED = [*_NEEDED, "modules.json", "config_sentence_transformers.json", "sentence_encoder.json"]
# The placeholder for the model's directory in a card (`smim.model.directory`).
PLACE = '"PATH/OF/THIS/DIRECTORY"'


def push_to_hub(
    model_dir: Path | str,
    repo_id: str,
    *,
    private: bool = True,
    token: str | None = None,
    message: str = "Upload a sentenceMIM model",
) -> str:
    """Upload a model directory to the model repository `ORGANISATION/NAME`; returns the address of the commit.

    Only the model's own files are uploaded. A missing repository is created, `private` or public; an existing one keeps
    its visibility. `token`: by default that of `hf auth login` or of `HF_TOKEN`.

    Raises `UserError` if `model_dir` is not a model, and if the hub refuses or cannot be reached.
    """
    model_dir = find(model_dir)
    load_model(model_dir)  # do not upload a damaged model
    paths = sorted(path for pattern in _UPLOADED for path in model_dir.glob(pattern))
    names = [path.relative_to(model_dir).as_posix() for path in paths]
    operations = [CommitOperationAdd(name, storage.own_file(model_dir, name)) for name in names]
    text = card(
        storage.own_file(model_dir, CARD), library="smim", task="feature-extraction", tags=["smim", "text-autoencoder"]
    )
    text = text.replace(f"smim.load({PLACE})", f'smim.from_hub("{repo_id}")').replace(PLACE, f'"{repo_id}"')
    operations.append(CommitOperationAdd(CARD, text.encode()))
    api = HfApi(token=token, library_name="smim", library_version=__version__)
    with reported(repo_id):
        api.create_repo(repo_id, private=private, exist_ok=True)
        return api.create_commit(repo_id, operations, commit_message=message).commit_url


def from_hub(
    repo_id: str, *, revision: str | None = None, token: str | None = None, device: str | None = None
) -> SentenceModel:
    """Load a model from the Hugging Face hub. Its files stay in the hub's cache and are then available offline.

        model = smim.from_hub("ORGANISATION/NAME")

    `revision`: a branch, a tag or a commit. `device` as in `smim.load`. Only the model's own files are downloaded.
    Raises `UserError` if there is no such model, if the hub refuses, and if it cannot be reached.
    """
    with reported(repo_id, revision):
        directory = snapshot_download(
            repo_id,
            revision=revision,
            token=token,
            allow_patterns=_NEEDED,
            library_name="smim",
            library_version=__version__,
        )
    try:
        return load(directory, device=device)
    except UserError as error:
        raise UserError(f"{repo_id} of the hub is not a sentenceMIM model, or is damaged: {error}") from None


def card(path: Path, *, library: str, task: str, tags: Sequence[str]) -> str:
    """A model's card: its README with the metadata that the hub needs; the owner's text is kept."""
    text = path.read_text(encoding="utf-8") if path.is_file() else "# A sentenceMIM model\n"
    if not text.startswith("---"):
        text = f"---\nlibrary_name: {library}\n---\n\n{text}"
    found = ModelCard(text, ignore_metadata_errors=True)
    found.data["pipeline_tag"] = found.data.get("pipeline_tag") or task
    found.data["tags"] = sorted({*(found.data.get("tags") or []), *tags})
    return str(found)


@contextmanager
def reported(repo_id: str, revision: str | None = None) -> Iterator[None]:
    """Translate the hub's errors into messages for the user."""
    hub = constants.ENDPOINT
    said: dict[type[Exception], str] = {
        HFValidationError: f"{repo_id!r} is not a model's name on the hub; write it as ORGANISATION/NAME",
        GatedRepoError: f"{repo_id} is gated; ask for access at {hub}/{repo_id}",  # it is a RepositoryNotFoundError
        RepositoryNotFoundError: f"{hub} has no model {repo_id}, or you may not see it; check the name, or log in with "
        f"`hf auth login`",
        RevisionNotFoundError: f"{repo_id} has no revision {revision!r}; give a branch, a tag or a commit",
    }
    try:
        yield
    except tuple(said) as error:
        raise UserError(next(text for kind, text in said.items() if isinstance(error, kind))) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            what = "you are not logged in" if status == 401 else "your token does not allow it"
            raise UserError(
                f"{hub} refuses {repo_id}, because {what}; log in with `hf auth login`, or give a token"
            ) from None
        raise UserError(f"{hub} answers {status} for {repo_id}: {error.server_message or error}") from None
    except LocalEntryNotFoundError as error:
        raise UserError(
            f"{hub} cannot be reached ({error.__cause__}), and {repo_id} is not in {constants.HF_HUB_CACHE}"
        ) from None
    except (HTTPError, OfflineModeIsEnabled) as error:
        raise UserError(f"{hub} cannot be reached: {error}") from None
