// The panel of the input links. It asks the daemon itself, and hides while no link is configured.

import { attribute, byId, el, figure, keyed, text } from "./dom.js";
import { brief, byteRate, count, iso, rate } from "./format.js";
import { poll } from "./poll.js";

/** States in which a link takes what comes. */
const GOOD = ["connected", "silent", "listening"];
/** States of a link that need no attention. */
const WELL = ["connected", "listening"];

export class Links {
  constructor() {
    poll("links", (links) => this.draw(links));
  }

  draw(links) {
    byId("links").hidden = links.length === 0;
    text(byId("links-aside"), `${count(links.filter((link) => GOOD.includes(link.state)).length)} of ${count(links.length)} take what comes`);
    const make = (link) => el("tr", { data: { link: link.name } },
      el("th", { scope: "row", title: link.description }, link.name), el("td", {}, el("span", { class: "badge" })),
      el("td"), el("td", { class: "n" }), el("td", { class: "n" }), el("td", { class: "n" }), el("td", { class: "n" }),
      el("td", { class: "n" }), el("td", { class: "wide" }));
    keyed(byId("link-rows"), links, (link) => link.name, make, (row, link) => {
      const [, state, peer, units, bytes, bad, dropped, missing, trouble] = row.children;
      text(state.firstChild, link.state);
      attribute(state.firstChild, "data-status", WELL.includes(link.state) ? "ok" : link.state === "failed" ? "failed" : "degraded");
      attribute(state, "title", `since ${iso(link.since_ms)}`);
      text(peer, link.peer ?? link.address ?? "–");
      attribute(peer, "title", link.heard_ms === null ? "nothing has come" : `last bytes ${brief(Date.now() - link.heard_ms)} ago`);
      figure(units, rate(link.units_per_s), link.counts.units);
      figure(bytes, byteRate(link.bytes_per_s), link.counts.bytes);
      figure(bad, count(link.counts.bad), link.counts.bad);
      const { idle_dropped, bad_dropped, full_dropped, refused, oversize, kernel_drops } = link.counts;
      const lost = [idle_dropped, bad_dropped, full_dropped, refused, oversize, kernel_drops].reduce((sum, part) => sum + Number(part), 0);
      figure(dropped, count(lost), lost);
      figure(missing, count(link.missing), link.missing);
      text(trouble, link.trouble ?? "");
      attribute(trouble, "title", link.trouble_bytes === null ? null : `bytes ${link.trouble_bytes}`);
    });
  }
}
