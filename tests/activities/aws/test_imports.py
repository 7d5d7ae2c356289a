"""What importing the provider costs."""

import subprocess
import sys


def test_importing_the_provider_loads_no_sdk() -> None:
    """Playbooks, gateway and terminal import the requests without paying for the SDK."""
    program = "import sys, activities.aws; print({'boto3', 'botocore'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
