"""The API's description for people: one page of our own over the OpenAPI document, with nothing fetched from elsewhere."""

from typing import Any

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

_STYLE = """
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}body{max-width:60rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem;text-transform:capitalize;border-bottom:1px solid #8884}summary{cursor:pointer;padding:.35rem 0}
summary b{display:inline-block;min-width:4.5rem;font-family:ui-monospace,monospace}code,pre{font-family:ui-monospace,monospace;font-size:.9em}
pre{overflow:auto;background:#8881;padding:.75rem;border-radius:.4rem}details div{margin:0 0 1rem 4.5rem}td,th{text-align:left;padding:.1rem 1rem .1rem 0}
"""
_SCRIPT = """
const add=(parent,tag,text)=>{const e=document.createElement(tag);if(text!==undefined)e.textContent=text;parent.append(e);return e};
fetch(document.body.dataset.spec).then(r=>r.json()).then(spec=>{
  const main=document.querySelector('main'),groups={};
  document.querySelector('h1').textContent=spec.info.title+' '+spec.info.version;
  const resolve=s=>s&&s.$ref?spec.components.schemas[s.$ref.split('/').pop()]:s;
  for(const [path,ops] of Object.entries(spec.paths))for(const [method,op] of Object.entries(ops))
    if(op.responses)(groups[(op.tags||['other'])[0]]??=[]).push([method,path,op]);
  for(const [group,ops] of Object.entries(groups)){
    add(main,'h2',group);
    for(const [method,path,op] of ops){
      const details=add(main,'details'),summary=add(details,'summary');
      add(summary,'b',method.toUpperCase());add(summary,'code',path);
      const box=add(details,'div');add(box,'p',op.description||op.summary||'');
      if((op.parameters||[]).length){const table=add(box,'table');
        for(const p of op.parameters){const row=add(table,'tr');add(row,'td').append(add(row,'code',p.name));
          add(row,'td',p.in+(p.required?', required':''));add(row,'td',p.description||'')}}
      for(const body of Object.values(op.requestBody?.content||{})){add(box,'p','Body');add(box,'pre',JSON.stringify(resolve(body.schema),null,2))}
      for(const [code,answer] of Object.entries(op.responses)){add(box,'p',code+' '+answer.description);
        for(const [type,c] of Object.entries(answer.content||{}))if(c.schema&&type!=='application/problem+json')add(box,'pre',JSON.stringify(resolve(c.schema),null,2))}
    }}
});
"""


class SchemaPage(OpenAPIRenderPlugin):
    """Renders /schema as a list of operations that unfold."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type="text/html")  # type: ignore[arg-type]

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        del openapi_schema
        spec = request.scope["path"].rstrip("/") + "/openapi.json"
        return (
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
            f"<title>mediacdn API</title><style>{_STYLE}</style>"
            f"<body data-spec='{spec}'><h1>API</h1><p>The document itself: <a href='{spec}'>openapi.json</a></p><main></main>"
            f"<script>{_SCRIPT}</script></body></html>"
        ).encode()
