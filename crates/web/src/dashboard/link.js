// The line to the daemon: server-sent events, opened again with patience when they end or fall silent.

const EVENTS_URL = new URL("../api/v1/stream", import.meta.url);
/** The daemon speaks every second; after so much silence what is shown counts as old. */
const STALE_AFTER_MS = 4000;
/** Or after so much, when the connection is known to be gone. */
const GONE_AFTER_MS = 1500;
/** After so much the connection is given up, even if neither side has closed it. */
const DEAD_AFTER_MS = 10000;
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 8000;

/** Integers that a double cannot hold become strings; a quote within a text is escaped and never matches. */
function parse(data) {
  return JSON.parse(data.replace(/(?<!\\)":(\d{16,})(?=[,}\]])/g, '":"$1"'));
}

export class Link {
  /** `handlers` has one function for each kind of event. */
  constructor(handlers) {
    this.handlers = handlers;
    this.heardAt = null;
    this.heardTime = null;
    this.retryMs = RETRY_FIRST_MS;
    this.retryAt = null;
    this.openedAt = null;
    this.open();
  }

  open() {
    this.close();
    this.retryAt = null;
    this.openedAt = performance.now();
    this.source = new EventSource(EVENTS_URL);
    this.source.onerror = () => this.failed();
    for (const kind of Object.keys(this.handlers)) {
      this.source.addEventListener(kind, (event) => {
        this.heardAt = performance.now();
        this.heardTime = Date.now();
        this.retryMs = RETRY_FIRST_MS;
        this.handlers[kind](parse(event.data));
      });
    }
  }

  close() {
    this.source?.close();
    this.source = null;
  }

  failed() {
    this.close();
    // Not all pages at the same moment, when a daemon comes back.
    this.retryAt = performance.now() + this.retryMs * (0.75 + Math.random() / 2);
    this.retryMs = Math.min(RETRY_MAX_MS, this.retryMs * 2);
  }

  /** To be called a few times a second. */
  tick() {
    const now = performance.now();
    if (this.retryAt !== null) {
      if (now >= this.retryAt) this.open();
    } else if (now - Math.max(this.heardAt ?? 0, this.openedAt) > DEAD_AFTER_MS) {
      this.failed();
    }
  }

  /** Milliseconds since the last message of the daemon, `null` without one; also across a sleep of this computer. */
  get silenceMs() {
    if (this.heardAt === null) return null;
    return Math.max(performance.now() - this.heardAt, Date.now() - this.heardTime);
  }

  get isStale() {
    const isOpen = this.source?.readyState === EventSource.OPEN;
    return this.silenceMs === null || this.silenceMs > (isOpen ? STALE_AFTER_MS : GONE_AFTER_MS);
  }

  /** Milliseconds to the next try, `null` while one is being made. */
  get retryInMs() {
    return this.retryAt === null ? null : Math.max(0, this.retryAt - performance.now());
  }
}
