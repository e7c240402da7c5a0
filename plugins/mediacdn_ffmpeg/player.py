"""The page `/v1/media/{id}/player`, to be embedded: it plays the stream beside it, by hls.js or by the browser itself.

It is the same for every media and says nothing of any: what it plays, and what keeps it, it asks for by relative addresses, and so with the right that its own address
carries. Of the page nothing is kept: another release's page, or another policy, counts at once. It names its scripts by what is in them, which may be kept.
Its policy lets it load from this server alone, and run nothing but the two scripts here.
"""

from hashlib import sha256
from importlib.resources import files
from typing import Any

from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec

from mediacdn import NotFound

STYLE = (
    "html,body{margin:0;height:100%;background:#000}video{width:100%;height:100%;display:block}"
    "p{position:fixed;top:0;left:0;right:0;margin:0;padding:1rem;color:#fff;background:#000c;font:1rem sans-serif;overflow-wrap:anywhere}p[hidden]{display:none}"
)
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Player</title>
<style>{style}</style>
</head>
<body>
<video id="video" controls playsinline preload="metadata" poster="poster"></video>
<p id="told" role="status" hidden></p>
<script src="../../player/hls.min.js?v={library}"></script>
<script src="../../player/player.js?v={script}"></script>
</body>
</html>
"""
SCRIPT = """'use strict';
(() => {
  const video = document.getElementById('video'), told = document.getElementById('told');
  const manifest = new URL('hls/master.m3u8', location.href).href;
  const tell = words => { told.textContent = words; told.hidden = false; };
  const why = {
    401: 'a link is needed', 403: 'the link is not valid, or was revoked', 404: 'there is no stream', 410: 'the link or the film has expired',
    451: 'it is withheld',
  };
  const cannot = words => tell('It cannot be played' + (words ? ': ' + words : ''));
  const because = status => cannot(why[status] || (status ? 'the server says ' + status : ''));
  let mended = 0, pause = 2;
  // A stream that is not there is asked for again, unless the server says that none will come.
  const missing = (said, again) => {
    try {
      const {code, detail} = JSON.parse(said);
      if (code === 'processing_failed') return cannot(detail);
    } catch { /* no problem document */ }
    tell('There is no stream yet; it is asked for again');
    setTimeout(again, pause * 1000);
    pause = Math.min(60, pause * 1.5);
  };
  if (self.Hls && Hls.isSupported()) {
    // A worker would be a script of a blob, which the page's policy does not let in.
    // Subtitles are the browser's to show.
    const none = {subtitleTrackController: undefined, subtitleStreamController: undefined, timelineController: undefined};
    const hls = new Hls({enableWorker: false, ...none});
    hls.on(Hls.Events.MANIFEST_LOADED, (_, {subtitles}) => subtitles.forEach(({name, lang}) => {
      const track = Object.assign(document.createElement('track'), {kind: 'subtitles', label: name, srclang: lang});
      track.src = new URL('subtitles/' + lang, location.href).href;
      video.append(track);
    }));
    hls.on(Hls.Events.MANIFEST_PARSED, () => {
      if (!told.hidden) video.poster = 'poster';
      told.hidden = true;
    });
    hls.on(Hls.Events.ERROR, (_, error) => {
      if (!error.fatal) return;
      const status = error.response ? error.response.code : 0;
      if (error.type === Hls.ErrorTypes.MEDIA_ERROR && mended++ < 3) return hls.recoverMediaError();
      if (error.details === Hls.ErrorDetails.MANIFEST_LOAD_ERROR && status === 404) {
        return missing(error.networkDetails && error.networkDetails.responseText, () => hls.loadSource(manifest));
      }
      because(status);
      hls.destroy();
    });
    hls.loadSource(manifest);
    hls.attachMedia(video);
  } else if (video.canPlayType('application/vnd.apple.mpegurl')) {
    video.addEventListener('error', async () => {
      const answer = await fetch(manifest).catch(() => ({status: 0}));
      if (answer.status === 404) return missing(await answer.text(), () => { video.src = manifest; });
      because(answer.ok ? 0 : answer.status);
    });
    video.addEventListener('loadedmetadata', () => { told.hidden = true; });
    video.src = manifest;
  } else {
    tell('This browser plays no streams');
  }
})();
"""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'sha256-{style}'; connect-src 'self'; media-src 'self' blob:; img-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
_DAY = "public, max-age=86400"


def player_routes() -> list[Any]:
    """The handlers of this file."""
    from base64 import b64encode

    policy = _POLICY.format(style=b64encode(sha256(STYLE.encode()).digest()).decode())
    library = (files("mediacdn_ffmpeg") / "web" / "hls.min.js").read_bytes()
    licence = (files("mediacdn_ffmpeg") / "web" / "hls.js.LICENSE").read_bytes()
    scripts = {"hls.min.js": library, "player.js": SCRIPT.encode(), "hls.js.LICENSE.txt": licence}
    told = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "cross-origin"}
    page_told = {**told, "Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
    marks = {"library": sha256(library).hexdigest()[:16], "script": sha256(SCRIPT.encode()).hexdigest()[:16]}
    written = PAGE.format(style=STYLE, **marks).encode()

    def page() -> Response[bytes]:
        return Response(written, media_type="text/html", headers=page_told)

    def script(name: str) -> Response[bytes]:
        if name not in scripts:
            raise NotFound()
        kind = "text/plain" if name.endswith(".txt") else "text/javascript"
        return Response(scripts[name], media_type=kind, headers={**told, "Cache-Control": _DAY})

    shown = {200: ResponseSpec(bytes, generate_examples=False, description="The page", media_type="text/html")}
    run = {200: ResponseSpec(bytes, generate_examples=False, description="The script", media_type="text/javascript")}

    @get("/v1/media/{media_id:str}/player", responses=shown, tags=["streams"], sync_to_thread=False)
    def player(media_id: str) -> Response[bytes]:
        """A page that plays the media's stream, to be embedded."""
        return page()

    @get("/s/{token:str}/v1/media/{media_id:str}/player", responses=shown, tags=["streams"], sync_to_thread=False)
    def player_by_prefix(token: str, media_id: str) -> Response[bytes]:
        """The same below a prefix token, which what it plays inherits."""
        return page()

    @get("/v1/player/{name:str}", responses=run, tags=["streams"], sync_to_thread=False)
    def part(name: str) -> Response[bytes]:
        """A script of the player."""
        return script(name)

    @get("/s/{token:str}/v1/player/{name:str}", responses=run, tags=["streams"], sync_to_thread=False)
    def part_by_prefix(token: str, name: str) -> Response[bytes]:
        """The same, as a page below a prefix token asks for it."""
        return script(name)

    return [player, player_by_prefix, part, part_by_prefix]
