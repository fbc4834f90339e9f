"""``lesionseg app``: the page that runs a model in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lesionseg.cli_parts import Overwrite, err, example, out, say

__all__ = ["EPILOG", "app_page"]

EPILOG = example(
    "lesionseg app",
    "lesionseg app --model runs/finetuned/export/finetuned-int8.onnx",
    "lesionseg app --model finetuned-int8.onnx --build page/",
    "lesionseg app --model finetuned-int8.onnx --host 192.168.1.20 --certificate cert.pem --key key.pem",
)


def app_page(
    model: Annotated[
        str | None,
        typer.Option(
            help="A model that ships, an exported .onnx file, or the run folder that holds one; by default the "
            "lightest that ships."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 8517,
    build: Annotated[
        Path | None, typer.Option(help="Write the page into this folder for a web host, and serve nothing.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine can reach it then.")] = (
        "127.0.0.1"
    ),
    names: Annotated[
        list[str] | None, typer.Option("--name", help="A further host name of this machine; may be repeated.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM file, for HTTPS.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file with the certificate's key.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Serve a page that finds lesions in the browser, on photos and the live camera; no photo leaves the device."""
    from lesionseg.app.address import Address, check_address
    from lesionseg.app.building import find_page
    from lesionseg.app.hosts import is_local
    from lesionseg.app.server import serve
    from lesionseg.app.site import default_model, find_file, make_site, require_site_folder, write_site

    address = Address(host, port, tuple(names or ()), certificate, key)
    # Before the page is made, which may take minutes.
    if build is not None:
        require_site_folder(build, overwrite=overwrite)
    else:
        check_address(address)
    name = default_model() if model is None else model
    file = find_file(name)
    page = find_page(say)
    with out.status("making the page"):
        site = make_site(file, page)
    if build is not None:
        write_site(site, build, inputs=[file], overwrite=overwrite)
        say(f"page -> {escape(str(build))}: {sum(map(len, site.values())) / 1e6:.0f} MB; see docs/app.md on hosting it")
        return
    if not is_local(host):
        _warn_of_others(secure=certificate is not None)
    serve(site, address, lambda url: say(f"{escape(name)} is at {url}   (Ctrl-C stops)"))


def _warn_of_others(*, secure: bool) -> None:
    line = "others in this network can open the page; their photos stay on their own devices"
    if not secure:
        line += ". Browsers give camera, threads and offline use to HTTPS alone: add --certificate and --key"
    err.print(f"[yellow]Warning[/yellow] {line}", highlight=False, soft_wrap=True)
