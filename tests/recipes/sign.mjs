// LINK_KID=… LINK_SECRET=<base64> node sign.mjs PATH EXP IAT [sub=…] [ip=…] [disposition=attachment] [m=PUT]
import { createHmac } from "node:crypto";

// encodeURIComponent leaves ! ' ( ) * as they are; RFC 3986 reserves them.
const encode = (value) =>
  encodeURIComponent(value).replace(/[!'()*]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());

export function sign(path, exp, iat, kid, secret, more = {}) {
  const said = { exp, iat, kid, ...more };
  const pair = (name) => `${name}=${encode(said[name])}`;
  const text = ["v1", said.m ?? "GET", path, Object.keys(said).sort().map(pair).join("&")].join("\n");
  const sig = createHmac("sha256", secret).update(text).digest("base64url");
  const order = ["exp", "iat", "kid", "m", "sub", "ip", "disposition"].filter((name) => name in said);
  return `${path}?${order.map(pair).join("&")}&sig=${sig}`;
}

const [path, exp, iat, ...pairs] = process.argv.slice(2);
const more = Object.fromEntries(pairs.map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]));
const secret = Buffer.from(process.env.LINK_SECRET, "base64");
console.log(sign(path, exp, iat, process.env.LINK_KID, secret, more));
