"""Mail by SMTP."""

import hashlib
import re
import smtplib
import ssl
from email.errors import MessageError
from email.message import EmailMessage

from contracts.errors import ActionRefusedError, InputError, ProviderUnavailableError
from gateway.channels import Letter
from runtime.loopback import is_loopback
from runtime.settings import Settings

_PATIENCE = 4.0  # seconds for each of the server's answers
_ONE_ADDRESS = re.compile(r"[^\s@<>,;:\x00-\x20]+@[^\s@<>,;:\x00-\x20]+")
_FOR_NOW = range(400, 500)  # what SMTP answers when it may be tried again


class Mail:
    """The channel ``email``.

    Raises:
        InputError: A password would be sent in the clear.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.smtp_user and settings.smtp_tls == "none" and not is_loopback(settings.smtp_host):
            raise InputError("STANCH_SMTP_TLS=none would send the password in the clear: use starttls")
        self._settings = settings
        self._where = f"mail server {settings.smtp_host}:{settings.smtp_port}"

    def send(self, letter: Letter) -> None:
        """Send one mail; its Message-ID is the same at each attempt, and an incident's mails are a thread."""
        config = self._settings
        try:
            mail = self._compose(letter)
        except (MessageError, ValueError) as error:
            raise ActionRefusedError(
                f"{letter.notice.person}: no mail can be made of this: {error}"
            ) from error
        try:
            with self._connect() as server:
                if config.smtp_tls == "starttls":
                    server.starttls(context=ssl.create_default_context())
                if config.smtp_user:
                    server.login(config.smtp_user, config.smtp_password)
                server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            code, said = next(iter(error.recipients.values()))
            raise self._failure(code, said) from error
        except smtplib.SMTPResponseException as error:
            raise self._failure(error.smtp_code, error.smtp_error) from error
        except smtplib.SMTPNotSupportedError as error:
            raise ActionRefusedError(f"{self._where}: {error}") from error
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message.rstrip(".")
            raise ActionRefusedError(f"{self._where}: its certificate does not hold: {why}") from error
        except (smtplib.SMTPException, OSError) as error:
            raise ProviderUnavailableError(f"{self._where}: {error}", may_have_applied=True) from error

    def _connect(self) -> smtplib.SMTP:
        where = (self._settings.smtp_host, self._settings.smtp_port)
        if self._settings.smtp_tls == "implicit":
            return smtplib.SMTP_SSL(*where, timeout=_PATIENCE, context=ssl.create_default_context())
        return smtplib.SMTP(*where, timeout=_PATIENCE)

    def _compose(self, letter: Letter) -> EmailMessage:
        notice = letter.notice
        if not _ONE_ADDRESS.fullmatch(letter.address):
            raise ActionRefusedError(f"{notice.person}: {letter.address!r} is not one mail address")
        mail = EmailMessage()
        mail["From"] = self._settings.smtp_from
        mail["To"] = letter.address
        mail["Subject"] = notice.title
        mail["Message-ID"] = self._id(notice.id)
        mail["References"] = self._id(notice.incident)
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(f"{notice.text}\n\n{letter.link}\nThis link shows it; opening it decides nothing.\n")
        return mail

    def _id(self, name: str) -> str:
        domain = self._settings.smtp_from.rpartition("@")[2].strip("> ")
        return f"<{hashlib.sha256(name.encode()).hexdigest()[:32]}.stanch@{domain}>"

    def _failure(self, code: int, said: bytes | str) -> ActionRefusedError | ProviderUnavailableError:
        text = said.decode(errors="replace") if isinstance(said, bytes) else said
        sentence = f"{self._where}: {code} {text}"
        return ProviderUnavailableError(sentence) if code in _FOR_NOW else ActionRefusedError(sentence)
