// Five minutes of rates and latencies. Two plots share a chart's time where their scales are worlds apart.

import { byId, el, text } from "./dom.js";
import { byteRate, clock, latency, rate } from "./format.js";
import { RING } from "./model.js";

const SPAN_MS = RING * 1000;
/** A gap longer than this was no sampling: the line is broken there. */
const BREAK_MS = 3500;
const GRID_MS = 60000;

const perSecond = (value) => `${rate(value)}\u202f/s`;
const lane = (name, field) => ({ name, color: name, of: (sample) => sample[name][field] });

const CHARTS = [
  { id: "chart-frames", format: perSecond, plots: [
    { share: 0.6, series: [{ ...lane("routine", "frames_per_s"), area: true }] },
    { share: 0.4, series: [{ ...lane("emergency", "frames_per_s"), area: true }] },
  ] },
  { id: "chart-bytes", format: byteRate, plots: [
    { share: 0.6, series: [{ ...lane("routine", "bytes_per_s"), area: true }] },
    { share: 0.4, series: [{ ...lane("emergency", "bytes_per_s"), area: true }] },
  ] },
  { id: "chart-ack", format: latency, plots: [
    { share: 1, isLog: true, series: [
      { ...lane("routine", "p99_ms"), name: "routine p99" },
      { ...lane("routine", "p50_ms"), name: "routine p50", dash: true },
      { ...lane("emergency", "p99_ms"), name: "emergency p99" },
      { ...lane("emergency", "p50_ms"), name: "emergency p50", dash: true },
    ] },
  ] },
];

export class Charts {
  constructor(model) {
    this.charts = CHARTS.map((chart) => new Chart(model, chart));
  }

  draw() {
    for (const chart of this.charts) chart.draw();
  }
}

class Chart {
  constructor(model, { id, format, plots }) {
    Object.assign(this, { model, format, plots });
    this.series = plots.flatMap((plot) => plot.series);
    this.box = byId(id);
    this.canvas = el("canvas", { role: "img" });
    this.legend = el("ul", { class: "legend" });
    for (const one of this.series) {
      const swatch = el("span", { class: `swatch ${one.color}${one.dash ? " dashed" : ""}`, "aria-hidden": "true" });
      one.value = el("b");
      this.legend.append(el("li", {}, swatch, one.name, " ", one.value));
    }
    this.when = el("li", { class: "when" });
    this.legend.append(this.when);
    this.box.append(this.legend, this.canvas);
    this.pointerX = null;
    this.canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
  }

  point(x) {
    this.pointerX = x;
    if (this.model.history.length > 0) this.draw();
  }

  draw() {
    const { history } = this.model;
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    if (width === 0 || history.length === 0) return;
    const ratio = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const style = getComputedStyle(this.canvas);
    const em = parseFloat(style.fontSize);
    context.font = `${em}px ${style.fontFamily}`;
    const colors = (name) => style.getPropertyValue(`--${name}`).trim();
    const frame = { context, em, colors, left: em * 5.2, right: width - em * 0.4, end: history.at(-1).ms };
    const bottom = height - em * 1.7;
    const gap = em * 1.8;
    const room = bottom - em * 0.6 - gap * (this.plots.length - 1);
    let top = em * 0.6;
    for (const plot of this.plots) {
      this.drawPlot(frame, plot, top, top + room * plot.share);
      top += room * plot.share + gap;
    }
    this.drawTime(frame, bottom);
    this.drawBefore(frame, bottom);
    this.drawValues(frame, bottom);
  }

  x(frame, ms) {
    return frame.right - ((frame.end - ms) / SPAN_MS) * (frame.right - frame.left);
  }

  drawPlot(frame, plot, top, bottom) {
    const { context, em, colors } = frame;
    const values = this.model.history.flatMap((sample) => plot.series.map((one) => one.of(sample))).filter((value) => value !== null);
    const scale = plot.isLog ? logScale(values) : linearScale(values, (bottom - top) / em > 7 ? 4 : 2);
    const y = (value) => bottom - scale.part(value) * (bottom - top);
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.lineWidth = 1;
    for (const tick of scale.ticks) {
      const at = Math.round(y(tick)) + 0.5;
      context.strokeStyle = colors(tick === scale.ticks[0] ? "axis" : "gridline");
      context.beginPath();
      context.moveTo(frame.left, at);
      context.lineTo(frame.right, at);
      context.stroke();
      context.fillStyle = colors("muted");
      context.fillText(this.format(tick), frame.left - em * 0.5, Math.max(em * 0.6, at));
    }
    context.save();
    context.beginPath();
    context.rect(frame.left, top - 3, frame.right - frame.left + 3, bottom - top + 5);
    context.clip();
    for (const one of plot.series) this.drawSeries(frame, one, y, bottom);
    context.restore();
  }

  drawSeries(frame, one, y, bottom) {
    const { context, colors } = frame;
    context.strokeStyle = colors(one.color);
    context.fillStyle = colors(one.color);
    context.lineWidth = Math.max(1.5, frame.em / 8);
    context.lineJoin = "round";
    context.setLineDash(one.dash ? [frame.em / 3, frame.em / 3] : []);
    for (const run of this.runs(one)) {
      const points = run.map(([ms, value]) => [this.x(frame, ms), y(value)]);
      // A single moment is seen, too.
      if (points.length === 1) points.unshift([points[0][0] - 2, points[0][1]]);
      context.beginPath();
      for (const [x, at] of points) context.lineTo(x, at);
      context.stroke();
      if (!one.area) continue;
      context.lineTo(points.at(-1)[0], bottom);
      context.lineTo(points[0][0], bottom);
      context.globalAlpha = 0.2;
      context.fill();
      context.globalAlpha = 1;
    }
    context.setLineDash([]);
  }

  /** What of a series hangs together. */
  runs(one) {
    const runs = [];
    let run = [];
    let before = null;
    for (const sample of this.model.history) {
      const value = one.of(sample);
      if (value === null || (before !== null && sample.ms - before > BREAK_MS)) {
        if (run.length > 0) runs.push(run);
        run = [];
      }
      if (value !== null) run.push([sample.ms, value]);
      before = sample.ms;
    }
    if (run.length > 0) runs.push(run);
    return runs;
  }

  drawTime(frame, bottom) {
    const { context, em, colors } = frame;
    context.fillStyle = colors("muted");
    context.textBaseline = "top";
    context.textAlign = "center";
    context.strokeStyle = colors("axis");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(frame.left, Math.round(bottom) + 0.5);
    context.lineTo(frame.right, Math.round(bottom) + 0.5);
    context.stroke();
    const isNarrow = frame.right - frame.left < em * 24;
    const step = isNarrow ? GRID_MS * 2 : GRID_MS;
    for (let ms = Math.ceil((frame.end - SPAN_MS) / step) * step; ms <= frame.end; ms += step) {
      const x = Math.round(this.x(frame, ms)) + 0.5;
      context.strokeStyle = colors("axis");
      context.beginPath();
      context.moveTo(x, bottom);
      context.lineTo(x, bottom + em * 0.35);
      context.stroke();
      if (x > frame.left + em && x < frame.right - em * 1.2) context.fillText(clock(ms).slice(0, 5), x, bottom + em * 0.5);
    }
  }

  /** There are no values from before the page was opened. */
  drawBefore(frame, bottom) {
    const { context, em, colors } = frame;
    const first = this.x(frame, this.model.history[0].ms);
    const words = "the page was not open";
    if (first - frame.left < context.measureText(words).width + em * 2) return;
    context.fillStyle = colors("panel");
    context.globalAlpha = 0.5;
    context.fillRect(frame.left, 0, first - frame.left, bottom - 1);
    context.globalAlpha = 1;
    context.fillStyle = colors("muted");
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(words, (frame.left + first) / 2, bottom * 0.3);
  }

  /** The legend has the values at the pointer, or the newest. */
  drawValues(frame, bottom) {
    const { history } = this.model;
    let sample = history.at(-1);
    if (this.pointerX !== null) {
      const ms = frame.end - ((frame.right - this.pointerX) / (frame.right - frame.left)) * SPAN_MS;
      sample = history.reduce((best, one) => (Math.abs(one.ms - ms) < Math.abs(best.ms - ms) ? one : best));
      const { context, em, colors } = frame;
      const x = Math.round(this.x(frame, sample.ms)) + 0.5;
      context.strokeStyle = colors("text");
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(x, em * 0.4);
      context.lineTo(x, bottom);
      context.stroke();
    }
    for (const one of this.series) text(one.value, one.of(sample) === null ? "–" : this.format(one.of(sample)));
    text(this.when, this.pointerX === null ? "now" : clock(sample.ms));
    const newest = history.at(-1);
    const words = this.series.map((one) => `${one.name} ${one.of(newest) === null ? "none" : this.format(one.of(newest))}`);
    this.canvas.setAttribute("aria-label", `The last 5 minutes; now: ${words.join(", ")}`);
  }
}

/** From zero to a round number above all values. */
function linearScale(values, steps) {
  const max = Math.max(...values, 0);
  if (max === 0) return { ticks: [0, 1], part: (value) => value };
  const raw = max / steps;
  const decade = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * decade).find((candidate) => candidate >= raw * 0.999);
  const count = Math.ceil(max / step - 1e-9);
  const ticks = Array.from({ length: count + 1 }, (_, index) => Number((index * step).toPrecision(12)));
  return { ticks, part: (value) => value / (count * step) };
}

/** Between powers of ten, or finer where the values lie close together. */
function logScale(values) {
  const positive = values.filter((value) => value > 0);
  if (positive.length === 0) positive.push(0.1, 10);
  const steps = [1, 2, 5];
  const ladder = Array.from({ length: 33 }, (_, index) => steps[index % 3] * 10 ** (Math.floor(index / 3) - 3));
  const low = Math.max(0, ladder.findLastIndex((tick) => tick <= Math.min(...positive)));
  let high = ladder.findIndex((tick) => tick >= Math.max(...positive));
  if (high === -1) high = ladder.length - 1;
  if (high <= low + 1) high = Math.min(ladder.length - 1, low + 2);
  let ticks = ladder.slice(low, high + 1);
  // Two decades have room for all steps, more for the powers of ten alone.
  if (ticks.length > 7) ticks = ticks.filter((tick) => Number.isInteger(Math.round(Math.log10(tick) * 1e6) / 1e6));
  const [from, to] = [Math.log(ladder[low]), Math.log(ladder[high])];
  return { ticks, part: (value) => Math.min(1, Math.max(0, (Math.log(Math.max(value, ladder[low])) - from) / (to - from))) };
}
