"""Where the policy's rules are: one file for gateway and worker, whose digests have to agree."""

from authority.policy import DEFAULT, Policy
from contracts.errors import InputError
from runtime.settings import Settings


def load_policy(settings: Settings) -> Policy:
    """Read the policy: the file that is named, else ``policy.cedar`` in the home folder, else ours.

    Raises:
        InputError: The named file is not there, or what is there is no policy; the message names the place.
    """
    path = settings.policy_path
    try:
        text = path.read_text(encoding="utf-8-sig")  # as some editors write it
    except OSError as error:
        if settings.policy is None and isinstance(error, FileNotFoundError):
            return Policy(DEFAULT, solo=settings.solo)
        raise InputError(f"policy {path}: {error.strerror}; set STANCH_POLICY") from error
    except UnicodeDecodeError as error:
        raise InputError(f"policy {path}: not UTF-8 at byte {error.start}") from error
    try:
        return Policy(text, solo=settings.solo)
    except InputError as error:
        raise InputError(f"policy {path}: {error}") from error
