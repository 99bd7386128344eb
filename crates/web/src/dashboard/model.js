// What the daemon said last, and five minutes of its rates. Nothing here grows with time.

/** Samples in a ring: five minutes of one a second. */
export const RING = 300;
/** A connected source without a frame for so long is silent. */
export const SILENT_AFTER_MS = 10000;
/** An emergency is news for so long. */
export const EMERGENCY_FOR_MS = 60000;
/** And is hot for so long. */
export const HOT_MS = 10000;
/** From here on credit is nearly used up. */
export const CREDIT_HIGH = 0.8;
/** Epochs from here on belong to a single connection. */
const ANONYMOUS_EPOCH_MIN = 2 ** 63;

/** What tells one stream from another. */
export function keyOf(source) {
  const isAnonymous = Number(source.epoch) >= ANONYMOUS_EPOCH_MIN && source.session !== null;
  return [source.source_id, source.kind, source.station, isAnonymous ? source.session : ""].join("\n");
}

const sourceOf = (source) => `${source.source_id} ${source.kind}`;
const byId = (a, b) =>
  a.source_id - b.source_id || (a.kind < b.kind ? -1 : a.kind > b.kind ? 1 : a.station.localeCompare(b.station));

export class Model {
  constructor() {
    this.stats = null;
    this.statsAt = 0;
    this.sources = new Map();
    this.sorted = [];
    /** Sources with a stream that is connected, at whatever station. */
    this.connected = new Set();
    this.offlineCount = 0;
    this.total = 0;
    this.catalog = null;
    this.catalogError = "being asked for";
    this.names = new Map();
    this.history = [];
    this.startedMs = null;
    this.restartedMs = null;
  }

  takeStats(stats) {
    if (this.startedMs !== null && this.startedMs !== stats.started_ms) this.restartedMs = stats.started_ms;
    this.startedMs = stats.started_ms;
    this.stats = stats;
    this.statsAt = performance.now();
    const { emergency, routine } = stats.lanes;
    this.history.push({
      ms: stats.time_ms,
      emergency: { ...emergency, ...emergency.ack_latency },
      routine: { ...routine, ...routine.ack_latency },
    });
    if (this.history.length > RING) this.history.shift();
    // A clock that was set back would draw over what is there.
    const last = this.history.at(-2);
    if (last && last.ms > stats.time_ms) this.history = this.history.slice(-1);
  }

  /** All there are: what is not among them is gone. */
  takeSources({ total, sources }) {
    this.sources = new Map(sources.map((source) => [keyOf(source), source]));
    this.total = total;
    this.sort();
  }

  takeChanges({ sources }) {
    for (const source of sources) this.sources.set(keyOf(source), source);
    this.sort();
    this.total = Math.max(this.total, this.sorted.length);
  }

  sort() {
    this.sorted = [...this.sources.values()].sort(byId);
    const isConnected = (source) => source.state === "connected";
    this.connected = new Set(this.sorted.filter(isConnected).map(sourceOf));
    this.offlineCount = new Set(this.sorted.map(sourceOf)).size - this.connected.size;
  }

  takeCatalog(catalog) {
    this.catalog = catalog;
    this.names = new Map(catalog.sets.map((set) => [set.norad_id, set.name]));
  }

  /** The daemon's clock, carried on from what it said last. */
  get now() {
    return this.stats === null ? null : this.stats.time_ms + (performance.now() - this.statsAt);
  }

  /** How a source is, as of the last word of the daemon. */
  look(source) {
    const now = this.stats?.time_ms ?? source.last_frame_ms ?? 0;
    const since = (ms) => (ms === null || ms === undefined ? null : Math.max(0, now - ms));
    const silentMs = since(source.last_frame_ms);
    const emergencyMs = since(source.lanes.emergency.last_frame_ms);
    const used = (lane) => (lane.credit_bytes > 0 ? lane.credit_used_bytes / lane.credit_bytes : 0);
    const isFlowing = silentMs !== null && silentMs <= SILENT_AFTER_MS;
    const isConnected = source.state === "connected";
    // A satellite that has gone over to another station is no trouble.
    const isElsewhere = !isConnected && this.connected.has(sourceOf(source));
    const credit = Math.max(used(source.lanes.emergency), used(source.lanes.routine));
    return {
      state: isConnected ? (isFlowing ? "flowing" : "silent") : source.state === "lost" && !isElsewhere ? "lost" : "offline",
      isConnected,
      isElsewhere,
      silentMs,
      emergencyMs: emergencyMs !== null && emergencyMs <= EMERGENCY_FOR_MS ? emergencyMs : null,
      missing: Number(source.missing),
      credit,
      isCreditHigh: credit >= CREDIT_HIGH,
      framesPerS: source.lanes.emergency.frames_per_s + source.lanes.routine.frames_per_s,
      isReplay: source.kind === "replay",
      name: this.names.get(source.source_id) ?? null,
    };
  }
}

/** The same in a sentence, for screen readers. */
export const stateWords = {
  flowing: "connected, frames flow", silent: "connected, silent", lost: "lost: its connection ended without BYE", offline: "offline",
};
