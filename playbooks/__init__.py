"""The knowledge: one module per playbook, and the authors' kit. Knows no Temporal, changes nothing."""
