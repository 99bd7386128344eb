// Numbers and times as people on shift read them. Integers beyond 2^53 arrive as strings of digits and stay exact.

const THIN = "\u202f";
const MISSING = "–";

const grouped = (digits) => digits.replace(/\B(?=(\d{3})+(?!\d))/g, THIN);

/** A count: 1 234 567. */
export function count(value) {
  if (value === null || value === undefined) return MISSING;
  return grouped(typeof value === "string" ? value : String(Math.round(value)));
}

/** Three digits that matter, never more than the value has. */
function significant(value) {
  if (value >= 100 || Number.isInteger(value)) return grouped(value.toFixed(0));
  return value.toFixed(value >= 10 ? 1 : 2);
}

/** A rate without its unit. */
export const rate = (value) => significant(value ?? 0);

function scaled(value, base, units) {
  let step = 0;
  while (value >= base && step < units.length - 1) {
    value /= base;
    step += 1;
  }
  return [step === 0 ? grouped(value.toFixed(0)) : significant(value), units[step]];
}

/** Sizes as the configuration has them (1 MiB = 1024 KiB), as [number, unit]. */
export const sizeParts = (value) => scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
export const size = (value) => sizeParts(Number(value)).join(THIN);

/** Throughput in powers of ten, as [number, unit]. */
export const byteRateParts = (value) => scaled(value ?? 0, 1000, ["B/s", "kB/s", "MB/s", "GB/s"]);
export const byteRate = (value) => byteRateParts(value).join(THIN);

/** A latency, as [number, unit]. */
export function latencyParts(value) {
  if (value === null || value === undefined) return [MISSING, ""];
  return value >= 1000 ? [significant(value / 1000), "s"] : [significant(value), "ms"];
}
export const latency = (value) => latencyParts(value).join(THIN).trim();

export const percent = (part) => (part > 0 && part < 0.01 ? `<${THIN}1${THIN}%` : `${Math.round(part * 100)}${THIN}%`);

/** 2026-11-21T21:53:23Z. */
export const iso = (ms) => (ms === null || ms === undefined ? MISSING : `${new Date(ms).toISOString().slice(0, 19)}Z`);
/** 21:53:23. */
export const clock = (ms) => new Date(ms).toISOString().slice(11, 19);

/** What an emergency's payload begins with; `null` where the daemon withholds it. */
export const label = (value) => (value === null ? "label withheld" : value || "no label");

/** How long something takes or is ago, in its two largest units. */
export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts = [
    [Math.floor(seconds / 86400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  if (first === -1) return `0${THIN}s`;
  const shown = parts.slice(first, first + 2).filter(([value], index) => index === 0 || value > 0);
  return shown.map(([value, unit]) => `${value}${THIN}${unit}`).join(" ");
}

/** In its largest unit alone, for where there is little room. */
export const brief = (ms) => duration(ms).split(" ")[0];

/** "1 frame", "2 frames". */
export const plural = (value, one, many = `${one}s`) => `${count(value)} ${Number(value) === 1 ? one : many}`;

/** Connections refused, by all listeners and for all reasons. */
export const refusedTotal = (refusals) =>
  Object.values(refusals).flatMap((reasons) => Object.values(reasons)).reduce((sum, refused) => sum + Number(refused), 0);
