// Tools. What is shown comes from a history and is hostile: text enters the page only as text nodes and attributes.
const $ = (id) => document.getElementById(id);
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

function make(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (typeof value === 'function') node.addEventListener(name, value);
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const grouped = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ','); // Intl costs 100 ms at its first call
const seconds = (t, digits = 3) => `${t.toFixed(digits)} s`;
const lasted = (s) => (s < 0.9995e-3 ? `${Math.round(s * 1e6)} µs` : s < 0.9995 ? `${Number((s * 1e3).toPrecision(3))} ms` : `${s.toFixed(2)} s`);
const digitsFor = (span) => clamp(Math.ceil(2 - Math.log10(span)), 0, 6);
const listing = (pairs) => make('dl', { class: 'pairs' }, ...pairs.filter(Boolean).flatMap(([name, shown]) => [make('dt', {}, name), make('dd', {}, shown)]));

function lowerBound(length, key, wanted) { // the first place whose key is not below `wanted`
  let low = 0;
  while (low < length) {
    const middle = (low + length) >> 1;
    if (key(middle) < wanted) low = middle + 1; else length = middle;
  }
  return low;
}

function ticks(from, to, wanted) {
  const raw = (to - from) / Math.max(wanted, 1), power = 10 ** Math.floor(Math.log10(raw)), found = [];
  const step = [1, 2, 5, 10].find((k) => k * power >= raw * 0.9999) * power;
  for (let k = Math.ceil(from / step); k * step <= to; k++) found.push(k * step);
  return { step, found };
}
