"""The plumbing that a process needs: settings, Temporal, sandbox, failures, telemetry. No domain."""
