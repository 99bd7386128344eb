// Small ways to write the document, which change nothing that already is as it should be.

/** An element: `el("p", { class: "note", data: { id: 1 } }, "text", child)`. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "data") Object.assign(node.dataset, value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

export function attribute(node, name, value) {
  if (value === null || value === undefined) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, value);
  }
}

/** A number as it is shown, and as the API said it. */
export function figure(node, shown, value) {
  text(node, shown);
  attribute(node, "data-value", value);
}

/** Makes `parent` hold one element for each item, kept by key from one time to the next. */
export function keyed(parent, items, keyOf, make, update) {
  const kept = parent.kept ?? new Map();
  const next = new Map(items.map((item) => [keyOf(item), item]));
  // Who is gone goes first: what stays must not be moved, or it would lose the focus.
  for (const [key, node] of kept) if (!next.has(key)) node.remove();
  let place = parent.firstElementChild;
  for (const [key, item] of next) {
    const node = kept.get(key) ?? make(item);
    update(node, item);
    next.set(key, node);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  parent.kept = next;
}

/** How far a bar is filled, 0 to 1. */
export function fill(node, part) {
  const width = `${(Math.min(1, Math.max(0, part)) * 100).toFixed(1)}%`;
  if (node.style.width !== width) node.style.width = width;
}

export const byId = (id) => document.getElementById(id);
