// The header: whether all is well, how old what is shown is, and the figures that matter most.

import { attribute, byId, el, figure, keyed, text } from "./dom.js";
import {
  byteRateParts, count, duration, iso, label, latency, latencyParts, plural, rate, refusedTotal, sizeParts, brief,
} from "./format.js";
import { EMERGENCY_FOR_MS } from "./model.js";

/** An announcement at most so often: a storm of emergencies must not talk without end. */
const ANNOUNCE_EVERY_MS = 5000;
const DISK_LOW = 0.1;

/** The fleet's state is another than the daemon's: the daemon runs on when all sources are gone. */
const FLEET_WORDS = { ok: "FLEET OK", degraded: "FLEET DEGRADED", lost: "FLEET LOST", idle: "NO SOURCES", unknown: "FLEET UNKNOWN" };
const WORDS = { running: "RUNNING", draining: "DRAINING", unready: "NOT READY", lost: "CONNECTION LOST", waiting: "CONNECTING" };

export class Head {
  constructor(model) {
    this.model = model;
    this.announcedAt = 0;
    this.lastOffset = null;
    this.tiles = byId("tiles");
  }

  /** Several times a second, whether the daemon speaks or not. */
  tick(link) {
    const { stats } = this.model;
    const isHeard = link.silenceMs !== null;
    const mode = !isHeard ? "waiting" : link.isStale ? "lost" : "live";
    if (document.body.dataset.link !== mode) document.body.dataset.link = mode;
    const lost = byId("lost");
    // A page without a first message for a while is as bad as a page whose messages have stopped.
    lost.hidden = mode === "live" || (mode === "waiting" && performance.now() < 3000);
    if (!lost.hidden) text(lost, this.lostWords(link, isHeard));
    const state = mode === "live" ? this.condition(stats) : mode;
    const fleet = mode === "live" ? stats.fleet.state : "unknown";
    badge(byId("state"), state, WORDS[state]);
    badge(byId("fleet"), fleet === "unknown" ? "waiting" : fleet, FLEET_WORDS[fleet]);
    const trouble = [...(state === "running" ? [] : [WORDS[state]]), ...(fleet === "lost" ? [FLEET_WORDS.lost] : [])];
    document.title = [...trouble, "Telemetry aggregator"].join(" · ");
    const now = this.model.now;
    if (now !== null) {
      text(byId("clock"), iso(now).slice(11, 19));
      attribute(byId("clock"), "datetime", iso(now));
      text(byId("date"), iso(now).slice(0, 10));
    }
  }

  lostWords(link, isHeard) {
    const retry = link.retryInMs;
    const next = retry === null ? "trying now" : `next try in ${duration(retry + 999)}`;
    if (!isHeard) return `No answer from the daemon yet · ${next}`;
    const since = iso(this.model.now - link.silenceMs);
    return `CONNECTION LOST · what you see is ${duration(link.silenceMs)} old, last heard ${since} · ${next}`;
  }

  condition(stats) {
    if (stats.state === "draining") return "draining";
    return stats.unready.length > 0 ? "unready" : "running";
  }

  draw() {
    const { stats, restartedMs } = this.model;
    text(byId("version"), `v${stats.version}`);
    figure(byId("uptime"), duration(stats.time_ms - stats.started_ms), stats.started_ms);
    attribute(byId("uptime"), "title", `started ${iso(stats.started_ms)}`);
    const reasons = [...stats.unready];
    const { fleet } = stats;
    attribute(byId("fleet"), "title", `The fleet: ${["connected", "lost", "ended", "removed", "offline"].map((state) => `${count(fleet[state])} ${state}`).join(", ")}`);
    if (fleet.lost > 0) reasons.push(`${plural(fleet.lost, "source")} vanished without BYE, ${count(fleet.connected)} connected`);
    if (restartedMs !== null && stats.time_ms - restartedMs < 60000)
      reasons.push(`the daemon was restarted at ${iso(restartedMs)}: its counters began anew`);
    byId("reasons").hidden = reasons.length === 0;
    keyed(byId("reasons"), reasons, (reason) => reason, (reason) => el("li", {}, reason), () => {});
    this.drawTiles(stats);
    this.announce(stats.emergencies);
  }

  drawTiles(stats) {
    const { lanes, connections, archive } = stats;
    const offline = this.model.offlineCount;
    const newest = stats.emergencies.at(-1);
    const sum = (field) => lanes.emergency[field] + lanes.routine[field];
    const refused = refusedTotal(stats.refusals);
    const gappy = this.model.sorted.filter((source) => Number(source.missing) > 0).length;
    const isDiskLow = archive.disk_bytes > 0 && archive.disk_free_bytes < DISK_LOW * archive.disk_bytes;
    const tiles = [
      { id: "sources", name: "Sources", value: count(connections.sources), raw: connections.sources, unit: `of ${count(connections.sources_max)}`,
        note: sourcesNote(stats.fleet, offline, connections.sources), mark: stats.fleet.state === "lost" ? "bad" : offline > 0 ? "warn" : "" },
      { id: "frames", name: "Frames", value: rate(sum("frames_per_s")), raw: sum("frames_per_s"), unit: "/s",
        note: `${count(stats.frames.received)} received` },
      { id: "payload", name: "Payload", parts: byteRateParts(sum("bytes_per_s")), raw: sum("bytes_per_s"),
        note: `${plural(stats.frames.in_flight, "frame")} in flight` },
      { id: "ack", name: "Emergency ACK p99", parts: latencyParts(lanes.emergency.ack_latency.p99_ms), raw: lanes.emergency.ack_latency.p99_ms,
        note: `routine ${latency(lanes.routine.ack_latency.p99_ms)}` },
      { id: "emergencies", name: "Emergencies", value: count(lanes.emergency.frames), raw: lanes.emergency.frames, unit: "",
        note: newest ? `newest ${brief(stats.time_ms - newest.received_ms)} ago` : "none", mark: newest && stats.time_ms - newest.received_ms <= EMERGENCY_FOR_MS ? "bad" : "" },
      { id: "missing", name: "Missing", value: count(stats.missing), raw: stats.missing, unit: "",
        note: gappy > 0 ? `in ${plural(gappy, "stream")}` : "no gaps", mark: Number(stats.missing) > 0 ? "warn" : "" },
      { id: "rejected", name: "Rejected", value: count(stats.frames.rejected), raw: stats.frames.rejected, unit: "",
        note: refused > 0 ? `${plural(refused, "connection")} refused` : `${count(stats.frames.duplicates)} duplicates`,
        mark: stats.frames.rejected > 0 || refused > 0 ? "warn" : "" },
      { id: "disk", name: "Disk free", parts: sizeParts(archive.disk_free_bytes), raw: archive.disk_free_bytes,
        note: `of ${sizeParts(archive.disk_bytes).join("\u202f")}`, mark: isDiskLow ? "bad" : "" },
    ];
    const make = (tile) => el("div", { class: "tile", data: { tile: tile.id } }, el("dt", {}, tile.name),
      el("dd", { class: "value" }, el("b"), el("span", { class: "unit" })), el("dd", { class: "note" }));
    keyed(this.tiles, tiles, (tile) => tile.id, make, (node, tile) => {
      const [value, unit] = tile.parts ?? [tile.value, tile.unit];
      figure(node.querySelector("b"), value, tile.raw);
      text(node.querySelector(".unit"), unit);
      text(node.querySelector(".note"), tile.note);
      attribute(node, "data-mark", tile.mark || null);
    });
  }

  announce(emergencies) {
    const newest = emergencies.at(-1);
    if (newest === undefined) return;
    if (this.lastOffset === null || newest.offset < this.lastOffset) this.lastOffset = newest.offset;
    const fresh = emergencies.filter((emergency) => emergency.offset > this.lastOffset).length;
    if (fresh === 0 || performance.now() - this.announcedAt < ANNOUNCE_EVERY_MS) return;
    this.announcedAt = performance.now();
    this.lastOffset = newest.offset;
    const at = newest.station === "" ? "" : ` at ${newest.station}`;
    const more = fresh > 1 ? `${fresh} emergencies, the newest` : "Emergency";
    text(byId("announcer"), `${more}: ${label(newest.label)}, source ${newest.source_id}${at}`);
  }
}

function badge(node, state, word) {
  attribute(node, "data-state", state);
  text(node.querySelector(".word"), word);
}

function sourcesNote(fleet, offline, connected) {
  const lost = Number(fleet.lost);
  if (lost > 0) return offline > lost ? `${count(lost)} lost, ${count(offline - lost)} offline` : `${count(lost)} lost`;
  if (offline > 0) return `${count(offline)} offline`;
  return connected > 0 ? "all connected" : "none has connected";
}
