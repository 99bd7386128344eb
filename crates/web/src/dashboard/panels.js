// The panels of words and figures: emergencies, books, archive, gaps and rejects, subscribers, process.

import { attribute, byId, el, figure, fill, keyed, text } from "./dom.js";
import { clock, count, duration, iso, latency, percent, refusedTotal, size } from "./format.js";
import { EMERGENCY_FOR_MS, HOT_MS, keyOf } from "./model.js";

const GAPS_MAX = 8;
const SUBSCRIBERS_MAX = 64;
const DISK_LOW = 0.1;
const WITHHELD = "What comes from payloads is shown where /api/v1/frames would give the payloads: to programs on the daemon's host, or with the token of http.token.";

/** Where a received frame can be. */
const BOOKS = [
  ["archived", "archived", "synced to disk", "="],
  ["not_stored", "not stored", "replays that passed", "+"],
  ["duplicates", "duplicates", "accepted before", "+"],
  ["rejected", "rejected", "refused, see below", "+"],
  ["in_flight", "in flight", "on their way", "+"],
];

export class Panels {
  constructor(model) {
    this.model = model;
    const parts = el("div", { class: "stacked", "aria-hidden": "true" }, ...BOOKS.map(([field]) => el("i", { class: field })));
    this.stack = parts;
    this.bookRows = el("tbody");
    byId("books-body").append(el("div", { class: "stacked", "aria-hidden": "true" }, el("i", { class: "received" })), parts,
      el("table", { class: "sums" }, this.bookRows));
    this.archive = facts(byId("archive-body"));
    this.process = facts(byId("process-body"));
  }

  draw() {
    const { stats } = this.model;
    this.drawEmergencies(stats);
    this.drawBooks(stats.frames);
    this.drawArchive(stats);
    this.drawGaps(stats);
    this.drawSubscribers(stats);
    this.drawProcess(stats.process);
  }

  drawEmergencies({ emergencies, lanes, time_ms: now }) {
    const newest = [...emergencies].reverse();
    byId("emergency-none").hidden = newest.length > 0;
    const make = (one) => el("tr", { data: { offset: one.offset, source: one.source_id } },
      el("td", {}, el("time", { datetime: new Date(one.received_ms).toISOString(), title: iso(one.received_ms) }, clock(one.received_ms))),
      el("td", { class: "n" }, el("b", {}, String(one.source_id)), one.kind === "replay" ? " ↺" : null),
      el("td", { title: one.station }, one.station || "–"), el("td", { class: "label", title: one.label ?? WITHHELD }, one.label ?? "withheld"), el("td", { class: "n" }, count(one.offset)));
    keyed(byId("emergency-rows"), newest, (one) => one.offset, make, (row, one) =>
      attribute(row, "data-age", now - one.received_ms <= HOT_MS ? "hot" : now - one.received_ms <= EMERGENCY_FOR_MS ? "recent" : "old"));
    const rest = lanes.emergency.frames > newest.length ? `newest ${newest.length} of ${count(lanes.emergency.frames)} accepted` : "";
    text(byId("emergencies-aside"), rest);
  }

  drawBooks(books) {
    const total = Number(books.received);
    fill(byId("books-body").querySelector(".stacked .received"), total > 0 ? 1 : 0);
    for (const [field] of BOOKS) fill(this.stack.querySelector(`.${field}`), total > 0 ? books[field] / total : 0);
    const make = ([field, name, words, sign]) => el("tr", { class: field, data: { field } },
      el("th", { scope: "row" }, el("span", { class: "sign", "aria-hidden": "true" }, sign), el("span", { class: "swatch", "aria-hidden": "true" }), name), el("td", { class: "muted" }, words), el("td", { class: "n" }));
    const rows = [["received", "received", "read from sockets", ""], ...BOOKS];
    keyed(this.bookRows, rows, ([field]) => field, make, (row, [field]) => figure(row.lastChild, count(books[field]), books[field]));
    const sum = BOOKS.reduce((sum, [field]) => sum + Number(books[field]), 0);
    const balance = byId("balance");
    attribute(balance, "data-balanced", sum === total);
    text(balance, sum === total ? "✓ they balance" : `✗ off by ${count(Math.abs(total - sum))}`);
  }

  drawArchive({ archive, uploads }) {
    const badge = byId("archive-status");
    text(badge, archive.status.toUpperCase());
    attribute(badge, "data-status", archive.status);
    byId("archive-reason").hidden = archive.reason === null;
    text(byId("archive-reason"), archive.reason ?? "");
    const used = archive.disk_bytes - archive.disk_free_bytes;
    const part = archive.disk_bytes > 0 ? used / archive.disk_bytes : 0;
    this.archive.draw([
      ["next_offset", "Next offset", count(archive.next_offset), archive.next_offset],
      ["first_offset", "Oldest offset kept", count(archive.first_offset), archive.first_offset],
      ["segments", "Segments", `${count(archive.segments)}, ${size(archive.segment_bytes)}`, archive.segments],
      ["written_bytes", "Written", `${size(archive.written_bytes)} in ${count(archive.commits)} commits`, archive.written_bytes],
      ["sync", "Sync p50 · p99 · max", [archive.sync.p50_ms, archive.sync.p99_ms, archive.sync.max_ms].map(latency).join(" · "), archive.sync.p99_ms],
      ["expired_frames", "Expired by retention", count(archive.expired_frames), archive.expired_frames],
      ["age_hold", "Expiry by age", archive.age_hold === null ? "not held" : `held: ${archive.age_hold.reason}`, archive.age_hold !== null],
      ["upkeep_failing", "Maintenance fails", archive.upkeep_failing === 0 ? "nowhere" : `in ${count(archive.upkeep_failing)} segments`, archive.upkeep_failing],
      ["foreign_segments", "Of another archive", archive.foreign_segments === 0 ? "none" : `${count(archive.foreign_segments)} segments set aside`, archive.foreign_segments],
      ["file_shortages", "Without files", archive.file_shortages === 0 ? "never" : `${count(archive.file_shortages)} times`, archive.file_shortages],
      ...(uploads === null ? [] : [["uploads", "Waiting for upload", uploads.trouble ?? `${count(uploads.pending_segments)} segments, ${size(uploads.pending_bytes)}`, uploads.pending_segments]]),
    ], [part, part > 1 - DISK_LOW, `Disk ${percent(part)} used, ${size(archive.disk_free_bytes)} of ${size(archive.disk_bytes)} free`]);
  }

  drawGaps({ missing, frames, refusals }) {
    figure(byId("missing-total"), count(missing), missing);
    figure(byId("rejected-total"), count(frames.rejected), frames.rejected);
    const gappy = this.model.sorted.filter((source) => Number(source.missing) > 0).sort((a, b) => b.missing - a.missing);
    const makeGap = (source) => el("tr", {}, el("th", { scope: "row" }, `${source.source_id}`), el("td", {}, source.station || "–"), el("td", { class: "n" }));
    keyed(byId("gap-rows"), gappy.slice(0, GAPS_MAX), keyOf, makeGap, (row, source) => figure(row.lastChild, count(source.missing), source.missing));
    byId("gap-none").hidden = Number(missing) > 0;
    byId("gap-more").hidden = gappy.length <= GAPS_MAX;
    text(byId("gap-more"), `and ${count(gappy.length - GAPS_MAX)} more streams; filter the satellites by “missing”`);
    const reasons = Object.entries(frames.rejected_by).filter(([, frames]) => frames > 0).sort(([, a], [, b]) => b - a);
    const makeReason = ([code]) => el("tr", { data: { code } }, el("th", { scope: "row" }, code), el("td", { class: "wide" }, el("span", { class: "bar warn" }, el("i"))), el("td", { class: "n" }));
    keyed(byId("reject-rows"), reasons, ([code]) => code, makeReason, (row, [, rejected]) => {
      figure(row.lastChild, count(rejected), rejected);
      fill(row.querySelector("i"), rejected / frames.rejected);
    });
    byId("reject-none").hidden = reasons.length > 0;
    this.drawRefusals(refusals);
  }

  drawRefusals(refusals) {
    const rows = Object.entries(refusals).flatMap(([listener, reasons]) =>
      Object.entries(reasons).map(([reason, refused]) => ({ name: `${listener}: ${reason}`, refused })));
    rows.sort((a, b) => b.refused - a.refused);
    const total = refusedTotal(refusals);
    figure(byId("refused-total"), count(total), total);
    const make = ({ name }) => el("tr", { data: { refusal: name } }, el("th", { scope: "row" }, name), el("td", { class: "wide" }, el("span", { class: "bar warn" }, el("i"))), el("td", { class: "n" }));
    keyed(byId("refusal-rows"), rows, ({ name }) => name, make, (row, { refused }) => {
      figure(row.lastChild, count(refused), refused);
      fill(row.querySelector("i"), refused / total);
    });
    byId("refusal-none").hidden = rows.length > 0;
    byId("refusal-note").hidden = rows.length === 0;
  }

  drawSubscribers({ subscribers, connections, time_ms: now }) {
    text(byId("subscribers-aside"), `${count(connections.subscribers)} of ${count(connections.subscribers_max)}`
      + (subscribers.length > SUBSCRIBERS_MAX ? `, the ${SUBSCRIBERS_MAX} furthest behind shown` : ""));
    byId("subscriber-none").hidden = subscribers.length > 0;
    byId("subscriber-table").hidden = subscribers.length === 0;
    const shown = [...subscribers].sort((a, b) => b.lag_frames - a.lag_frames || a.session - b.session).slice(0, SUBSCRIBERS_MAX);
    const make = (one) => el("tr", { data: { session: one.session } }, el("th", { scope: "row" }, one.peer), el("td", {}, one.policy),
      el("td", { title: iso(one.since_ms) }), el("td", { class: "n" }), el("td", { class: "n" }));
    keyed(byId("subscriber-rows"), shown, (one) => one.session, make, (row, one) => {
      const [, , since, next, lag] = row.children;
      text(since, duration(now - one.since_ms));
      figure(next, count(one.next_offset), one.next_offset);
      figure(lag, count(one.lag_frames), one.lag_frames);
    });
  }

  drawProcess(process) {
    const part = process.memory_limit_bytes > 0 ? process.memory_bytes / process.memory_limit_bytes : 0;
    this.process.draw([
      ["memory_bytes", "Resident memory", size(process.memory_bytes), process.memory_bytes],
      ["memory_limit_bytes", "Limits come to", size(process.memory_limit_bytes), process.memory_limit_bytes],
      ["open_files", "Files and sockets", count(process.open_files), process.open_files],
    ], [part, part > 1, `${percent(part)} of ingest.memory_limit`]);
  }
}

/** A list of facts below a bar. */
function facts(parent) {
  const bar = el("i");
  const words = el("p", { class: "note" });
  const list = el("dl", { class: "facts" });
  parent.append(el("span", { class: "bar tall", "aria-hidden": "true" }, bar), words, list);
  const make = ([field, name]) => el("div", { data: { field } }, el("dt", {}, name), el("dd"));
  return {
    draw(rows, [part, isHigh, said]) {
      fill(bar, part);
      attribute(bar, "class", isHigh ? "high" : null);
      text(words, said);
      keyed(list, rows, ([field]) => field, make, (row, [, , shown, value]) => figure(row.lastChild, shown, value));
    },
  };
}
