"""A plugin of a test's own, installed as any distribution is: a module, and what tells its entry point."""

from pathlib import Path


def install(folder: Path, name: str, source: str, version: int = 1) -> dict[str, str]:
    """Put the plugin `name` into `folder`; the environment in which the program finds it."""
    info = folder / f"{name}-{version}.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{name}.py").write_text(source)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}.0\n")
    (info / "entry_points.txt").write_text(f"[mediacdn]\n{name} = {name}\n")
    return {"PYTHONPATH": str(folder)}
