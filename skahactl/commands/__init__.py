"""One module a verb: parse, one call into the domain, one call to render."""
