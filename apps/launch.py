"""How the Streamlit pages are started: the server settings that keep a user's images on this machine."""

MAX_UPLOAD_MIB = 20  # the same limit as jvlm.images.load.DEFAULT_LIMITS


def streamlit_flags(address: str = "127.0.0.1") -> list[str]:
    """Flags for `streamlit run PAGE`: local address unless told, no telemetry, no internals in the browser."""
    return [
        f"--server.address={address}",
        # no page elsewhere can speak to it under a name of its own; in a container it is reached through this machine's
        "--server.allowedHosts=127.0.0.1",
        "--server.allowedHosts=localhost",
        "--server.headless=true",  # else the first start waits on the terminal for an e-mail address
        f"--server.maxUploadSize={MAX_UPLOAD_MIB}",
        "--server.enableXsrfProtection=true",
        "--server.enableCORS=true",
        "--server.fileWatcherType=none",
        "--browser.gatherUsageStats=false",
        "--client.showErrorDetails=none",
        "--client.toolbarMode=minimal",
    ]
