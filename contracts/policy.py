"""What the policy is asked about, and what it says."""

from pydantic import AwareDatetime

from contracts.base import Frozen
from contracts.incidents import Severity
from contracts.plans import Needs, Risk


class Question(Frozen):
    """May this step run, and who is asked first?

    Attributes:
        action: The action's name, ``k8s.roll_back_deployment``.
        target: The target as it is written, ``k8s:deployment/main/shop/web``.
        fresh: This version of the playbook has not helped anybody yet.
        at: When; the policy sees the hour and the weekday of it in UTC.
        undoes: It takes back what an earlier mitigation did.
    """

    severity: Severity
    environment: str
    service: str
    action: str
    target: str
    risk: Risk
    playbook: str
    fresh: bool = False
    at: AwareDatetime
    undoes: bool = False


class Ruling(Frozen):
    """Whom the policy asks, and by which of its rules: their ``@id``."""

    needs: Needs
    rules: tuple[str, ...] = ()


class Asked(Frozen):
    """What a person is asked to approve, as the policy sees it.

    Attributes:
        needs: Of the plan: the strictest of its steps.
        author: The person who wrote the playbook, where it says so.
        asked_by: The person who asked for the playbook by name.
    """

    needs: Needs = Needs.ONE
    risk: Risk = Risk.NONE
    playbook: str = ""
    author: str = ""
    asked_by: str = ""
    fresh: bool = False
    undoes: bool = False
