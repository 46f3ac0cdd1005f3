"""Nothing leaves the machine unless somebody asks: telemetry off, and no name of a model looked up on the hub.

Libraries read these variables when they are imported, so they are set before. What the environment says already stays.
Addresses that a user writes out (`s3://`, `https://`, a judge's) and `jvlm data fetch` ask by themselves.
"""

import os

QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "WANDB_MODE": "offline",
    "WANDB_ERROR_REPORTING": "false",
}
"""Usage statistics and reports of errors of the libraries that have such."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
"""The hub is not asked; what lies in its cache is found."""


def stay_here(online: bool = False) -> None:
    """Set the variables of this process and its children; with `online` the hub may be asked."""
    for name, value in (QUIET if online else QUIET | OFFLINE).items():
        os.environ.setdefault(name, value)
