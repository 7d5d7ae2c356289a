"""Plain HTTP: does it answer as it should?"""

from activities.http.models import HttpCheck
from activities.http.probes import HttpCheckProbe

__all__ = ["HttpCheck", "HttpCheckProbe"]
