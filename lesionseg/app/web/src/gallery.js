// The strip of photos: what is known of each, and its button.

let last = 0;

export class Gallery {
  /**
   * @param {HTMLElement} strip
   * @param {(photo: object) => void} onChoose
   */
  constructor(strip, onChoose) {
    Object.assign(this, { strip, list: strip.querySelector("ul"), onChoose, photos: [], current: null });
    this.list.addEventListener("keydown", (event) => this.#move(event));
  }

  /** @returns {object} the photo: key, name, blob, state (`waiting`, `done` or `failed`), and later what is found */
  add(blob, name) {
    const photo = { key: ++last, name, blob, state: "waiting", isTaken: !(blob instanceof File) };
    const item = document.createElement("li");
    photo.button = document.createElement("button");
    photo.button.type = "button";
    photo.button.addEventListener("click", () => this.onChoose(photo));
    item.append(photo.button);
    this.list.append(item);
    this.photos.push(photo);
    this.update(photo);
    return photo;
  }

  update(photo, thumbnail) {
    const { button, name, state } = photo;
    const reasons = photo.measures?.reasons ?? [];
    button.className = state;
    if (thumbnail) {
      const canvas = document.createElement("canvas");
      canvas.width = thumbnail.width;
      canvas.height = thumbnail.height;
      canvas.getContext("bitmaprenderer").transferFromImageBitmap(thumbnail);
      button.querySelector("canvas")?.remove();
      button.prepend(canvas);
    }
    const isMarked = state === "failed" || reasons.length;
    button.querySelector(".mark")?.remove();
    if (isMarked) button.append(Object.assign(document.createElement("span"), { className: "mark", textContent: "!", ariaHidden: "true" }));
    const said = { waiting: "waiting", failed: "cannot be used", done: reasons.length ? "needs review" : "done" }[state];
    button.setAttribute("aria-label", `${name}: ${said}`);
    button.title = name;
    this.strip.hidden = !this.photos.length;
  }

  choose(photo) {
    this.current = photo;
    for (const other of this.photos) other.button.setAttribute("aria-current", String(other === photo));
    photo?.button.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** @returns {object | null} the photo that takes its place */
  remove(photo) {
    const place = this.photos.indexOf(photo);
    this.photos.splice(place, 1);
    photo.button.parentElement.remove();
    this.strip.hidden = !this.photos.length;
    return this.photos[Math.min(place, this.photos.length - 1)] ?? null;
  }

  #move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = step && this.photos[this.photos.findIndex((photo) => photo.button === document.activeElement) + step];
    if (!next) return;
    event.preventDefault();
    next.button.focus();
    this.onChoose(next);
  }
}
