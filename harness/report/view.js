// What is in view: one stretch of time for all charts, one cursor, one pinned operation, all keys or one. The address holds it.
const view = { from: 0, to: 1, cursor: null, pin: -1, key: -1, width: 0, gutter: 0 };
const whole = { from: 0, to: 1 };
const toX = (t) => (t - view.from) / (view.to - view.from) * view.width;
const toTime = (x) => view.from + x / view.width * (view.to - view.from);

const nanoseconds = (t) => Number(t.toFixed(9)); // what the address can say whole: a link opens the very same stretch

let frame = 0;
function redraw() { frame ||= requestAnimationFrame(drawAll); }

function show(from, to) {
  const span = clamp(to - from, 2e-5, whole.to - whole.from);
  view.from = nanoseconds(clamp(from + (to - from - span) / 2, whole.from, whole.to - span));
  view.to = nanoseconds(view.from + span);
  redraw();
  saveHash();
}

function zoom(factor, around = view.cursor ?? (view.from + view.to) / 2) {
  const at = clamp(around, view.from, view.to);
  show(at - (at - view.from) * factor, at + (view.to - at) * factor);
}
const move = (part) => show(view.from + part * (view.to - view.from), view.to + part * (view.to - view.from));
const fit = () => show(whole.from, whole.to);

let hashTimer = 0;
function saveHash() {
  clearTimeout(hashTimer);
  hashTimer = setTimeout(() => {
    const parts = [];
    if (view.from > whole.from || view.to < whole.to) parts.push(`t=${view.from}..${view.to}`);
    if (view.pin >= 0) parts.push(`op=${view.pin}`);
    if (view.key >= 0) parts.push(`key=${view.key}`);
    try { // refused where a page may not touch its address: then it only cannot be linked to
      if (parts.length || location.hash) history.replaceState(null, '', parts.length ? `#${parts.join('&')}` : '#');
    } catch { /* the picture is the same */ }
  }, 200);
}

function loadHash(hash) { // #t=1.2..3.4&op=17&key=3, or #fault=2
  const parts = new URLSearchParams(hash.slice(1)), [from, to] = (parts.get('t') || '').split('..').map(Number);
  const number = (name) => (/^\d+$/.test(parts.get(name)) ? Number(parts.get(name)) : -1), op = number('op'), fault = run.faults[number('fault')], key = number('key');
  const stretch = to > from && Number.isFinite(to - from);
  if (!['t', 'op', 'fault', 'key'].some((name) => parts.has(name))) return; // a link into the page
  if (key !== view.key) choose(typeof run.keys[key] === 'string' ? key : -1);
  if (fault) visitFault(fault);
  if (op >= 0 && op < ops.n) { if (stretch) pin(op); else visit(op, true); }
  if (stretch) show(from, to);
}

function pin(i) {
  if (i >= 0 && hidden(i)) choose(-1); // it is to be seen
  view.pin = i;
  redraw();
  saveHash();
  const host = $('pinned');
  if (i < 0) return host.replaceChildren();
  const same = ops.members[ops.lane[i]].filter((j) => j === i || !hidden(j)), k = same.indexOf(i), key = ops.key[i], only = view.key === key;
  const go = (words, j) => make('button', { type: 'button', disabled: j === undefined, click: () => visit(j) }, words);
  return host.replaceChildren(make('h3', {}, `Operation #${ops.index[i]}`), listing(describe(i)), tellTrace(i),
    make('p', { class: 'buttons' }, go('‹ process', same[k - 1]), go('process ›', same[k + 1]), keyName(i) !== null && make('button', { type: 'button', click: () => choose(only ? -1 : key) }, only ? 'All keys' : `Only key ${keyName(i) || '""'}`), make('button', { type: 'button', click: () => pin(-1) }, 'Unpin')));
}

function tellTrace(i) { // what the nodes did for it, in words: the picture has it in the nodes' lanes
  const steps = run.traces[i];
  if (!steps) return '';
  const since = (t) => `${t < ops.start[i] ? '-' : '+'}${lasted(Math.abs(t - ops.start[i]))}`;
  return make('div', { class: 'trace' }, make('h3', {}, 'What the nodes did for it, as reported'), make('ol', {}, ...steps.slice(0, 200).map(([from, to, node, kind]) =>
    make('li', {}, make('b', {}, node), ` ${kind} ${since(from)}${to > from ? `, for ${lasted(to - from)}` : ''}`))), steps.length > 200 ? make('p', {}, `and ${grouped(steps.length - 200)} more`) : '');
}

function visit(i, scroll = false) { // pin an operation and bring it into view, wide enough to read; one of a witness with its fellows
  if (i === undefined || i < 0) return;
  const fellows = scroll && run.witnesses.find((rows) => rows.includes(i)), rows = fellows || [i];
  const a = Math.min(...rows.map((j) => ops.start[j])), b = Math.max(...rows.map((j) => (fellows ? ops.end[j] || ops.start[j] : ops.shownEnd[j])));
  const span = fellows ? Math.max((b - a) * 1.6, 0.002) : Math.min(view.to - view.from, Math.max((b - a) * 14, 0.02)), middle = (a + b) / 2;
  pin(i);
  if (scroll) $('timeline').scrollIntoView();
  if (scroll || middle < view.from || middle > view.to || toX(b) - toX(a) < 6) show(middle - span / 2, middle + span / 2);
}

function choose(key) { // one key in every chart and in the table, or (-1) all
  const name = run.keys[key] || '""';
  view.key = key;
  $('b-key').hidden = key < 0;
  $('b-key').textContent = `Key ${name} only ×`;
  $('b-key').setAttribute('aria-label', `Key ${name} only ×, show all keys again`);
  for (const button of document.querySelectorAll('button[data-key]')) button.setAttribute('aria-pressed', Number(button.dataset.key) === key);
  sayCounted(key, name);
  drawMap();
  find();
  pin(view.pin >= 0 && hidden(view.pin) ? -1 : view.pin);
}

function sayCounted(key, name) { // the counts tell no key: what the charts of one leave out
  const its = key < 0 || !run.bins ? 0 : run.of[key], here = its && ops.key.reduce((n, k) => n + (k === key), 0);
  const exact = run.exact?.slice(0, 5).map(([a, b]) => `${seconds(a)} to ${seconds(b)}`).join(', ');
  $('counted').textContent = here === its ? '' : `Of the ${grouped(its)} operations of key ${name} this page has ${grouped(here)} one by one, and lanes, latency and rate show only these: the others are counted, with those of all keys.${exact ? ` None is missing from ${exact}.` : ''}`;
}

function visitFault(fault) {
  const a = fault.start ?? fault.asked[0] ?? whole.from, b = Math.max(fault.end ?? (fault.start === null ? fault.asked[1] ?? a : whole.to), a), pad = Math.max((b - a) * 0.15, 0.05);
  $('timeline').scrollIntoView();
  show(a - pad, b + pad);
}

function step(direction) { // to the next anomaly, unknown outcome or failure: whatever is not ok
  const list = ops.trouble.filter((i) => !hidden(i)), from = view.pin >= 0 ? view.pin : direction > 0 ? firstAt(view.from) - 1 : firstAt(view.to);
  const k = lowerBound(list.length, (j) => list[j], direction > 0 ? from + 1 : from);
  visit(list[direction > 0 ? k : k - 1]);
}
