"""Routes of the core at further paths, unchanged in all else: /media for the model-first verbs, /stream/hls for what plays."""

from typing import Any

from mediacdn import Core

MEDIA, TASKS, STREAM = "/v1/media/{media_id:str}", "/v1/media/tasks/{task_id:str}", "/v1/media/{media_id:str}/hls/{path:path}"
MOUNTS = (
    ("POST", "/v1/media", "/media"),
    ("GET", "/v1/media", "/media"),
    ("GET", MEDIA, "/media/{media_id:str}"),
    ("DELETE", MEDIA, "/media/{media_id:str}"),
    ("GET", f"{MEDIA}/variants", "/media/{media_id:str}/variants"),
    ("POST", f"{MEDIA}/variants", "/media/{media_id:str}/variants"),
    ("GET", f"{MEDIA}/tasks", "/media/{media_id:str}/tasks"),
    ("POST", f"{MEDIA}/tasks/{{code:str}}", "/media/{media_id:str}/tasks/{code:str}"),
    ("GET", TASKS, "/media/tasks/{task_id:str}"),
    ("DELETE", TASKS, "/media/tasks/{task_id:str}"),
    ("GET", f"{TASKS}/events", "/media/tasks/{task_id:str}/events"),
    ("GET", STREAM, "/stream/hls/{media_id:str}/{path:path}"),
    ("GET", f"/s/{{token:str}}{STREAM}", "/s/{token:str}/stream/hls/{media_id:str}/{path:path}"),
)


def mounted(core: Core) -> list[Any]:
    """The handlers; those of GET that answer HEAD do so here too."""
    return [core.mount(*each) for each in MOUNTS]
