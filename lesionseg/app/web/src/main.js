// The page: what its buttons, files and keys do.

import { Camera, Pace, cameraProblem } from "./camera.js";
import { Engine } from "./engine.js";
import { Gallery } from "./gallery.js";
import { percent, showAbout, showMeasures, showReview, speedLine } from "./panel.js";
import { save, stem, table } from "./save.js";

const $ = (selector) => document.querySelector(selector);
const base = new URL("./", location.href).href;
const look = { style: "contour", threshold: 0.5 };
const picture = $("#picture");
const screen = picture.getContext("bitmaprenderer");
const camera = new Camera($("#video"), () => problem("No camera", "The camera stopped."));
const gallery = new Gallery($("#strip"), show);
const options = new URLSearchParams(location.search);
let engine;
let loaded; // What the model says of itself, once it is there.

const tell = (text) => {
  $("#told").textContent = text;
};

// --- the stage --------------------------------------------------------------------------------------------------------

/** One of: welcome, picture, problem. */
function stage(what) {
  for (const id of ["welcome", "picture", "problem"]) $(`#${id}`).hidden = id !== what;
  const isLive = camera.isOpen;
  $("#shoot").hidden = $("#pace").hidden = !isLive;
  $("#panel").hidden = what !== "picture";
  $("#saves").hidden = $("#measures").hidden = isLive;
  if (isLive) $("#review").hidden = true;
}

function problem(title, text) {
  $("#problem h2").textContent = title;
  $("#problem p").textContent = text;
  $("#problem button").hidden = !gallery.current;
  stage("problem");
}

function paint(bitmap, said) {
  picture.width = bitmap.width;
  picture.height = bitmap.height;
  screen.transferFromImageBitmap(bitmap);
  picture.setAttribute("aria-label", said);
}

// --- photos -----------------------------------------------------------------------------------------------------------

async function add(files) {
  const photos = [...files].map((file) => gallery.add(file, file.name ?? takenName()));
  if (!photos.length) return;
  closeCamera();
  show(photos[0]);
  for (const photo of photos) if (gallery.photos.includes(photo)) await find(photo);
}

const forget = ({ key }) => engine.ask("forget", { key });

const takenName = () => `camera-${new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-")}.jpg`;

async function find(photo) {
  try {
    const { thumbnail, ...found } = await engine.ask("photo", { key: photo.key, blob: photo.blob, threshold: look.threshold });
    if (!gallery.photos.includes(photo)) return forget(photo); // Removed meanwhile.
    Object.assign(photo, { state: "done", ...found });
    gallery.update(photo, thumbnail);
  } catch (error) {
    Object.assign(photo, { state: "failed", error: error.message });
    if (!error.isPhoto) console.error(error);
    gallery.update(photo);
  }
  if (gallery.current === photo) show(photo);
}

function show(photo) {
  closeCamera();
  gallery.choose(photo);
  if (!photo) {
    $("#busy").hidden = true;
    return stage("welcome");
  }
  $("#busy").hidden = photo.state !== "waiting";
  if (photo.state === "failed") {
    tell(`${photo.name}: ${photo.error}`);
    return problem(photo.name, photo.error);
  }
  if (photo.state === "done") return render();
  stage("");
}

let isDrawing = false;
let isStale = false;

/** Draws the current photo; a slider that moves on meanwhile is followed once it is done. */
async function render() {
  isStale = true;
  if (isDrawing) return;
  isDrawing = true;
  try {
    while (isStale && gallery.current?.state === "done" && !camera.isOpen) {
      isStale = false;
      const photo = gallery.current;
      const { bitmap, measures } = await engine.ask("render", { key: photo.key, look });
      if (gallery.current !== photo || camera.isOpen) {
        bitmap.close();
        continue;
      }
      present(photo, bitmap, measures);
    }
  } catch (error) {
    fail(error);
  } finally {
    isDrawing = false;
  }
}

function present(photo, bitmap, measures) {
  photo.measures = measures;
  const found = `lesion ${percent(measures.lesion_fraction)} of the photo`;
  stage("picture");
  paint(bitmap, `${photo.name}, ${look.style}: ${found}`);
  showMeasures($("#measures"), measures, photo.ms);
  showReview($("#review"), measures.reasons);
  gallery.update(photo);
  $("[data-do=original]").hidden = !photo.isTaken;
  tell(`${photo.name}: ${found}. ${measures.reasons.length ? $("#review").textContent : ""}`);
}

// --- camera -----------------------------------------------------------------------------------------------------------

async function openCamera(start) {
  if (!loaded) return;
  let cameras;
  try {
    await start();
    cameras = await camera.count();
  } catch (error) {
    camera.close();
    gallery.choose(null);
    $("#busy").hidden = true;
    return problem("No camera", cameraProblem(error));
  }
  if (!camera.isOpen) return; // Closed meanwhile.
  gallery.choose(null);
  $("#busy").hidden = true;
  $("[data-do=turn]").hidden = cameras < 2;
  const pace = new Pace();
  stage("picture");
  $("[data-do=take]").focus();
  await camera.run(async (frame) => {
    const { bitmap, fraction, ms } = await engine.ask("frame", { frame, look }, [frame]);
    if (!camera.isOpen) return bitmap.close();
    $("#pace").textContent = `${Math.round(ms)} ms · ${pace.tick().toFixed(0)} fps · ${percent(fraction)}`;
    paint(bitmap, "Live picture of the camera");
  });
}

function closeCamera() {
  if (!camera.isOpen) return;
  camera.close();
  picture.hidden = true;
}

// --- what buttons and keys do -----------------------------------------------------------------------------------------

/** Rows of the table, all at one threshold, whatever is moved or removed meanwhile. */
async function measureAll(threshold) {
  const rows = [];
  for (const photo of gallery.photos.filter(({ state }) => state !== "waiting")) {
    if (!gallery.photos.includes(photo)) continue;
    const isDone = photo.state === "done";
    rows.push({ ...photo, ...(isDone && (await engine.ask("measure", { key: photo.key, threshold }))) });
  }
  return rows;
}

/** Where the keyboard goes on after a button that is gone. */
const focus = () => (gallery.current?.button ?? $("#welcome button")).focus();

const actions = {
  choose: () => $("#files").click(),
  camera: () => openCamera(() => camera.open()),
  turn: () => openCamera(() => camera.turn()),
  take: async () => {
    const taken = await camera.take();
    const added = add([taken]);
    focus();
    await added;
  },
  close: () => {
    show(gallery.photos.at(-1) ?? null);
    focus();
  },
  remove: () => {
    const { current } = gallery;
    forget(current);
    show(gallery.remove(current));
    focus();
  },
  original: () => save(gallery.current.blob, gallery.current.name),
  mask: async () => {
    const { key, name } = gallery.current;
    save((await engine.ask("mask", { key, threshold: look.threshold })).blob, `${stem(name)}_segmentation.png`);
  },
  overlay: async () => {
    const { key, name } = gallery.current;
    const style = look.style === "photo" ? "contour" : look.style;
    save((await engine.ask("overlay", { key, look: { ...look, style } })).blob, `${stem(name)}_overlay.jpg`);
  },
  table: async () => {
    const { threshold } = look;
    save(table(await measureAll(threshold), loaded.info, threshold), "predictions.csv");
  },
};

function fail(error) {
  console.error(error);
  problem("Something went wrong", error.message);
}

function listen() {
  document.addEventListener("click", (event) => {
    const action = actions[event.target.closest("[data-do]")?.dataset.do];
    if (action) Promise.resolve(action()).catch(fail);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && camera.isOpen) actions.close();
  });
  $("#files").addEventListener("change", ({ target }) => {
    const files = [...target.files];
    target.value = ""; // The same file may be chosen again.
    add(files).catch(fail);
  });
  $("#looks").addEventListener("change", ({ target }) => {
    look.style = target.value;
    $("#scale").hidden = look.style !== "heat";
    render();
  });
  $("#threshold").addEventListener("input", ({ target }) => {
    look.threshold = Number(target.value);
    $("#threshold-value").textContent = look.threshold.toFixed(2);
    render();
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) add(event.clipboardData.files).catch(fail);
  });
  const drop = (event, isOver) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    $("#drop").hidden = !isOver;
  };
  document.addEventListener("dragover", (event) => drop(event, true));
  document.addEventListener("dragleave", (event) => event.relatedTarget || drop(event, false));
  document.addEventListener("drop", (event) => {
    drop(event, false);
    add(event.dataTransfer.files).catch(fail);
  });
  $("#backend select").addEventListener("change", ({ target }) => {
    // The photos of this visit would be lost silently in a reload.
    load({ backend: target.value }).then(() => render(), fail);
  });
}

// --- start ------------------------------------------------------------------------------------------------------------

async function load(wanted) {
  $("#status").textContent = "Loading the model …";
  loaded = await engine.ask("load", { base, wanted }, [], ({ part }) => {
    $("#status").textContent = part < 1 ? `Loading the model: ${Math.round(100 * part)} %` : "Starting the model …";
  });
  $("#status").textContent = `${loaded.info.name} · ${speedLine(loaded)}`;
  showAbout($("#about dl"), loaded);
}

/** Another version, perhaps with another model, has come while the page from before is open. */
function renew() {
  // A host that hands out two versions in turn must not keep the page from ever being there.
  const isNew = Date.now() - Number(sessionStorage.renewed ?? 0) > 60_000;
  if (isNew && !gallery.photos.length && !camera.isOpen) {
    sessionStorage.renewed = Date.now();
    return location.reload();
  }
  $("#status").textContent = "A newer version is here: reload the page once you have saved what you need";
}

async function start() {
  const { serviceWorker } = navigator;
  const isKept = Boolean(serviceWorker?.controller);
  // A browser may find a newer version while the model is still loading.
  if (isKept) serviceWorker.addEventListener("controllerchange", renew, { once: true });
  engine = new Engine(new URL("worker.js", base));
  listen();
  const threads = Number(options.get("threads")) || undefined;
  const backend = options.get("backend") ?? undefined;
  $("#backend select").value = backend ?? "";
  $("#backend").hidden = !navigator.gpu;
  await load({ backend, threads });
  document.documentElement.dataset.ready = "";
  // Afterwards: it fetches everything once more, for the next visit.
  const registered = await serviceWorker?.register("sw.js").catch(console.warn);
  // Browsers look for a newer version when they like to; without a network there is none.
  if (isKept) await registered?.update().catch(() => {});
}

start().catch((error) => {
  $("#status").textContent = "The model did not load";
  fail(error);
});
