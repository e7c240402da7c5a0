"""LINK_KID=… LINK_SECRET=<base64> python3 sign.py PATH EXP IAT [sub=…] [ip=…] [disposition=attachment] [m=PUT]"""

import base64
import hashlib
import hmac
import os
import sys
from urllib.parse import quote


def sign(path: str, exp: int, iat: int, kid: str, secret: bytes, **more: str) -> str:
    said = {"exp": str(exp), "iat": str(iat), "kid": kid, **more}
    pairs = {name: f"{name}={quote(value, safe='')}" for name, value in said.items()}
    text = "\n".join(["v1", more.get("m", "GET"), path, "&".join(pairs[name] for name in sorted(pairs))])
    sig = base64.urlsafe_b64encode(hmac.digest(secret, text.encode(), hashlib.sha256)).rstrip(b"=").decode()
    order = ["exp", "iat", "kid", "m", "sub", "ip", "disposition"]
    return f"{path}?{'&'.join(pairs[name] for name in order if name in pairs)}&sig={sig}"


if __name__ == "__main__":
    path, exp, iat, *more = sys.argv[1:]
    secret = base64.b64decode(os.environ["LINK_SECRET"])
    print(sign(path, int(exp), int(iat), os.environ["LINK_KID"], secret, **dict(pair.split("=", 1) for pair in more)))
