// Slice browser, and the buttons that hide lines of the charts. The address holds the state: #scene=0&entry=cleftnet&z=3&layer=errors
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("slices").textContent);
  const LAYERS = ["raw", "truth", "probability", "distance", "errors"];
  const byId = (id) => document.getElementById(id);
  const [base, tint, boxes, slider, slice] = ["base", "tint", "boxes", "z", "slice"].map(byId);
  const stage = document.querySelector(".stage");
  const layerButtons = document.querySelectorAll("[data-layer]");
  const state = { scene: 0, entry: data.entries[0][0], index: data.scenes[0].first, layer: "errors", at: null, zoom: 1 };

  const scene = () => data.scenes[state.scene];
  const predicted = () => scene().entries[state.entry];
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  function tints(layer) { // the pictures of a layer, one for each section; null if there are none
    if (layer === "raw") return null;
    return layer === "truth" ? scene().truth : predicted()[layer] || null;
  }

  function draw() {
    const current = scene();
    if (state.layer === "distance" && !predicted().distance) state.layer = "probability";
    const pictures = tints(state.layer);
    base.src = current.raw[state.index];
    base.alt = `raw, section ${current.sections[state.index]}`;
    tint.hidden = !pictures;
    if (pictures) {
      tint.src = pictures[state.index];
      tint.alt = `${state.layer} over raw, section ${current.sections[state.index]}`;
    }
    const marked = state.layer === "errors" ? predicted().boxes[state.index] : [];
    boxes.setAttribute("viewBox", `0 0 ${current.width} ${current.height}`);
    boxes.innerHTML = marked
      .map(([kind, y0, x0, y1, x1]) => `<rect class="${kind}" x="${x0}" y="${y0}" width="${x1 - x0}" height="${y1 - y0}"/>`)
      .join("");
    slice.style.aspectRatio = current.aspect;
    slice.style.width = `${100 * state.zoom}%`;
    byId("bar").style.width = `${current.bar_percent}%`;
    byId("bar").firstElementChild.textContent = `${current.bar_nm} nm`;
    slider.max = current.sections.length - 1;
    slider.value = state.index;
    slider.setAttribute("aria-valuetext", `section ${current.sections[state.index]}`);
    byId("section").textContent = current.sections[state.index];
    for (const button of layerButtons) {
      button.setAttribute("aria-pressed", button.dataset.layer === state.layer);
      button.disabled = button.dataset.layer === "distance" && !predicted().distance;
      button.title = button.disabled ? "this model predicts no distance" : "";
    }
    if (byId("scene")) byId("scene").value = state.scene;
    if (byId("entry")) byId("entry").value = state.entry;
    byId("zoom").value = state.zoom;
    const target = byId("target");
    target.hidden = !state.at;
    if (state.at) {
      target.style.top = `${(100 * (state.at[0] - current.origin[1] + 0.5)) / current.height}%`;
      target.style.left = `${(100 * (state.at[1] - current.origin[2] + 0.5)) / current.width}%`;
    }
    for (const side of [state.index - 1, state.index + 1]) { // preload the neighboring sections
      if (pictures && pictures[side]) new Image().src = pictures[side];
      if (current.raw[side]) new Image().src = current.raw[side];
    }
  }

  function nearest(z) {
    const distance = scene().sections.map((other) => Math.abs(other - z));
    return distance.indexOf(Math.min(...distance));
  }

  function read() { // reads the state from the address; false if the address holds none
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (!["scene", "entry", "z", "layer", "at"].some((key) => wanted.has(key))) return false;
    const number = Number(wanted.get("scene"));
    if (wanted.has("scene") && data.scenes[number] && number !== state.scene) {
      state.scene = number;
      state.index = scene().first;
    }
    if (data.entries.some(([key]) => key === wanted.get("entry"))) state.entry = wanted.get("entry");
    if (wanted.has("z") && Number.isFinite(Number(wanted.get("z")))) state.index = nearest(Number(wanted.get("z")));
    if (LAYERS.includes(wanted.get("layer"))) state.layer = wanted.get("layer");
    const at = (wanted.get("at") || "").split(",").map(Number);
    state.at = at.length === 2 && at.every(Number.isFinite) ? at : null;
    draw();
    return true;
  }

  function set(change) {
    Object.assign(state, { at: null }, change);
    state.index = clamp(state.index, 0, scene().sections.length - 1);
    draw();
    const shown = { scene: state.scene, entry: state.entry, z: scene().sections[state.index], layer: state.layer };
    try {
      history.replaceState(null, "", `#${new URLSearchParams(shown)}`);
    } catch { /* some viewers give the page no address */ }
  }

  slider.addEventListener("input", () => set({ index: Number(slider.value) }));
  for (const button of layerButtons) button.addEventListener("click", () => set({ layer: button.dataset.layer }));
  if (byId("scene"))
    byId("scene").addEventListener("change", (event) => {
      const number = Number(event.target.value);
      set({ scene: number, index: data.scenes[number].first });
    });
  if (byId("entry")) byId("entry").addEventListener("change", (event) => set({ entry: event.target.value }));
  byId("zoom").addEventListener("change", (event) => set({ zoom: Number(event.target.value), at: state.at }));

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const { target, key } = event;
    if (target.matches("select, textarea, pre, .scroll")) return; // these use the arrow keys themselves
    const inside = stage.contains(target) || target === slider;
    const move = { ArrowRight: 1, ArrowLeft: -1, ...(inside ? { ArrowUp: 1, ArrowDown: -1 } : {}) }[key];
    const layer = LAYERS[Number(key) - 1];
    if (move) set({ index: state.index + move });
    else if (layer) set({ layer });
    else if ((key === "[" || key === "]") && data.entries.length > 1) {
      const keys = data.entries.map(([name]) => name);
      const next = keys.indexOf(state.entry) + (key === "]" ? 1 : -1);
      set({ entry: keys[(next + keys.length) % keys.length] });
    } else return;
    event.preventDefault();
  });

  slice.addEventListener("pointermove", (event) => {
    const current = scene();
    const frame = slice.getBoundingClientRect();
    const y = clamp(Math.floor(((event.clientY - frame.top) / frame.height) * current.height), 0, current.height - 1);
    const x = clamp(Math.floor(((event.clientX - frame.left) / frame.width) * current.width), 0, current.width - 1);
    const local = [current.sections[state.index] - current.origin[0], y, x];
    const voxel = local.map((value, axis) => value + current.origin[axis]);
    const nm = local.map((value, axis) => (value * current.voxel_nm[axis] + current.offset_nm[axis]).toFixed(0));
    byId("place").textContent = `voxel z ${voxel[0]}  y ${voxel[1]}  x ${voxel[2]}  –  ${nm.join(", ")} nm`;
  });

  for (const button of document.querySelectorAll("[data-toggle]"))
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", shown);
      for (const line of document.querySelectorAll(`[data-entry="${button.dataset.toggle}"]`)) line.classList.toggle("off", !shown);
    });

  function follow() {
    if (read()) byId("browser").scrollIntoView();
  }
  window.addEventListener("hashchange", follow);
  draw();
  follow();
})();
