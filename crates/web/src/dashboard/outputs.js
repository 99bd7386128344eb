// The panel of the output links. It asks the daemon itself, and hides while no output is configured.

import { attribute, byId, el, figure, keyed, text } from "./dom.js";
import { brief, byteRate, count, duration, iso, plural, rate, size } from "./format.js";
import { poll } from "./poll.js";

/** States in which an output gives readers what they ask for. */
const GOOD = ["connected", "listening"];
/** An output that is behind by so many frames is in trouble. */
const FAR_BEHIND = 10000;

export class Outputs {
  constructor(model) {
    this.model = model;
    this.before = new Map();
    this.beforeAt = null;
    poll("outputs", (outputs) => this.draw(outputs));
  }

  draw(outputs) {
    byId("outputs").hidden = outputs.length === 0;
    const good = outputs.filter((output) => GOOD.includes(output.state));
    const readers = outputs.reduce((sum, output) => sum + output.readers_total, 0);
    text(byId("outputs-aside"), `${count(good.length)} of ${count(outputs.length)} serve, ${plural(readers, "reader")}`);
    const rates = this.rates(outputs);
    keyed(byId("output-rows"), outputs, (output) => output.name, make, (row, output) => this.update(row, output, rates.get(output.name)));
  }

  update(row, output, rates) {
    const { counts } = output;
    const [, state, reader, frames, bytes, behind, late, missing, skipped, dropped, trouble] = row.children;
    text(state.firstChild, output.state);
    attribute(state.firstChild, "data-status", GOOD.includes(output.state) ? "ok" : output.state === "failed" ? "failed" : "degraded");
    attribute(state, "title", `since ${iso(output.since_ms)}`);
    const peers = output.readers.map((reader) => reader.peer);
    text(reader, output.readers_total > 1 ? plural(output.readers_total, "reader") : peers[0] ?? output.address ?? "–");
    attribute(reader, "title", peers.length > 0 ? peers.join("\n") : "no reader");
    figure(frames, rates === undefined ? "–" : rate(rates.frames), counts.frames);
    figure(bytes, rates === undefined ? "–" : byteRate(rates.bytes), counts.bytes);
    const lag = this.behind(output);
    figure(behind, count(lag), lag);
    attribute(behind, "data-mark", lag >= FAR_BEHIND ? "warn" : null);
    const { forwarding } = output;
    figure(late, forwarding === null ? "–" : brief(forwarding.lag_ms), forwarding?.lag_ms ?? null);
    attribute(late, "data-mark", forwarding?.late ? "warn" : null);
    attribute(late, "title", forwarding === null ? "no forwarder" : title(forwarding));
    figure(missing, count(counts.missing), counts.missing);
    figure(skipped, count(counts.skipped), counts.skipped);
    const lost = { undecoded: counts.undecoded, cut: counts.cut, "too long": counts.too_long, unreachable: counts.unreachable };
    const all = Object.values(lost).reduce((sum, part) => sum + part, 0);
    figure(dropped, count(all), all);
    attribute(dropped, "title", Object.entries(lost).map(([reason, part]) => `${count(part)} ${reason}`).join(", "));
    text(trouble, output.trouble ?? "");
  }

  /** Durable frames behind the cursor, or else behind the slowest reader. */
  behind(output) {
    const at = output.cursor ?? output.slowest_offset;
    if (at === null || this.model.stats === null) return null;
    return Math.max(0, this.model.stats.archive.next_offset - at);
  }

  /** Frames and bytes a second since the last answer, by output. */
  rates(outputs) {
    const now = performance.now();
    const perSecond = (before, after) => (Math.max(0, after - before) * 1000) / (now - this.beforeAt);
    const known = outputs.filter((output) => this.before.has(output.name));
    const rates = new Map(known.map(({ name, counts }) => {
      const before = this.before.get(name);
      return [name, { frames: perSecond(before.frames, counts.frames), bytes: perSecond(before.bytes, counts.bytes) }];
    }));
    this.before = new Map(outputs.map(({ name, counts }) => [name, counts]));
    this.beforeAt = now;
    return rates;
  }
}

/** The lag of a forwarder in words. */
function title({ lag_bytes, lag_max_ms, oldest_ms, retention_hold }) {
  return [
    oldest_ms === null ? "nothing waits" : `the oldest frame came at ${iso(oldest_ms)}`,
    lag_bytes === null ? "" : `about ${size(lag_bytes)} behind`,
    lag_max_ms === null ? "" : `lag_max ${duration(lag_max_ms)}`,
    retention_hold ? "holds retention" : "",
  ].filter((part) => part !== "").join(", ");
}

function make(output) {
  const numbers = [1, 2, 3, 4, 5, 6, 7].map(() => el("td", { class: "n" }));
  return el("tr", { data: { output: output.name } }, el("th", { scope: "row", title: output.description }, output.name),
    el("td", {}, el("span", { class: "badge" })), el("td"), ...numbers, el("td", { class: "wide" }));
}
