"""Fixed text the server answers: resource options, VOSI documents, Tomcat's own page."""

from __future__ import annotations

from html import escape

#: GET context without a LimitRange (skaha-api 7).
CORES = tuple(range(1, 17))
MEMORY = (
    1,
    2,
    4,
    6,
    8,
    10,
    12,
    14,
    16,
    20,
    24,
    26,
    28,
    30,
    32,
    36,
    40,
    44,
    48,
    56,
    64,
    80,
    92,
    112,
    128,
    140,
    170,
    192,
)
GPUS = tuple(range(1, 29))
CONTEXT: dict[str, object] = {
    "cores": {"default": 2, "defaultRequest": 1, "defaultLimit": 8, "options": CORES},
    "memoryGB": {"default": 8, "defaultRequest": 4, "defaultLimit": 32, "options": MEMORY},
    "gpus": {"options": GPUS},
    "maxInteractiveSessions": "0",
}
#: Hosts that GET repository names; images from elsewhere pass all the same, since none is started.
REPOSITORIES = ("images.canfar.net",)

AVAILABILITY = """<?xml version="1.0" encoding="UTF-8"?>
<vosi:availability xmlns:vosi="http://www.ivoa.net/xml/VOSIAvailability/v1.0">
  <vosi:available>true</vosi:available>
  <vosi:note>Skaha Service Available. This is the local platform of skahactl.</vosi:note>
</vosi:availability>
"""

_CAPABILITIES = """<?xml version="1.0" encoding="UTF-8"?>
<vosi:capabilities xmlns:vosi="http://www.ivoa.net/xml/VOSICapabilities/v1.0"
    xmlns:vs="http://www.ivoa.net/xml/VODataService/v1.1" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <capability standardID="ivo://ivoa.net/std/VOSI#capabilities">
    <interface xsi:type="vs:ParamHTTP" role="std"><accessURL use="full">{base}/capabilities</accessURL></interface>
  </capability>
  <capability standardID="ivo://ivoa.net/std/VOSI#availability">
    <interface xsi:type="vs:ParamHTTP" role="std"><accessURL use="full">{base}/availability</accessURL></interface>
  </capability>
{apis}</vosi:capabilities>
"""
_API = """  <capability standardID="http://www.opencadc.org/std/platform#{name}-1">
    <interface xsi:type="vs:ParamHTTP" role="std" version="1.0">
      <accessURL use="base">{base}/v1/{name}</accessURL>
      <securityMethod standardID="ivo://ivoa.net/sso#token"/>
    </interface>
  </capability>
"""
_NOT_FOUND = (
    '<!doctype html><html lang="en"><head><title>HTTP Status 404 – Not Found</title></head><body>'
    '<h1>HTTP Status 404 – Not Found</h1><hr class="line" /><p><b>Type</b> Status Report</p>'
    "<p><b>Message</b> The requested resource [{path}] is not available</p><p><b>Description</b> The origin server did "
    "not find a current representation for the target resource or is not willing to disclose that one exists.</p>"
    '<hr class="line" /><h3>Apache Tomcat</h3></body></html>'
)
INDEX = (
    '<!doctype html><html lang="en"><head><title>Skaha</title></head><body><h1>Skaha</h1>'
    "<p>The local platform of skahactl. The interface is below <code>/skaha/v1</code>.</p></body></html>"
)


def capabilities(base: str) -> str:
    """``base``: scheme, host and ``/skaha`` as the client reached it."""
    apis = "".join(_API.format(base=escape(base), name=name) for name in ("session", "context", "image", "repository"))
    return _CAPABILITIES.format(base=escape(base), apis=apis)


def not_found(path: str) -> str:
    return _NOT_FOUND.format(path=escape(path))
