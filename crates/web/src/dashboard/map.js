// Where the satellites of the catalog are. Degrees are the drawing's units: the map is as wide as long.

import { attribute, byId, el, keyed, text } from "./dom.js";
import { count } from "./format.js";
import { HOT_MS, keyOf, stateWords } from "./model.js";
import { LAND } from "./land.js";

/** Satellites drawn at most; those that have connected go first. */
const DOTS_MAX = 1000;
const SVG = "http://www.w3.org/2000/svg";

export class WorldMap {
  constructor(model, open) {
    this.model = model;
    this.note = el("p", { class: "empty" });
    this.svg = svg("svg", { viewBox: "-180 -90 360 180", role: "img", "aria-labelledby": "map-title map-aside" });
    const lines = [];
    for (let lon = -150; lon <= 150; lon += 30) lines.push(`M${lon} -90V90`);
    for (let lat = -60; lat <= 60; lat += 30) lines.push(`M-180 ${lat}H180`);
    this.dots = svg("g");
    this.svg.append(svg("rect", { class: "sea", x: -180, y: -90, width: 360, height: 180 }), svg("path", { class: "land", d: LAND, "fill-rule": "evenodd" }),
      svg("path", { class: "graticule", d: lines.join("") }), svg("path", { class: "equator", d: "M-180 0H180M0 -90V90" }), this.dots);
    byId("map").append(this.svg, this.note);
    this.dots.addEventListener("click", (event) => {
      const { key } = event.target.closest("g[data-key]")?.dataset ?? {};
      if (key) open(key);
    });
  }

  draw() {
    const { catalog, catalogError } = this.model;
    // Of what has come down there is no position.
    const sets = (catalog?.sets ?? []).filter((set) => Number.isFinite(set.latitude_deg));
    this.note.hidden = sets.length > 0;
    attribute(byId("map"), "data-sets", sets.length);
    if (catalog === null) text(this.note, catalogError === "none" ? "The daemon has no catalog of orbits." : `The catalog is ${catalogError}.`);
    else text(this.note, "The catalog is empty: set catalog.file, or PUT element sets to /api/v1/catalog.");
    const streams = new Map();
    for (const source of this.model.sorted) {
      if (!streams.has(source.source_id) || source.state === "connected") streams.set(source.source_id, source);
    }
    const known = sets.filter((set) => streams.has(set.norad_id)).length;
    text(byId("map-aside"), sets.length === 0 ? "" : `${count(sets.length)} in the catalog, ${count(known)} have connected${sets.length > DOTS_MAX ? `; ${count(DOTS_MAX)} shown` : ""}`);
    // Who has connected is drawn over the others.
    const ordered = [...sets].sort((a, b) => streams.has(a.norad_id) - streams.has(b.norad_id)).slice(-DOTS_MAX);
    attribute(this.dots, "class", ordered.length > 100 ? "crowded" : null);
    keyed(this.dots, ordered, (set) => set.norad_id, makeDot, (dot, set) => this.drawDot(dot, set, streams.get(set.norad_id)));
  }

  drawDot(dot, set, source) {
    const look = source ? this.model.look(source) : null;
    attribute(dot, "transform", `translate(${set.longitude_deg.toFixed(2)} ${(-set.latitude_deg).toFixed(2)})`);
    attribute(dot, "data-state", look?.state ?? "unknown");
    attribute(dot, "data-emergency", emergency(look));
    attribute(dot, "data-key", source ? keyOf(source) : null);
    text(dot.querySelector("title"), `${set.name} (${set.norad_id}), ${look ? stateWords[look.state] : "has not connected"}, ${set.altitude_km.toFixed(0)} km up`);
  }
}

const emergency = (look) => (look === null || look.emergencyMs === null ? null : look.emergencyMs <= HOT_MS ? "hot" : "recent");

function makeDot(set) {
  const dot = svg("g", { class: "dot" });
  const label = svg("text", { x: 4, y: 1.6 });
  label.textContent = String(set.norad_id);
  dot.append(svg("title"), svg("circle", { class: "halo", r: 5 }), svg("circle", { class: "body", r: 2.2 }), svg("path", { class: "cross", d: "M-2-2L2 2M2-2L-2 2" }), label);
  return dot;
}

function svg(tag, attributes = {}) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}
