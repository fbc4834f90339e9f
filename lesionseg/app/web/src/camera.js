// The camera, and the loop that sends its frames through the model one after the other.

const LIVE_SIDE = 640; // Longest side of a live frame where the browser shrinks it, in pixels.
const WANTED = { width: { ideal: 1920 }, height: { ideal: 1440 } };

/** What went wrong with a camera, in words for the user. */
export function cameraProblem(error) {
  if (!navigator.mediaDevices) return "Browsers give the camera to secure pages only: open this page over HTTPS, or on the machine that serves it.";
  const known = {
    NotAllowedError: "The camera was not allowed. Allow it in the browser’s settings of this page, then try again.",
    NotFoundError: "There is no camera here.",
    NotReadableError: "The camera is in use by another program.",
  };
  return known[error.name] ?? `The camera did not start (${error.message}).`;
}

/**
 * Whether `copyTo` gives the pixels as they are to be seen, as RGBA: browsers that do not know this wish give their own order
 * of bytes, and none turns, mirrors or stretches.
 * @param {VideoFrame} frame
 */
export function isPlain(frame) {
  if (!frame.format || frame.format.startsWith("BGR") || frame.rotation || frame.flip) return false;
  const { width, height } = frame.visibleRect; // Of another size than what is shown, where the browser shrinks a camera's picture.
  if (Math.abs(frame.displayWidth / frame.displayHeight / (width / height) - 1) > 0.01) return false;
  try {
    return frame.allocationSize({ format: "RGBA" }) === 4 * width * height;
  } catch {
    return false;
  }
}

export class Camera {
  #running = false;

  /**
   * @param {HTMLVideoElement} video never shown itself: its frames are, each with its own mask
   * @param {() => void} onEnd told where it stops by itself
   */
  constructor(video, onEnd) {
    Object.assign(this, { video, onEnd });
  }

  get isOpen() {
    return Boolean(this.video.srcObject);
  }

  async open(choice = { facingMode: { ideal: "environment" } }) {
    if (!navigator.mediaDevices) throw new Error("no camera on insecure pages");
    const stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: { ...WANTED, ...choice } });
    this.close();
    this.video.srcObject = stream;
    // Pulled out, forbidden, or taken by another program: its last picture would stay as if it were live.
    stream.getVideoTracks()[0].addEventListener("ended", () => {
      if (this.video.srcObject !== stream) return;
      this.close();
      this.onEnd();
    });
    await this.video.play().catch((error) => {
      // Closed, or turned again, before the first picture came.
      if (this.video.srcObject === stream) throw error;
    });
  }

  close() {
    this.#running = false;
    for (const track of this.video.srcObject?.getTracks() ?? []) track.stop();
    this.video.srcObject = null;
  }

  async count() {
    const devices = await navigator.mediaDevices.enumerateDevices();
    return devices.filter((device) => device.kind === "videoinput").length;
  }

  /** Front to back on a phone, one camera to the next elsewhere. */
  async turn() {
    const { facingMode, deviceId } = this.video.srcObject.getVideoTracks()[0].getSettings();
    if (facingMode) return this.open({ facingMode: { ideal: facingMode === "user" ? "environment" : "user" } });
    const devices = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "videoinput");
    const next = devices[(devices.findIndex((device) => device.deviceId === deviceId) + 1) % devices.length];
    return this.open({ deviceId: { exact: next.deviceId } });
  }

  /** @returns {Promise<Blob>} what the camera sees, at its full size */
  async take() {
    const canvas = new OffscreenCanvas(this.video.videoWidth, this.video.videoHeight);
    canvas.getContext("2d").drawImage(this.video, 0, 0);
    return canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
  }

  /**
   * @param {(frame: VideoFrame | ImageBitmap) => Promise<void>} use gets the next frame when it is done with the last
   * @returns {Promise<void>} when the camera is closed
   */
  async run(use) {
    const stream = this.video.srcObject;
    this.#running = true;
    const isOn = () => this.#running && this.video.srcObject === stream;
    while (isOn()) {
      // Also rests while the page is hidden.
      await new Promise(requestAnimationFrame);
      const { videoWidth, readyState } = this.video;
      if (!isOn() || readyState < HTMLMediaElement.HAVE_CURRENT_DATA || !videoWidth) continue;
      await use(await this.#frame());
    }
  }

  /** What the video shows now: its own pixels where that is possible, else shrunk by the browser. */
  async #frame() {
    if ("VideoFrame" in globalThis) {
      const frame = new VideoFrame(this.video);
      if (isPlain(frame)) return frame;
      frame.close();
    }
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, LIVE_SIDE / Math.max(videoWidth, videoHeight));
    const size = { resizeWidth: Math.round(videoWidth * scale), resizeHeight: Math.round(videoHeight * scale) };
    return createImageBitmap(this.video, { ...size, resizeQuality: "medium" });
  }
}

/** Frames per second over the last second or so. */
export class Pace {
  #times = [];

  tick(now = performance.now()) {
    this.#times.push(now);
    while (now - this.#times[0] > 1500) this.#times.shift();
    const span = now - this.#times[0];
    return span ? (1000 * (this.#times.length - 1)) / span : 0;
  }
}
