"""/docs, with a policy that allows what it loads and nothing else."""

import re

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from compute_common.shell.browsers import page_policy

_SOURCE = "https://cdn.jsdelivr.net"  # where FastAPI's page has Swagger UI from
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def install_docs(app: FastAPI) -> None:
    """The page has no field that came from outside, so its script may be hashed as it stands."""
    page = get_swagger_ui_html(openapi_url="/openapi.json", title=f"{app.title}: API")
    scripts = _INLINE.findall(bytes(page.body).decode())
    policy = page_policy(scripts=scripts, more="connect-src 'self'")
    policy = policy.replace("script-src ", f"script-src {_SOURCE} ")
    policy = policy.replace(
        "img-src 'self' data:", f"img-src 'self' data: {_SOURCE} https://fastapi.tiangolo.com"
    )
    policy += f"; style-src {_SOURCE} 'unsafe-inline'"  # Swagger UI writes style attributes

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page.body, headers={"Content-Security-Policy": policy})
