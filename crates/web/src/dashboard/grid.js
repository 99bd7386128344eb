// All streams at a glance: one button each, whose shape says the same as its colour.

import { attribute, byId, el, fill, keyed, text } from "./dom.js";
import { brief, count, plural, rate } from "./format.js";
import { HOT_MS, keyOf, stateWords } from "./model.js";

/** The chips above the grid: what they count and let through. They are the legend, too. */
const FILTERS = [
  { id: "all", word: "all", test: () => true },
  { id: "flowing", word: "flowing", test: (look) => look.state === "flowing" },
  { id: "silent", word: "silent", test: (look) => look.state === "silent" },
  { id: "lost", word: "lost", test: (look) => look.state === "lost" },
  { id: "offline", word: "offline", test: (look) => look.state === "offline" },
  { id: "emergency", word: "emergency < 1 min", test: (look) => look.emergencyMs !== null },
  { id: "missing", word: "missing", test: (look) => look.missing > 0 },
  { id: "credit", word: "credit ≥ 80 %", test: (look) => look.isCreditHigh },
];
/** Up to so many cells have room for all their words, then for few, then for the number alone. */
const LARGE_MAX = 64;
const MEDIUM_MAX = 200;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Grid {
  constructor(model, open) {
    this.model = model;
    this.open = open;
    this.filter = "all";
    this.search = "";
    this.isGrouped = false;
    this.root = byId("grid");
    this.current = null;
    byId("search").addEventListener("input", (event) => {
      this.search = event.target.value.trim().toLowerCase();
      this.draw();
    });
    byId("group").addEventListener("click", (event) => {
      this.isGrouped = !this.isGrouped;
      event.currentTarget.setAttribute("aria-pressed", this.isGrouped);
      this.draw();
    });
    byId("filters").addEventListener("click", (event) => {
      const chip = event.target.closest("button");
      if (chip === null) return;
      this.filter = this.filter === chip.dataset.filter ? "all" : chip.dataset.filter;
      this.draw();
    });
    this.root.addEventListener("click", (event) => {
      const cell = event.target.closest(".cell");
      if (cell !== null) this.open(cell.dataset.key);
    });
    this.root.addEventListener("focusin", (event) => this.makeCurrent(event.target.closest(".cell")));
    this.root.addEventListener("keydown", (event) => this.move(event));
  }

  draw() {
    if (this.model.stats === null) return;
    const all = this.model.sorted.map((source) => ({ source, key: keyOf(source), look: this.model.look(source) }));
    this.drawFilters(all);
    const test = FILTERS.find((filter) => filter.id === this.filter).test;
    const shown = all.filter((item) => test(item.look) && this.matches(item));
    attribute(this.root, "data-density", shown.length <= LARGE_MAX ? "large" : shown.length <= MEDIUM_MAX ? "medium" : "small");
    attribute(this.root, "data-shown", shown.length);
    attribute(this.root, "data-grouped", this.isGrouped ? "" : null);
    keyed(this.root, this.groups(shown), (group) => group.name, makeGroup, (node, group) => {
      node.querySelector("h3").hidden = !this.isGrouped;
      if (this.isGrouped) drawHeading(node, group);
      keyed(node.querySelector(".cells"), group.items, (item) => item.key, makeCell, drawCell);
    });
    if (!this.current?.isConnected) this.makeCurrent(this.root.querySelector(".cell"));
    this.drawNotes(all.length, shown.length);
  }

  groups(shown) {
    if (!this.isGrouped) return [{ name: "", items: shown }];
    const stations = new Map();
    for (const item of shown) {
      const { station } = item.source;
      if (!stations.has(station)) stations.set(station, []);
      stations.get(station).push(item);
    }
    return [...stations].sort(([a], [b]) => a.localeCompare(b)).map(([name, items]) => ({ name: `@${name}`, items }));
  }

  matches({ source, look }) {
    if (this.search === "") return true;
    const words = [String(source.source_id), source.station.toLowerCase(), (look.name ?? "").toLowerCase()];
    return words.some((word) => word.includes(this.search));
  }

  drawFilters(all) {
    const make = (filter) => el("button", { type: "button", class: "chip", data: { filter: filter.id } },
      el("span", { class: "mark", "aria-hidden": "true" }), el("span", {}, filter.word), el("b"));
    keyed(byId("filters"), FILTERS, (filter) => filter.id, make, (chip, filter) => {
      const counted = all.filter((item) => filter.test(item.look)).length;
      text(chip.querySelector("b"), count(counted));
      attribute(chip, "data-count", counted);
      attribute(chip, "aria-pressed", filter.id === this.filter);
    });
  }

  drawNotes(known, shown) {
    byId("none").hidden = known > 0;
    byId("filters").hidden = known === 0;
    const note = byId("grid-note");
    const parts = [];
    if (this.model.total > known) parts.push(`${count(known)} of ${count(this.model.total)} streams are told of here; /api/v1/sources has all`);
    if (known > 0 && shown === 0) parts.push("nothing matches the filter");
    else if (shown < known) parts.push(`${count(shown)} of ${count(known)} shown`);
    note.hidden = parts.length === 0;
    text(note, parts.join(" · "));
  }

  /** One cell is in the tab order; the arrows move from there. */
  makeCurrent(cell) {
    if (cell === null || cell === this.current) return;
    this.current?.setAttribute("tabindex", "-1");
    cell.setAttribute("tabindex", "0");
    this.current = cell;
  }

  move(event) {
    const cells = [...this.root.querySelectorAll(".cell")];
    const at = cells.indexOf(document.activeElement);
    if (at === -1 || event.ctrlKey || event.altKey || event.metaKey) return;
    let to = null;
    if (event.key === "Home") to = cells[0];
    else if (event.key === "End") to = cells.at(-1);
    else if (event.key in MOVES) {
      const [across, down] = MOVES[event.key];
      to = down === 0 ? cells[at + across] : nearest(cells, cells[at], down);
    }
    if (!to) return;
    event.preventDefault();
    to.focus();
  }
}

/** The cell in the next row whose middle is closest. */
function nearest(cells, from, down) {
  const middle = (box) => box.left + box.width / 2;
  const here = from.getBoundingClientRect();
  const boxes = cells.map((cell) => [cell, cell.getBoundingClientRect()]);
  const beyond = boxes.filter(([, box]) => (down > 0 ? box.top > here.top + 1 : box.top < here.top - 1));
  beyond.sort(([, a], [, b]) => Math.abs(a.top - here.top) - Math.abs(b.top - here.top)
    || Math.abs(middle(a) - middle(here)) - Math.abs(middle(b) - middle(here)));
  return beyond[0]?.[0];
}

function makeGroup() {
  return el("section", { class: "group" }, el("h3", { hidden: "" }, el("span"), el("small")), el("div", { class: "cells" }));
}

function drawHeading(node, { name, items }) {
  text(node.querySelector("h3 span"), name.slice(1) || "no station named");
  const connected = items.filter((item) => item.look.isConnected).length;
  const frames = items.reduce((sum, item) => sum + item.look.framesPerS, 0);
  text(node.querySelector("h3 small"), `${connected} of ${items.length} connected · ${rate(frames)} frames/s`);
}

function makeCell({ key }) {
  const part = (name) => el("span", { class: name });
  return el("button", { type: "button", class: "cell", tabindex: "-1", data: { key } },
    el("span", { class: "line" }, el("span", { class: "mark" }), part("id"), part("replay"), part("flag flag-emergency")),
    part("name"), el("span", { class: "line" }, part("flow"), part("at"), part("flag flag-missing")), el("span", { class: "gauge" }, el("i")));
}

function drawCell(node, { source, look }) {
  const part = (name) => node.querySelector(`.${name}`);
  attribute(node, "data-source", source.source_id);
  attribute(node, "data-state", look.state);
  attribute(node, "data-elsewhere", look.isElsewhere ? "" : null);
  attribute(node, "data-emergency", look.emergencyMs === null ? null : look.emergencyMs <= HOT_MS ? "hot" : "recent");
  attribute(node, "data-missing", look.missing > 0 ? source.missing : null);
  attribute(node, "data-credit", look.isCreditHigh ? "high" : null);
  text(part("id"), String(source.source_id));
  text(part("replay"), look.isReplay ? "↺" : "");
  text(part("name"), look.name ?? (source.station || "no station"));
  text(part("flow"), flow(look));
  // Trouble needs the room.
  text(part("at"), look.name === null || look.state === "silent" || look.missing > 0 ? "" : source.station);
  text(part("flag-emergency"), look.emergencyMs === null ? "" : `! ${brief(look.emergencyMs)}`);
  text(part("flag-missing"), look.missing > 0 ? `−${look.missing > 99999 ? "99k+" : count(look.missing)}` : "");
  fill(node.querySelector("i"), look.credit);
  const words = describe(source, look);
  attribute(node, "aria-label", words);
  attribute(node, "title", words);
}

function flow(look) {
  // The measured rate of a source that sends ten a second varies between 9.95 and 10.1. That is noise here.
  if (look.state === "flowing") return `${look.framesPerS >= 9.5 ? count(look.framesPerS) : look.framesPerS.toFixed(1)}/s`;
  if (look.isElsewhere) return "elsewhere";
  const since = look.silentMs === null ? "" : ` ${brief(look.silentMs)}`;
  return `${look.state}${since}`;
}

/** Without what changes every second, which a screen reader would repeat for ever. */
export function describe(source, look) {
  const parts = [`${look.isReplay ? "Replay" : "Satellite"} ${source.source_id}`];
  if (look.name !== null) parts.push(look.name);
  parts.push(source.station === "" ? "no station named" : source.station, look.isElsewhere ? "offline here, connected at another station" : stateWords[look.state]);
  if (look.emergencyMs !== null) parts.push("emergency in the last minute");
  if (look.missing > 0) parts.push(`${plural(look.missing, "sequence")} missing`);
  if (look.isCreditHigh) parts.push(`credit nearly used up`);
  return parts.join(", ");
}
