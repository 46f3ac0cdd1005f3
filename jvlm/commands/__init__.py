"""Groups of commands, one file each; `jvlm.cli` puts them together."""
