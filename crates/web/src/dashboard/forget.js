// Forgetting streams that are done with: the question first, then the daemon's answer.

import { byId, text } from "./dom.js";
import { count } from "./format.js";

const FORGET_URL = new URL("../api/v1/streams/forget", import.meta.url);

export class Forget {
  constructor(model, details) {
    this.model = model;
    this.details = details;
    this.dialog = byId("forget");
    /** What the daemon is to be asked. */
    this.request = null;
    byId("forget-offline").addEventListener("click", () => this.askOffline());
    byId("details-forget").addEventListener("click", () => this.askOne());
    byId("forget-confirm").addEventListener("click", () => this.send());
    byId("forget-cancel").addEventListener("click", () => this.dialog.close());
  }

  draw() {
    byId("forget-offline").hidden = this.offline() === 0;
    const shown = this.shown();
    byId("details-forget").hidden = shown === undefined || shown.state === "connected";
  }

  /** Streams without a connection, of those that the page knows. */
  offline() {
    return this.model.sorted.filter((source) => source.state !== "connected").length;
  }

  /** The stream whose details are open. */
  shown() {
    return this.details.key === null ? undefined : this.model.sources.get(this.details.key);
  }

  askOffline() {
    this.ask(`Forget all streams that are offline? ${count(this.offline())} of those on this page are.`, { offline_for_s: 0 });
  }

  askOne() {
    const source = this.shown();
    if (source === undefined) return;
    const { source_id, kind, station } = source;
    const at = station === "" ? "without a station" : `at ${station}`;
    this.ask(`Forget ${kind} stream ${source_id} ${at}?`, { source_ids: [source_id], kind, station });
  }

  ask(question, request) {
    this.request = request;
    text(byId("forget-question"), question);
    text(byId("forget-result"), "");
    byId("forget-confirm").disabled = false;
    this.dialog.showModal();
  }

  async send() {
    const confirm = byId("forget-confirm");
    confirm.disabled = true;
    const headers = { "content-type": "application/json" };
    const token = byId("forget-token").value.trim();
    if (token !== "") headers.authorization = `Bearer ${token}`;
    let result = "";
    try {
      const answer = await fetch(FORGET_URL, { method: "POST", headers, body: JSON.stringify(this.request) });
      const said = await answer.json();
      result = answer.ok ? words(said) : `Nothing is forgotten: ${said.reason}`;
      confirm.disabled = answer.ok && said.remaining === 0;
    } catch {
      result = "The daemon did not answer; whether it has forgotten something, the page will show.";
      confirm.disabled = false;
    }
    text(byId("forget-result"), result);
  }
}

function words(said) {
  const parts = [`${count(said.forgotten)} streams forgotten`];
  if (said.refused > 0) parts.push(`${count(said.refused)} refused: ${said.refusals[0].reason}`);
  if (said.remaining > 0) parts.push(`${count(said.remaining)} more are meant, ask again`);
  return `${parts.join("; ")}.`;
}
