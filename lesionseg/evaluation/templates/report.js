"use strict";
(() => {
  const gallery = document.querySelector(".gallery");
  if (!gallery) return;
  const key = document.querySelector("#sort-key"), order = document.querySelector("#sort-order");
  const show = document.querySelector("#sort-filter"), count = document.querySelector("#sort-count");
  const cases = [...gallery.children];
  const compare = (one, other) => {
    const a = one.dataset[key.value], b = other.dataset[key.value];
    return (order.value === "rising" ? 1 : -1) * (key.value === "name" ? a.localeCompare(b) : a - b);
  };
  const arrange = () => {
    const words = show.value.toLowerCase();
    cases.sort(compare);
    for (const one of cases) one.hidden = !one.dataset.name.toLowerCase().includes(words);
    gallery.replaceChildren(...cases);
    count.textContent = `${cases.filter((one) => !one.hidden).length} of ${cases.length}`;
  };
  // A link may ask for an order, as in #sort=gap,falling.
  const asked = /^#sort=(\w+),(rising|falling)$/.exec(location.hash);
  if (asked && [...key.options].some((option) => option.value === asked[1])) {
    [, key.value, order.value] = asked;
  }
  for (const control of [key, order]) control.addEventListener("change", arrange);
  show.addEventListener("input", arrange);
  document.querySelector(".controls").hidden = false;
  arrange();

  const tip = document.querySelector(".tip"), plot = document.querySelector(".scatter");
  if (!plot) return;
  const tell = (event) => {
    const point = event.target.closest("a");
    tip.hidden = !point;
    if (!point) return;
    tip.textContent = point.dataset.tip;
    const box = plot.getBoundingClientRect(), at = point.getBoundingClientRect();
    const left = at.left - box.left, wide = left > box.width / 2;
    tip.style.left = wide ? "auto" : `${left + 14}px`;
    tip.style.right = wide ? `${box.width - left + 6}px` : "auto";
    tip.style.top = `${at.top - box.top - 10}px`;
  };
  plot.addEventListener("pointermove", tell);
  plot.addEventListener("focusin", tell);
  plot.addEventListener("pointerleave", () => { tip.hidden = true; });
  // A panel that the filter hides cannot be jumped to.
  plot.addEventListener("click", () => { show.value = ""; arrange(); });
})();
