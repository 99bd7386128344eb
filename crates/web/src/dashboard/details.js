// All that is known of one stream, in words and by lane; it follows what the daemon says while it is open.

import { attribute, byId, el, fill, keyed, text } from "./dom.js";
import { byteRate, count, duration, iso, label, latency, percent, rate, size } from "./format.js";
import { stateWords } from "./model.js";

const STATES = {
  connected: "connected", ended: "ended with BYE", lost: "lost: ended without BYE", removed: "removed by an operator", offline: "offline since the daemon started",
};
const KINDS = { live: "live uplink", replay: "archived replay" };
const LANES = ["emergency", "routine"];

export class Details {
  constructor(model) {
    this.model = model;
    this.key = null;
    this.dialog = byId("details");
    this.body = byId("details-body");
    this.facts = el("dl", { class: "facts" });
    this.lanes = el("tbody");
    this.books = el("dl", { class: "facts" });
    this.recent = el("ul", { class: "recent" });
    this.noRecent = el("p", { class: "note" }, "None among the daemon's newest.");
    const head = el("tr", {}, el("td"), ...LANES.map((lane) => el("th", { scope: "col", class: `n lane ${lane}` }, lane)));
    this.body.append(el("h3", {}, "Stream"), this.facts, el("h3", {}, "Lanes"), el("table", { class: "lanes" }, el("thead", {}, head), this.lanes),
      el("h3", {}, "Books, since the daemon started"), this.books, el("h3", {}, "Newest emergencies"), this.recent, this.noRecent);
    byId("details-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close(); // beside it
    });
    this.dialog.addEventListener("close", () => {
      // The event comes later than the closing: the next stream may be open by then.
      if (!this.dialog.open) this.key = null;
    });
  }

  open(key) {
    this.key = key;
    this.draw();
    this.dialog.showModal();
  }

  draw() {
    if (this.key === null) return;
    const source = this.model.sources.get(this.key);
    if (source === undefined) {
      text(byId("details-state"), "This stream is no longer among those the daemon tells of; below is what it said last.");
      attribute(this.dialog, "data-state", "gone");
      return;
    }
    const look = this.model.look(source);
    attribute(this.dialog, "data-state", look.state);
    attribute(this.dialog, "data-source", source.source_id);
    const kind = look.isReplay ? "Replay" : "Satellite";
    text(byId("details-title"), `${kind} ${source.source_id}${look.name === null ? "" : ` · ${look.name}`}`);
    text(byId("details-state"), sentence(look));
    drawFacts(this.facts, this.streamFacts(source));
    drawLanes(this.lanes, source.lanes, this.model.stats.time_ms);
    drawFacts(this.books, bookFacts(source));
    const { emergencies } = this.model.stats;
    const recent = emergencies.filter((emergency) =>
      emergency.source_id === source.source_id && emergency.kind === source.kind && emergency.station === source.station);
    this.noRecent.hidden = recent.length > 0;
    const make = (one) => el("li", {}, `${iso(one.received_ms)} · ${label(one.label)} · sequence ${count(one.sequence)} · offset ${count(one.offset)} · ${size(one.payload_bytes)}`);
    keyed(this.recent, recent.reverse().slice(0, 10), (one) => one.offset, make, () => {});
  }

  streamFacts(source) {
    const now = this.model.stats.time_ms;
    const ago = (ms) => (ms === null ? "never" : `${iso(ms)}, ${duration(now - ms)} ago`);
    const place = this.model.catalog?.sets.find((set) => set.norad_id === source.source_id && Number.isFinite(set.latitude_deg));
    return [
      ["source_id", "Source", String(source.source_id), source.source_id],
      ["kind", "Kind", KINDS[source.kind] ?? source.kind, source.kind],
      ["station", "Station", source.station || "none named", source.station],
      ["state", "State", STATES[source.state] ?? source.state, source.state],
      ["ended_ms", "Last connection ended", ago(source.ended_ms), source.ended_ms],
      ["session", "Session", source.session === null ? "none" : String(source.session), source.session],
      ["peer", "Peer", source.peer ?? "none", source.peer],
      ["via", "Forwarded by", source.via ?? "nobody", source.via],
      ["since_ms", "Connected since", source.since_ms === null ? "not connected" : ago(source.since_ms), source.since_ms],
      ["offline_since_ms", "Offline since", source.offline_since_ms === null ? "connected" : ago(source.offline_since_ms), source.offline_since_ms],
      ["last_frame_ms", "Newest frame", ago(source.last_frame_ms), source.last_frame_ms],
      ["epoch", "Epoch", String(source.epoch), source.epoch],
      ["missing", "Missing sequences", count(source.missing), source.missing],
      ["counter", "Sequence counter", counter(source), null],
      ...(place ? [["position", "Position", position(place), null]] : []),
    ];
  }
}

/** How the daemon counts what is missing. */
function counter(source) {
  if (source.shared_sequence) return "shared by both lanes";
  return source.looks_shared ? "each lane its own, but looks shared: the client should set SHARED_SEQUENCE" : "each lane its own";
}

function position(place) {
  const degrees = (value, plus, minus) => `${Math.abs(value).toFixed(2)}° ${value < 0 ? minus : plus}`;
  const age = place.elements_age_days;
  return [
    degrees(place.latitude_deg, "N", "S"),
    degrees(place.longitude_deg, "E", "W"),
    `${place.altitude_km.toFixed(0)} km up`,
    ...(Number.isFinite(age) ? [`elements ${duration(age * 86400000)} old`] : []),
  ].join(", ");
}

function sentence(look) {
  const parts = [look.isElsewhere ? "offline here, connected at another station" : stateWords[look.state]];
  if (look.state !== "flowing" && look.silentMs !== null) parts.push(`no frame for ${duration(look.silentMs)}`);
  if (look.emergencyMs !== null) parts.push(`emergency ${duration(look.emergencyMs)} ago`);
  if (look.missing > 0) parts.push(`${count(look.missing)} sequences missing`);
  if (look.isCreditHigh) parts.push(`${percent(look.credit)} of its credit used`);
  const words = parts.join("; ");
  return `${words[0].toUpperCase()}${words.slice(1)}.`;
}

function drawFacts(node, facts) {
  const make = ([field, name]) => el("div", { data: { field } }, el("dt", {}, name), el("dd"));
  keyed(node, facts, ([field]) => field, make, (row, [, , shown, value]) => {
    text(row.lastChild, shown);
    attribute(row.lastChild, "data-value", value);
  });
}

function bookFacts({ frames }) {
  const facts = [
    ["received", "Received"], ["archived", "Archived"], ["not_stored", "Not stored"],
    ["duplicates", "Duplicates"], ["rejected", "Rejected"], ["in_flight", "In flight"],
  ].map(([field, name]) => [field, name, count(frames[field]), frames[field]]);
  const reasons = Object.entries(frames.rejected_by).filter(([, frames]) => frames > 0);
  return [...facts, ...reasons.map(([code, frames]) => [`rejected:${code}`, `… as ${code}`, count(frames), frames])];
}

function drawLanes(node, lanes, now) {
  const ago = (ms) => (ms === null || ms === undefined ? "never" : `${duration(now - ms)} ago`);
  const rows = [
    ["frames", "Frames accepted", (lane) => count(lane.frames)],
    ["payload_bytes", "Payload", (lane) => size(lane.payload_bytes)],
    ["frames_per_s", "Frames per second", (lane) => rate(lane.frames_per_s)],
    ["bytes_per_s", "Payload per second", (lane) => byteRate(lane.bytes_per_s)],
    ["last_frame_ms", "Newest frame", (lane) => ago(lane.last_frame_ms)],
    ["accepted_next", "Next to be accepted", (lane) => count(lane.accepted_next)],
    ["durable_next", "Next to be durable", (lane) => count(lane.durable_next)],
    ["queued_frames", "Frames queued", (lane) => count(lane.queued_frames)],
    ["credit_used_bytes", "Credit used", (lane) => size(lane.credit_used_bytes)],
    ["credit_bytes", "Credit there is", (lane) => size(lane.credit_bytes)],
    ["ack_latency_ms", "ACK latency, newest", (lane) => latency(lane.ack_latency_ms)],
  ];
  const make = ([field, name]) => el("tr", { data: { field } }, el("th", { scope: "row" }, name),
    ...LANES.map((lane) => el("td", { class: "n", data: { lane } }, el("span"),
      field === "credit_used_bytes" ? el("span", { class: "bar" }, el("i")) : null)));
  keyed(node, rows, ([field]) => field, make, (row, [field, , words]) => {
    for (const cell of row.querySelectorAll("td")) {
      const lane = lanes[cell.dataset.lane];
      text(cell.firstChild, words(lane));
      attribute(cell, "data-value", lane[field]);
      const bar = cell.querySelector("i");
      if (bar !== null) fill(bar, lane.credit_bytes > 0 ? lane.credit_used_bytes / lane.credit_bytes : 0);
    }
  });
}
