"""The on-disk formats, one file each; every file has a FORMAT."""
