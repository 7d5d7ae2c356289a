"""What importing the provider costs."""

import subprocess
import sys


def test_importing_the_provider_loads_no_http() -> None:
    """Playbooks, gateway and terminal import the requests without paying for an HTTP library."""
    program = "import sys, activities.prometheus; print('urllib3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
