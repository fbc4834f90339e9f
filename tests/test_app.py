"""The page in a browser: the program's masks, the camera, no network, no complaint."""

import base64
import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from lesionseg import RESEARCH_USE, api
from lesionseg.app.building import build_page, page_version
from lesionseg.app.site import default_model
from lesionseg.data.images import decode_mask, read_mask
from lesionseg.data.synthetic import generate
from lesionseg.errors import ConfigError, ResourceError
from lesionseg.shipped_models import find_model, shipped_models

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="no npm here"),
]
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here")
expect = playwright.expect
SECONDS = 60_000.0


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page in ``page/dist`` and npm's packages in ``page/node_modules``; built once."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(shared / "app.lock"):
        if not (shared / "app" / "page" / "dist" / "version.txt").is_file():
            shutil.rmtree(shared / "app", ignore_errors=True)
            try:
                build_page(shared / "app" / "page")
            except (ConfigError, ResourceError) as error:
                pytest.skip(f"the page cannot be built: {error}")
        kept = shared / "app" / "lesionseg" / "app" / page_version()
        if not kept.exists():
            shutil.copytree(shared / "app" / "page" / "dist", kept)
    return shared / "app"


def command(work: Path, *words: object) -> dict[str, Any]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(work)}
    program = [sys.executable, "-c", "from lesionseg.cli import main; main()", "app"]
    return {"args": [*program, *map(str, words)], "env": environment, "text": True}


@contextmanager
def served(work: Path, model: Path) -> Iterator[str]:
    with subprocess.Popen(**command(work, "--model", model, "--port", 0), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield line.split(" is at ")[1].split()[0]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=5) == 0


@pytest.fixture(scope="module")
def url(work: Path, exported: tuple[Path, Path]) -> Iterator[str]:
    with served(work, exported[1]) as address:
        yield address


PHOTO = generate(11, 0, height=240, width=320).pair.image


def film_of(photo: np.ndarray, folder: Path) -> str:
    """Chromium's words for a made-up camera that sees nothing but a photo."""
    frame = io.BytesIO()
    Image.fromarray(photo).save(frame, "JPEG", quality=95)
    (folder / "film.mjpeg").write_bytes(frame.getvalue() * 5)
    return f"--use-file-for-fake-video-capture={folder / 'film.mjpeg'}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    words = ["--no-sandbox", "--use-fake-device-for-media-stream", film_of(PHOTO, tmp_path_factory.mktemp("film"))]
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=words)
        yield started
        started.close()


@contextmanager
def another(browser: Any, *words: str) -> Iterator[Any]:
    """A browser with other cameras."""
    all_words = ["--no-sandbox", *words]
    with browser.browser_type.launch(executable_path=CHROMIUM, args=all_words) as started:
        yield started


@contextmanager
def visit(browser: Any, address: str, *, ready: bool = True, **options: Any) -> Iterator[Any]:
    """A page in a fresh browser profile; it must not complain."""
    context = browser.new_context(**{"permissions": ["camera"], "viewport": {"width": 390, "height": 844}, **options})
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    expect.set_options(timeout=SECONDS)
    complaints: list[str] = []
    page.on("console", lambda told: complaints.append(f"{told.type}: {told.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    if ready:
        page.wait_for_selector("html[data-ready]")
    yield page
    context.close()
    assert complaints == []


def choose(page: Any, *files: Path) -> None:
    before = page.locator("#strip li").count()
    page.set_input_files("#files", [str(file) for file in files])
    expect(page.locator("#strip li")).to_have_count(before + len(files))
    expect(page.locator("#strip .waiting")).to_have_count(0)


def saved(page: Any, what: str) -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.click(f"[data-do={what}]")
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def dice(first: np.ndarray, second: np.ndarray) -> float:
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def photos_in(folder: Path) -> list[Path]:
    """The same kinds of files that people have: other formats, turned by EXIF, smaller than the model's input."""
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds: dict[str, tuple[int, int, dict[str, Any]]] = {
        "one.jpg": (240, 320, {"quality": 92}),
        "two.png": (333, 501, {}),
        "three.webp": (200, 300, {"lossless": True}),
        "turned.jpg": (240, 320, {"quality": 92, "exif": turned}),
        "also turned.webp": (240, 320, {"lossless": True, "exif": turned}),
        "small.png": (41, 57, {}),
        "=hostile,.png": (120, 90, {}),
    }
    for number, (name, (height, width, options)) in enumerate(kinds.items()):
        Image.fromarray(generate(5, number, height=height, width=width).pair.image).save(folder / name, **options)
    return sorted(folder.iterdir())


def test_the_masks_and_the_table_are_those_of_predict(
    browser: Any, url: str, exported: tuple[Path, Path], tmp_path: Path
) -> None:
    files = photos_in(tmp_path / "photos")
    table = api.predict(tmp_path / "photos", exported[1], tmp_path / "masks").table
    with visit(browser, url) as page:
        choose(page, *files)
        for number, file in enumerate(files):
            page.locator("#strip li button").nth(number).click()
            expect(page.locator("#picture")).to_have_attribute("aria-label", re.compile(f"^{re.escape(file.name)}, "))
            assert page.get_attribute("#picture", "aria-label") == f"{file.name}, contour: {found(page)}"
            name, data = saved(page, "mask")
            assert name == f"{file.stem}_segmentation.png"
            expected = read_mask(tmp_path / "masks" / name)
            mask = decode_mask(data, name).values
            assert mask.shape == expected.shape
            assert dice(mask, expected) >= 0.99, file.name
        name, data = saved(page, "table")
    assert name == "predictions.csv"
    theirs = list(csv.DictReader(io.StringIO(data.decode())))
    ours = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
    assert theirs[0].keys() <= ours[0].keys()
    for row, expected in zip(theirs, ours, strict=True):
        same = ("file", "width", "height", "model_sha256", "photo_sha256", "threshold", "status")
        for column in (*same, "expected_dice", "review", "reasons"):
            assert row[column] == expected[column]
        assert float(row["lesion_fraction"]) == pytest.approx(float(expected["lesion_fraction"]), abs=1e-3)
        if expected["mean_probability"]:
            assert float(row["mean_probability"]) == pytest.approx(float(expected["mean_probability"]), abs=1e-3)


def found(page: Any) -> Any:
    """What the page says of the current mask, once it is drawn."""
    expect(page.locator("#measures dd").first).to_be_visible()
    return f"lesion {page.locator('#measures dd').first.inner_text()} of the photo"


def test_the_page_is_built_of_these_sources(work: Path) -> None:
    built = work / "page" / "dist"
    assert (built / "version.txt").read_text() == page_version()
    names = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert {"index.html", "main.js", "worker.js", "sw.js", "style.css", "manifest.webmanifest"} <= names
    # No script of the page may need what its policy forbids, and none may fetch from elsewhere.
    for name in ("index.html", "main.js", "worker.js", "sw.js"):
        text = (built / name).read_text(encoding="utf-8")
        assert "eval(" not in text
        assert "http:" not in text
        assert "https:" not in text
    ours = sum((built / name).stat().st_size for name in names if not name.startswith("ort/"))
    assert ours < 200_000


def test_threads_and_the_research_line(browser: Any, url: str) -> None:
    with visit(browser, url) as page:
        assert page.evaluate("crossOriginIsolated")
        most = min(4, page.evaluate("navigator.hardwareConcurrency"))
        expect(page.locator("#status")).to_contain_text(f"{most} thread")
        expect(page.locator("footer")).to_contain_text(RESEARCH_USE)
        expect(page.locator("footer")).to_be_in_viewport()
        assert page.locator("#threshold").input_value() == "0.5"
    with visit(browser, f"{url}?threads=1") as page:
        expect(page.locator("#status")).to_contain_text("1 thread")


def test_renderings_threshold_and_removal(browser: Any, url: str, tmp_path: Path) -> None:
    files = photos_in(tmp_path / "photos")[:2]
    with visit(browser, url) as page:
        choose(page, *files)
        pictures = {}
        for look in ("photo", "contour", "heat", "focus"):
            page.check(f"input[value={look}]", force=True)
            expect(page.locator("#picture")).to_have_attribute("aria-label", page_label(look))
            name, pictures[look] = saved(page, "overlay")
            assert name == f"{files[0].stem}_overlay.jpg"
        assert pictures["photo"] == pictures["contour"]
        assert len(set(pictures.values())) == 3
        assert Image.open(io.BytesIO(pictures["heat"])).size == (90, 120)
        share = page.locator("#measures dd").first
        expect(page.locator("#scale")).to_be_hidden()
        page.locator("#threshold").fill("0.95")
        expect(page.locator("#threshold-value")).to_have_text("0.95")
        expect(share).to_have_text("0.00 %")
        expect(page.locator("#review")).to_contain_text("no lesion found")
        page.click("#saves [data-do=remove]")
        expect(page.locator("#strip li")).to_have_count(1)
        page.click("#saves [data-do=remove]")
        expect(page.locator("#welcome")).to_be_visible()
        expect(page.locator("#strip")).to_be_hidden()


def page_label(look: str) -> Any:
    return re.compile(f", {look}: lesion")


def test_the_keyboard_is_enough(browser: Any, url: str, tmp_path: Path) -> None:
    files = photos_in(tmp_path / "photos")[:3]
    with visit(browser, url) as page:
        choose(page, *files)
        page.locator("#strip li button").first.focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#strip li button").nth(1)).to_have_attribute("aria-current", "true")
        expect(page.locator("#told")).to_contain_text(files[1].name)
        page.locator("#looks input:checked").focus()
        page.keyboard.press("ArrowRight")
        assert page.locator("#looks input:checked").get_attribute("value") == "heat"
        page.locator("#threshold").focus()
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#threshold-value")).to_have_text("0.49")


def test_what_is_no_photo_is_told(browser: Any, url: str, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("not a photo at all, whatever it is called")
    whole = io.BytesIO()
    Image.fromarray(PHOTO).save(whole, "PNG")
    (tmp_path / "torn.png").write_bytes(whole.getvalue()[:60])
    header = bytearray(whole.getvalue())
    header[16:24] = (30_000).to_bytes(4) + (20_000).to_bytes(4)
    (tmp_path / "huge.png").write_bytes(bytes(header))
    (tmp_path / "good.png").write_bytes(whole.getvalue())
    said = {"notes.jpg": "not a photo", "torn.png": "could not be decoded", "huge.png": "64 megapixels"}
    with visit(browser, url) as page:
        choose(page, *(tmp_path / name for name in [*said, "good.png"]))
        expect(page.locator("#strip .failed")).to_have_count(3)
        for number, (name, reason) in enumerate(said.items()):
            page.locator("#strip li button").nth(number).click()
            expect(page.locator("#problem")).to_contain_text(name)
            expect(page.locator("#problem")).to_contain_text(reason)
        page.locator("#strip li button").nth(3).click()
        expect(page.locator("#picture")).to_be_visible()
        rows = list(csv.DictReader(io.StringIO(saved(page, "table")[1].decode())))
        page.locator("#strip li button").first.click()
        page.click("#problem [data-do=remove]")
        expect(page.locator("#strip .failed")).to_have_count(2)
    assert [row["status"] for row in rows] == ["failed"] * 3 + ["ok"]


def test_the_camera(browser: Any, url: str, exported: tuple[Path, Path], tmp_path: Path) -> None:
    with visit(browser, url) as page:
        page.click("#welcome [data-do=camera]")
        expect(page.locator("#pace")).to_contain_text("fps")
        expect(page.locator("[data-do=take]")).to_be_focused()
        expect(page.locator("#picture")).to_have_attribute("width", "320")
        page.keyboard.press("Enter")
        expect(page.locator("#strip .waiting")).to_have_count(0)
        expect(page.locator("#strip li")).to_have_count(1)
        expect(page.locator("#picture")).to_have_attribute("aria-label", page_label("contour"))
        name, data = saved(page, "original")
        taken = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        assert name.startswith("camera-")
        assert np.abs(taken - PHOTO).mean() < 15  # The made-up camera has other levels.
        (tmp_path / name).write_bytes(data)
        api.predict(tmp_path / name, exported[1], tmp_path / "masks")
        ours, theirs = saved(page, "mask")
        assert dice(decode_mask(theirs, ours).values, read_mask(tmp_path / "masks" / ours)) >= 0.99
        page.click("#strip [data-do=camera]")
        expect(page.locator("#shoot")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#shoot")).to_be_hidden()
        expect(page.locator("#strip li button")).to_be_focused()
        assert page.evaluate("document.querySelector('#video').srcObject") is None


def test_one_camera_after_the_other(browser: Any, url: str) -> None:
    device = "document.querySelector('#video').srcObject?.getVideoTracks()[0].getSettings().deviceId"
    words = "--use-fake-device-for-media-stream=device-count=2"
    with another(browser, words) as other, visit(other, url) as page:
        page.click("#welcome [data-do=camera]")
        expect(page.locator("#pace")).to_contain_text("fps")
        first = page.evaluate(device)
        page.click("[data-do=turn]")
        page.wait_for_function(f"(first) => ({device} ?? first) !== first", arg=first)
        expect(page.locator("#pace")).to_contain_text("fps")
        page.click("[data-do=close]")
        expect(page.locator("#welcome")).to_be_visible()


def test_live_frames_are_the_same_in_other_browsers(browser: Any, url: str) -> None:
    shares = []
    for leave in ("", "delete globalThis.VideoFrame", "VideoFrame.prototype.allocationSize = () => { throw Error() }"):
        with visit(browser, url) as page:
            page.evaluate(f"() => {{ {leave} }}")
            page.evaluate("""() => {
                window.kinds = new Set();
                const post = Worker.prototype.postMessage;
                Worker.prototype.postMessage = function (message, transfer) {
                    if (message.kind === "frame") window.kinds.add(message.values.frame.constructor.name);
                    post.call(this, message, transfer);
                };
            }""")
            page.click("#welcome [data-do=camera]")
            expect(page.locator("#pace")).to_contain_text("fps")
            shares.append(float(page.locator("#pace").inner_text().split()[-2]))
            assert page.evaluate("[...window.kinds]") == ["ImageBitmap" if leave else "VideoFrame"]
    assert shares[0] > 1
    assert shares == pytest.approx([shares[0]] * 3, abs=1)


def test_a_camera_closed_before_its_first_picture(browser: Any, url: str, tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "skin.png")
    with visit(browser, url) as page:
        page.evaluate("""() => {
            HTMLMediaElement.prototype.play = () => new Promise((_, reject) => {
                window.interrupt = () => reject(new DOMException("", "AbortError"));
            });
        }""")
        page.click("#welcome [data-do=camera]")
        page.wait_for_function("() => window.interrupt")
        choose(page, tmp_path / "skin.png")
        page.evaluate("window.interrupt()")
        page.evaluate("new Promise(requestAnimationFrame)")
        expect(page.locator("#picture")).to_have_attribute("aria-label", re.compile("^skin.png"))
        expect(page.locator("#problem")).to_be_hidden()
        assert page.evaluate("document.querySelector('#strip [aria-current=true]') !== null")


def test_a_camera_that_stops_by_itself(browser: Any, url: str) -> None:
    with visit(browser, url) as page:
        page.click("#welcome [data-do=camera]")
        expect(page.locator("#pace")).to_contain_text("fps")
        page.evaluate("""() => {
            const [track] = document.querySelector("#video").srcObject.getVideoTracks();
            track.stop();
            track.dispatchEvent(new Event("ended"));  // Which stop() alone does not send.
        }""")
        expect(page.locator("#problem")).to_contain_text("The camera stopped.")
        expect(page.locator("#pace")).to_be_hidden()
        expect(page.locator("#picture")).to_be_hidden()


HOLD = """() => {
    // The worker is sent nothing that matches until it is let go.
    window.held = [];
    const post = Worker.prototype.postMessage;
    window.hold = (kind, after = 0) => {
        Worker.prototype.postMessage = function (message, transfer) {
            if (message.kind !== kind || after-- > 0) return post.call(this, message, transfer);
            window.held.push(() => post.call(this, message, transfer));
        };
    };
    window.letGo = () => {
        Worker.prototype.postMessage = post;
        for (const send of window.held.splice(0)) send();
    };
}"""


def test_a_photo_that_waits_has_nothing_to_save(browser: Any, url: str, tmp_path: Path) -> None:
    files = photos_in(tmp_path / "photos")[:3]
    with visit(browser, url) as page:
        choose(page, files[0])
        expect(page.locator("#panel")).to_be_visible()
        page.evaluate(HOLD)
        page.evaluate("hold('photo')")
        page.set_input_files("#files", [str(file) for file in files[1:]])
        expect(page.locator("#strip .waiting")).to_have_count(2)
        expect(page.locator("#busy")).to_be_visible()
        expect(page.locator("#panel")).to_be_hidden()
        # Taken away before its turn, and while it is under way; its button is seen after an error alone.
        for number in (2, 1):
            page.locator("#strip li button").nth(number).click()
            expect(page.locator("#panel")).to_be_hidden()
            page.evaluate("document.querySelector('#problem [data-do=remove]').click()")
            expect(page.locator("#strip li")).to_have_count(number)
        expect(page.locator("#picture")).to_have_attribute("aria-label", re.compile(f"^{re.escape(files[0].name)}"))
        page.evaluate("letGo()")
        page.evaluate("new Promise((done) => setTimeout(done, 500))")
        expect(page.locator("#strip li")).to_have_count(1)
        expect(page.locator("#problem")).to_be_hidden()


def test_a_table_has_one_threshold_whatever_is_done_meanwhile(browser: Any, url: str, tmp_path: Path) -> None:
    files = photos_in(tmp_path / "photos")[:4]
    with visit(browser, url) as page:
        choose(page, *files)
        expect(page.locator("#panel")).to_be_visible()
        before = list(csv.DictReader(io.StringIO(saved(page, "table")[1].decode())))
        page.evaluate(HOLD)
        page.evaluate("hold('measure', 2)")
        with page.expect_download() as download:
            page.click("[data-do=table]")
            page.wait_for_function("() => window.held.length")
            page.locator("#threshold").fill("0.95")
            page.locator("#strip li button").nth(3).click()
            page.click("#saves [data-do=remove]")
            page.evaluate("letGo()")
        after = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
        expect(page.locator("#problem")).to_be_hidden()
    assert len(before) == 4
    assert after == before[:3]


HAND_OVER = """async ([how, data]) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const files = new DataTransfer();
    files.items.add(new File([bytes], `${how}.png`, { type: "image/png" }));
    const more = { bubbles: true, cancelable: true };
    if (how === "pasted") return document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: files, ...more }));
    for (const kind of ["dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: files, ...more }));
    }
}"""


def test_photos_are_dropped_and_pasted(browser: Any, url: str) -> None:
    data = io.BytesIO()
    Image.fromarray(PHOTO).save(data, "PNG")
    with visit(browser, url) as page:
        for number, how in enumerate(("dropped", "pasted"), 1):
            page.evaluate(HAND_OVER, [how, base64.b64encode(data.getvalue()).decode()])
            expect(page.locator("#strip li")).to_have_count(number)
            expect(page.locator("#picture")).to_have_attribute("aria-label", re.compile(f"^{how}.png, contour: lesion"))
            expect(page.locator("#drop")).to_be_hidden()


def test_what_is_no_dermoscopy_is_told(browser: Any, url: str, tmp_path: Path) -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(np.kron(tiles, np.ones((40, 40, 1), np.uint8))).save(tmp_path / "tiles.png")
    Image.fromarray(PHOTO).save(tmp_path / "skin.png")
    with visit(browser, url) as page:
        choose(page, tmp_path / "tiles.png", tmp_path / "skin.png")
        expect(page.locator("#review")).to_contain_text("perhaps no dermoscopy photo: ")
        page.locator("#strip li button").nth(1).click()
        expect(page.locator("#picture")).to_have_attribute("aria-label", re.compile("^skin.png"))
        expect(page.locator("#review")).not_to_contain_text("no dermoscopy")


def test_no_camera_is_told(browser: Any, url: str) -> None:
    with visit(browser, url, permissions=[]) as page:
        page.evaluate("""() => {
            navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotFoundError'));
        }""")
        page.click("#welcome [data-do=camera]")
        expect(page.locator("#problem")).to_contain_text("There is no camera here.")
        expect(page.locator("#busy")).to_be_hidden()


@pytest.mark.parametrize(("scheme", "width", "height"), [("light", 390, 844), ("dark", 1280, 800)])
def test_it_is_accessible(
    browser: Any, url: str, work: Path, tmp_path: Path, scheme: str, width: int, height: int
) -> None:
    axe = (work / "page" / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    good, *_ = photos_in(tmp_path / "photos")
    (tmp_path / "bad.jpg").write_text("no")

    def check(page: Any) -> None:
        page.evaluate(axe)
        result = page.evaluate("axe.run()")
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in result["violations"]] == []

    with visit(browser, url, color_scheme=scheme, viewport={"width": width, "height": height}) as page:
        check(page)
        choose(page, good, tmp_path / "bad.jpg")
        expect(page.locator("#measures dd").first).to_be_visible()
        page.click("#about summary")
        page.check("input[value=heat]", force=True)
        expect(page.locator("#scale")).to_be_visible()
        check(page)
        page.locator("#strip li button").nth(1).click()
        check(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_it_works_without_a_network(browser: Any, work: Path, exported: tuple[Path, Path], tmp_path: Path) -> None:
    good, *_ = photos_in(tmp_path / "photos")
    with served(work, exported[1]) as address:
        context = visit(browser, address)
        page = context.__enter__()
        page.evaluate("navigator.serviceWorker.ready.then(() => 0)")
    # The server is gone.
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.evaluate("crossOriginIsolated")
    choose(page, good)
    expect(page.locator("#measures dd").first).to_be_visible()
    context.__exit__(None, None, None)


class _Plain(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def test_a_host_without_headers(browser: Any, work: Path, exported: tuple[Path, Path], tmp_path: Path) -> None:
    subprocess.run(**command(work, "--model", exported[1], "--build", tmp_path / "site"), check=True, timeout=120)
    folder = tmp_path / "site"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Plain, directory=str(folder))) as host:
        Thread(target=host.serve_forever, daemon=True).start()
        with visit(browser, f"http://127.0.0.1:{host.server_address[1]}/") as page:
            assert not page.evaluate("crossOriginIsolated")
            expect(page.locator("#status")).to_contain_text("1 thread")
            page.evaluate("navigator.serviceWorker.ready.then(() => 0)")
            page.reload()
            page.wait_for_selector("html[data-ready]")
            assert page.evaluate("crossOriginIsolated")
        host.shutdown()


@pytest.fixture
def two_sites(work: Path, exported: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The page with one model, and with another."""
    for number, model in enumerate((exported[1], find_model(default_model())), 1):
        words = command(work, "--model", model, "--build", tmp_path / f"site {number}")
        subprocess.run(**words, check=True, timeout=120, stdout=subprocess.DEVNULL)
    return tmp_path / "site 1", tmp_path / "site 2"


@contextmanager
def hosted(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Plain, directory=str(folder))) as host:
        Thread(target=host.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{host.server_address[1]}/"
        host.shutdown()


def name_in(site: Path) -> str:
    return str(json.loads((site / "model.json").read_text())["name"])


def test_a_visit_during_an_upload(browser: Any, two_sites: tuple[Path, Path]) -> None:
    old, new = two_sites
    first, second = name_in(old), name_in(new)
    with hosted(old) as address:
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(SECONDS)
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        page.evaluate("navigator.serviceWorker.ready.then(() => 0)")
        for name in ("model.json", "sw.js"):
            shutil.copy(new / name, old / name)
        page.reload()
        page.wait_for_selector("html[data-ready]")
        expect(page.locator("#status")).to_contain_text(first)
        # What it fetches is of two versions, and none of it is kept.
        assert (
            page.evaluate("""async () => {
            const { installing } = await (await navigator.serviceWorker.getRegistration()).update();
            const isOver = () => ["redundant", "activated"].includes(installing.state);
            while (!isOver()) await new Promise((done) => (installing.onstatechange = done));
            return installing.state;
        }""")
            == "redundant"
        )
        shutil.copy(new / "model.onnx", old / "model.onnx")
        page.reload()
        # The new version comes by itself, as nothing would be lost.
        expect(page.locator("#status")).to_contain_text(second)
        page.wait_for_selector("html[data-ready]")
        context.close()


def test_a_new_version_during_a_visit(browser: Any, two_sites: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = two_sites
    digest = json.loads((old / "model.json").read_text())["sha256"]
    with hosted(old) as address, visit(browser, address) as page:
        page.evaluate("navigator.serviceWorker.ready.then(() => 0)")
        page.reload()
        page.wait_for_selector("html[data-ready]")
        choose(page, *photos_in(tmp_path / "photos")[:1])
        for name in ("model.json", "model.onnx", "sw.js"):
            shutil.copy(new / name, old / name)
        page.evaluate("navigator.serviceWorker.getRegistration().then((found) => found.update()).then(() => 0)")
        expect(page.locator("#status")).to_contain_text("A newer version is here")
        before = saved(page, "table")[1]
        # Loads the model again, which is another by now.
        page.click("#about summary")
        page.evaluate("document.querySelector('#backend').hidden = false")
        page.select_option("#backend select", "wasm")
        expect(page.locator("#status")).to_contain_text(name_in(new))
        after = saved(page, "table")[1]
    assert csv.DictReader(io.StringIO(before.decode())).__next__()["model_sha256"] == digest
    assert after == before


def test_a_damaged_model_is_refused(browser: Any, work: Path, exported: tuple[Path, Path], tmp_path: Path) -> None:
    subprocess.run(**command(work, "--model", exported[1], "--build", tmp_path / "site"), check=True, timeout=120)
    model = bytearray((tmp_path / "site" / "model.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (tmp_path / "site" / "model.onnx").write_bytes(bytes(model))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Plain, directory=str(tmp_path / "site"))) as host:
        Thread(target=host.serve_forever, daemon=True).start()
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{host.server_address[1]}/")
        expect(page.locator("#problem")).to_contain_text("the model is damaged")
        context.close()
        host.shutdown()


# --- real photos, long runs -------------------------------------------------------------------------------------------


@pytest.mark.real
def test_real_photos(browser: Any, work: Path, tmp_path: Path) -> None:
    if default_model() not in shipped_models():
        pytest.skip("no model is shipped; one that has learned little decides by the last bit")
    model = find_model(default_model())
    files = sorted((Path(os.environ["LESIONSEG_DATA"]) / "photos").glob("*.jpg"))[:20]
    assert len(files) == 20
    (tmp_path / "photos").mkdir()
    for file in files:
        shutil.copy(file, tmp_path / "photos")
    api.predict(tmp_path / "photos", model, tmp_path / "masks")
    scores = {}
    with served(work, model) as address, visit(browser, address) as page:
        choose(page, *files)
        for number in range(len(files)):
            page.locator("#strip li button").nth(number).click()
            name, data = saved(page, "mask")
            scores[name] = dice(decode_mask(data, name).values, read_mask(tmp_path / "masks" / name))
    assert min(scores.values()) >= 0.99, sorted(scores.items(), key=lambda item: item[1])[:4]


FRAMES = """() => {
    window.frames_ = 0;
    new MutationObserver(() => window.frames_++).observe(
        document.querySelector("#picture"), { attributes: true, attributeFilter: ["width"] });
}"""


@pytest.mark.slow
def test_memory_stays_flat_while_live(browser: Any, url: str, tmp_path: Path) -> None:
    film = film_of(generate(11, 0, height=480, width=640).pair.image, tmp_path)
    with another(browser, "--use-fake-device-for-media-stream", film) as other, visit(other, url) as page:
        page.evaluate(FRAMES)
        page.click("#welcome [data-do=camera]")

        def memory_after(frames: int) -> int:
            while page.evaluate("window.frames_") < frames:
                page.wait_for_timeout(50)
            return browser_memory()

        start = memory_after(100)
        # Frames that are made into bitmaps leave 280 MB behind in these 400.
        assert max(memory_after(frames) for frames in range(150, 501, 50)) < start + 60_000


def browser_memory() -> int:
    """Resident kilobytes of all renderers and graphics processes among this process's descendants."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,rss,args"], capture_output=True, text=True, check=True).stdout
    children: dict[str, list[list[str]]] = {}
    for pid, parent, size, words in (line.split(None, 3) for line in listed.splitlines()[1:]):
        children.setdefault(parent, []).append([pid, size, words])
    waiting, total = [str(os.getpid())], 0
    while waiting:
        for pid, size, words in children.get(waiting.pop(), []):
            waiting.append(pid)
            if "--type=renderer" in words or "--type=gpu-process" in words:
                total += int(size)
    return total
