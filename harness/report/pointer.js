// The linked cursor, what is under it, and input: wheel, drag, touch, keys.
function describe(i) {
  const open = Number.isNaN(ops.end[i]), kind = outcome(i);
  return [['operation', label(i)], keyName(i) !== null && ['key', keyName(i)],
    ['outcome', make('span', { class: `outcome ${kind}` }, kind === 'info' || (open && kind === 'anomaly') ? `${kind}: unknown, may take effect at any later time` : kind)],
    ['process', `${ops.process[i]}${nodeName(i) === null ? '' : ` → ${nodeName(i)}`}`], ['invoked', seconds(ops.start[i], 6)],
    ['completed', open ? 'never' : seconds(ops.end[i], 6)], !open && ['lasted', lasted(ops.end[i] - ops.start[i])],
    ops.final[i] && ['phase', 'final read'], errorText(i) && ['error', errorText(i)]];
}

function describeFault(fault) {
  const stretch = (a, b, open) => `${a === null ? '–' : seconds(a)} – ${b === null ? open : seconds(b)}`;
  return [['fault', `${fault.kind}: ${fault.what}`], ['asked', stretch(...fault.asked, 'until healed')],
    ['observed', fault.start === null ? 'never' : stretch(fault.start, fault.end, 'not seen to heal')],
    fault.mechanism && ['mechanism', fault.mechanism], fault.proof && ['proof', fault.proof], fault.error && ['error', fault.error]];
}

function hit(event) { // what is under the pointer
  const box = $('lanes').getBoundingClientRect(), t = toTime(event.clientX - box.left), y = event.clientY - box.top, reach = 3 * (view.to - view.from) / view.width;
  if (event.clientX < box.left || event.clientX > box.right) return null;
  const found = { t, op: -1 }, lane = lanes.find((l) => y >= l.y && y < l.y + l.height);
  if (lane?.kind === 'fault') found.fault = lane.faults.find((f) => (f.start ?? f.asked[0]) - reach <= t && t <= (f.end ?? f.asked[1] ?? whole.to) + reach);
  if (lane?.kind === 'node') {
    const near = lane.events.filter((e) => Math.abs(e[0] - t) < 2 * reach);
    found.event = near.find((e) => Object.hasOwn(GLYPHS, e[2])) || near[0];
    found.span = lane.spans.find((span) => span[2] - reach <= t && t <= span[3] + reach);
    if (y < lane.y + lane.height / 2 || !found.event) found.lines = linesNear(lane.log, t, 1.3 * reach);
  }
  if (lane?.kind === 'process') {
    const { list } = lane, { start, shownEnd, rank } = ops;
    for (let k = Math.max(lowerBound(list.length, (j) => start[list[j]], t - reach) - 1, 0); k < list.length && start[list[k]] <= t + reach; k++) {
      const i = list[k];
      if (!hidden(i) && shownEnd[i] >= t - reach && (found.op < 0 || rank[i] > rank[found.op])) found.op = i; // of several under one pixel, the worst
    }
  }
  const plot = $('latency').getBoundingClientRect(), py = event.clientY - plot.top;
  if (py >= 0 && py <= plot.height) {
    let best = 64;
    for (let i = firstAt(t - 3 * reach), stop = firstAt(t + 3 * reach); i < stop; i++) {
      const level = Number.isNaN(ops.decades[i]) ? UNKNOWN / 2 : latencyY(ops.decades[i]), distance = (toX(ops.start[i]) - toX(t)) ** 2 + (level - py) ** 2;
      if (distance < best && !hidden(i)) { best = distance; found.op = i; }
    }
  }
  const dial = $('clocks')?.getBoundingClientRect();
  if (dial && event.clientY >= dial.top && event.clientY <= dial.bottom) found.clock = clockAt(event.clientX - dial.left, event.clientY - dial.top);
  return found;
}

function showCard(found, event) {
  const card = $('card'), pairs = !found ? null : found.op >= 0 ? describe(found.op) : found.fault ? describeFault(found.fault)
    : found.lines ? describeLines(found.lines)
    : found.event ? [['node', found.event[1]], ['at', seconds(found.event[0], 6)], ['event', found.event[3]]]
      : found.clock ? found.clock
        : found.span ? [['node', found.span[0]], [found.span[1] === 'leader' ? 'leads' : 'down', `${seconds(found.span[2])} – ${seconds(found.span[3])}`], found.span[4] && ['term', found.span[4]]] : null;
  card.hidden = !pairs;
  if (!pairs) return;
  card.replaceChildren(listing(pairs));
  const { width, height } = card.getBoundingClientRect(), x = event.clientX + 16 + width > innerWidth ? event.clientX - 16 - width : event.clientX + 16;
  card.style.setProperty('transform', `translate(${Math.max(x, 4)}px, ${clamp(event.clientY + 18, 4, Math.max(innerHeight - height - 8, 4))}px)`);
}

function setCursor(t) {
  const node = $('cursor'), inside = t !== null && t >= view.from && t <= view.to;
  view.cursor = t;
  node.hidden = !inside;
  if (inside) {
    slide(node, view.gutter + toX(t));
    node.firstChild.textContent = seconds(t, digitsFor(view.to - view.from));
    node.classList.toggle('flip', toX(t) > view.width - 90);
  }
  sayNow(inside ? t : null);
}

function sayNow(t) { // at the cursor, else at the pinned operation, in words
  const at = t ?? (view.pin >= 0 ? ops.start[view.pin] : null), host = $('now');
  if (at === null) return host.replaceChildren();
  const faults = run.faults.filter((fault) => inForce(fault, at)).map((fault) => fault.what || fault.kind);
  const leaders = [...new Set(run.spans.filter(([, state, a, b]) => state === 'leader' && a <= at && at <= b).map(([node, , , , term]) => (term ? `${node} (term ${term})` : node)))];
  const many = run.rivals.some(([a, b]) => a <= at && at <= b), down = run.spans.filter(([, state, a, b]) => state === 'down' && a <= at && at <= b).map(([node]) => `${node} is down`);
  const leads = run.spans.length ? (many ? `${leaders.join(' and ')} both believe they lead` : leaders.length ? `${leaders[0]} leads` : 'nobody leads') : '';
  return host.replaceChildren(make('b', {}, seconds(at, digitsFor(view.to - view.from))), ` · ${faults.slice(0, 6).join('; ') || 'no fault in force'}${faults.length > 6 ? `; and ${faults.length - 6} more` : ''}`,
    leads ? make('span', { class: many && 'warn' }, ` · ${leads}`) : '', down.length ? ` · ${down.join(', ')}` : '');
}

function listenStack() {
  const stack = $('stack'), left = () => $('lanes').getBoundingClientRect().left, fingers = new Map();
  const ends = (...xs) => xs.map((x) => clamp(x - left(), 0, view.width)).sort((p, q) => p - q);
  let drag = null;
  stack.addEventListener('wheel', (event) => {
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
    if (!sideways && !event.ctrlKey && !event.metaKey && document.activeElement !== stack) return; // a page that scrolls must go on scrolling
    event.preventDefault();
    if (sideways) move((event.deltaX || event.deltaY) / view.width * 0.8);
    else zoom(1.0015 ** clamp(event.deltaY, -240, 240), toTime(event.clientX - left()));
  }, { passive: false });
  stack.addEventListener('pointerdown', (event) => {
    if (event.clientX < left() || event.button > 1) return;
    fingers.set(event.pointerId, event.clientX);
    drag = { x: event.clientX, last: event.clientX, pan: event.shiftKey || event.button === 1 || event.pointerType === 'touch', moved: false };
    stack.setPointerCapture(event.pointerId);
  });
  stack.addEventListener('pointermove', (event) => {
    if (drag && fingers.size === 2 && fingers.has(event.pointerId)) return pinch(event);
    if (drag && Math.abs(event.clientX - drag.x) > 4) drag.moved = true;
    if (drag?.moved && drag.pan) { move((drag.last - event.clientX) / view.width); drag.last = event.clientX; }
    if (drag?.moved && !drag.pan) {
      const [a, b] = ends(drag.x, event.clientX);
      $('drag').hidden = false;
      slide($('drag'), view.gutter + a, b - a);
    }
    const found = hit(event);
    setCursor(found && found.t);
    return showCard(drag?.moved ? null : found, event);
  });
  function pinch(event) {
    const [a, b] = [...fingers.values()], before = Math.abs(a - b), middle = toTime((a + b) / 2 - left());
    fingers.set(event.pointerId, event.clientX);
    const [c, d] = [...fingers.values()];
    drag.moved = true;
    zoom(clamp(before / Math.max(Math.abs(c - d), 8), 0.7, 1.4), middle);
  }
  const up = (event) => {
    const was = drag;
    fingers.delete(event.pointerId);
    drag = null;
    $('drag').hidden = true;
    if (!was || event.type === 'pointercancel') return;
    if (was.moved && !was.pan) { const [a, b] = ends(was.x, event.clientX).map(toTime); if (b > a) show(a, b); }
    const found = was.moved ? null : hit(event);
    if (found?.op >= 0) pin(found.op);
    else if (found?.fault) visitFault(found.fault);
    else if (found?.lines) visitLine(found.lines);
  };
  stack.addEventListener('pointerup', up);
  stack.addEventListener('pointercancel', up);
  stack.addEventListener('pointerleave', () => { setCursor(null); $('card').hidden = true; });
  stack.addEventListener('dblclick', fit);
}

function listenMap() { // drag in the whole run to choose the part in view
  const host = $('map'), at = (event) => whole.from + (event.clientX - host.getBoundingClientRect().left) / view.width * (whole.to - whole.from);
  let grip = null;
  host.addEventListener('pointerdown', (event) => {
    const t = at(event), all = view.to - view.from > 0.98 * (whole.to - whole.from);
    grip = !all && t > view.from && t < view.to ? { move: t - view.from } : { edge: t };
    host.setPointerCapture(event.pointerId);
  });
  host.addEventListener('pointermove', (event) => {
    if (!grip) return;
    const t = at(event), span = view.to - view.from;
    if (grip.move !== undefined) show(t - grip.move, t - grip.move + span);
    else if (Math.abs(mapX(t) - mapX(grip.edge)) > 3) show(Math.min(t, grip.edge), Math.max(t, grip.edge));
  });
  for (const name of ['pointerup', 'pointercancel']) host.addEventListener(name, () => { grip = null; });
}

const KEYS = {
  w: () => zoom(0.7), s: () => zoom(1 / 0.7), a: () => move(-0.15), d: () => move(0.15), f: fit, '[': () => step(-1), ']': () => step(1), Escape: () => (view.pin < 0 ? choose(-1) : pin(-1)),
  ArrowUp: () => zoom(0.7), ArrowDown: () => zoom(1 / 0.7), ArrowLeft: () => move(-0.15), ArrowRight: () => move(0.15),
};

function listenKeys() {
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches('input')) return;
    if (event.key.startsWith('Arrow') && document.activeElement !== $('stack')) return; // arrows scroll, unless the timeline has focus
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!Object.hasOwn(KEYS, name)) return;
    event.preventDefault();
    KEYS[name]();
  });
  const buttons = { prev: () => step(-1), next: () => step(1), out: () => zoom(1.6), in: () => zoom(1 / 1.6), fit, witness: () => visit(run.flags[0][0], true), key: () => choose(-1) };
  for (const [name, action] of Object.entries(buttons)) $(`b-${name}`).addEventListener('click', action);
  $('b-witness').hidden = !run.flags.length;
}

function listenChoice() { // the history's keys, in their table, become buttons
  $('keys')?.querySelector('table')?.before(make('p', { class: 'hint how' }, 'Choose a key, and the charts and the table of operations show its operations alone.'));
  for (const name of document.querySelectorAll('#keys [data-key]')) { // words without a script
    const key = Number(name.dataset.key);
    name.replaceWith(make('button', { type: 'button', class: 'mono', 'data-key': key, 'aria-pressed': 'false', click: () => choose(view.key === key ? -1 : key) }, name.textContent));
  }
}

function listenCopy() {
  $('b-copy')?.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText($('replay').textContent);
      $('b-copy').textContent = 'Copied';
    } catch { // no permission: select it, so that the reader can
      getSelection().selectAllChildren($('replay'));
      $('b-copy').textContent = 'Selected';
    }
    setTimeout(() => { $('b-copy').textContent = 'Copy'; }, 1500);
  });
}
