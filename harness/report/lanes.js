// Lanes from the top: faults as observed, nodes, processes.
const lanes = [], FLAGS = 3; // lines of flags' words
let lanesSheet, axisSheet;

function layLanes() {
  let y = 16 * Math.min(run.flags.length, FLAGS) + 5; // room for the flags' words
  const add = (kind, name, height, rest) => { lanes.push({ kind, name, y, height, ...rest }); y += height; };
  const extent = (fault) => [fault.start ?? fault.asked[0] ?? 0, fault.end ?? (fault.start === null ? fault.asked[1] ?? fault.asked[0] ?? 0 : whole.to)];
  if (run.phases.length) { add('phase', 'phase', 18, {}); y += 4; }
  for (const kind of new Set(run.faults.map((fault) => fault.kind))) { // a lane a kind, more where they overlap
    const rows = [];
    for (const fault of run.faults.filter((f) => f.kind === kind).sort((p, q) => extent(p)[0] - extent(q)[0])) {
      const row = rows.find((r) => extent(r[r.length - 1])[1] <= extent(fault)[0]) || rows[rows.push([]) - 1];
      row.push(fault);
    }
    rows.slice(0, 12).forEach((faults, k) => add('fault', k ? '' : kind, 23, { faults }));
  }
  if (lanes.length) y += 6;
  for (const node of run.members) {
    add('node', node, 20, { spans: run.spans.filter((span) => span[0] === node), events: run.events.filter((event) => event[1] === node), log: run.logs.find((log) => log.node === node) });
  }
  if (run.members.length) y += 6;
  const height = run.lanes > 40 ? 9 : 20;
  ops.members.forEach((list, index) => add('process', '', height, { list, index }));
  for (const lane of lanes) {
    lane.title = make('div', { class: `name ${lane.kind === 'fault' ? 'strong' : ''}`, title: lane.name }, lane.name);
    lane.title.style.setProperty('top', `${lane.y + (lane.height > 9 ? 1 : -5)}px`);
    if (lane.height > 9 || lane.index % 4 === 0) $('lanes-names').append(lane.title);
  }
  lanesSheet.total = y + 5;
}

function drawLanes() {
  const s = lanesSheet;
  s.clear();
  paintTints(s);
  for (const [a, b] of run.rivals) paint(s.pen, theme.anomaly, toX(a), 0, toX(b) - toX(a), 2);
  for (const lane of lanes) {
    paint(s.pen, theme.line, 0, lane.y + lane.height - 0.5, view.width, 0.5);
    if (lane.kind === 'phase') drawPhases(s, lane);
    if (lane.kind === 'fault') for (const fault of lane.faults) drawFault(s, lane, fault);
    if (lane.kind === 'node') drawNode(s, lane);
    if (lane.kind === 'process') drawProcess(s, lane);
  }
  drawTrace(s);
  drawFlags(s);
}

function drawPhases(s, lane) {
  run.phases.forEach(([t, name], k) => {
    const a = Math.max(toX(t), 0), b = k + 1 < run.phases.length ? toX(run.phases[k + 1][0]) : view.width;
    paint(s.pen, theme.dim, toX(t), lane.y + 2, 1.5, lane.height - 5);
    write(s.pen, name, a + 5, lane.y + lane.height / 2 - 0.5, Math.min(b, view.width) - a - 8, theme.dim);
  });
}

function drawFault(s, lane, fault) {
  const { pen } = s, color = theme[fault.family], y = lane.y + 2, h = lane.height - 8, [due, until] = fault.asked;
  if (due !== null) paint(pen, color, toX(due), y + h + 2, Math.max(toX(until ?? fault.end ?? whole.to) - toX(due), 2), 1); // the thin line: what was asked
  if (fault.start === null) return write(pen, `never observed: ${fault.what}`, clamp(toX(due ?? 0) + 4, 4, view.width), y + h / 2, view.width - toX(due ?? 0) - 8, theme.anomaly);
  const a = toX(fault.start), b = Math.max(toX(fault.end ?? whole.to), a + 3), left = Math.max(a, -2), width = Math.min(b, view.width + 2) - left;
  if (width <= 0) return undefined;
  paint(pen, color, left, y, width, h, 0.24);
  paint(pen, s.textures[fault.family], left, y, width, h);
  paint(pen, color, a, y, 2, h);
  if (fault.end !== null) paint(pen, color, b - 2, y, 2, h);
  if (width - 12 < Math.min(fault.what.length, 6) * CHARACTER) return undefined; // a letter or two say nothing
  const shown = Math.min(fault.what.length * CHARACTER + 6, width - 8);
  if (shown > 30) paint(pen, theme.panel, left + 4, y + 1, shown, h - 2, 0.75);
  return write(pen, fault.what, left + 6, y + h / 2 + 0.5, width - 12);
}

const GLYPHS = { exit: 'M-4-4L4 4M4-4L-4 4', restart: 'M-4-4H4V4H-4z', start: 'M-4-4H4V4H-4z', ready: 'M-4 0L-1 4L4-4', panic: 'M0-5L5 4H-5zM0-2V1.5' };

function drawNode(s, lane) {
  const { pen } = s, middle = lane.y + lane.height / 2, often = lane.ticks?.length === Math.ceil(view.width) ? lane.ticks.fill(0) : (lane.ticks = new Uint8Array(Math.ceil(view.width)));
  for (const [time, , kind] of lane.events) if (kind !== 'role' && !Object.hasOwn(GLYPHS, kind)) often[toX(time) | 0] = 1; // a target's own: many, so small
  often.forEach((is, x) => { if (is) paint(pen, theme.dim, x, lane.y + lane.height - 4, 1, 3, 0.6); });
  for (const [, state, start, end, term] of lane.spans) {
    const a = toX(start), width = Math.max(toX(end) - a, 1.5), left = Math.max(a, 0);
    if (a > view.width || a + width < 0) continue;
    paint(pen, state === 'leader' ? theme.ink : theme.kill, a, lane.y + 3, width, lane.height - 7, state === 'leader' ? 0.14 : 0.1);
    if (state === 'leader') paint(pen, theme.ink, a, lane.y + 3, 2, lane.height - 7);
    else paint(pen, s.textures.kill, a, lane.y + 3, width, lane.height - 7);
    if (state === 'leader') for (const [from, to] of run.rivals) { // two lead at once, by their own word
      const p = Math.max(from, start), q = Math.min(to, end);
      if (q > p) paint(pen, theme.anomaly, toX(p), lane.y + lane.height - 5, Math.max(toX(q) - toX(p), 1), 3);
    }
    const room = Math.min(a + width, view.width) - left - 16;
    if (state === 'leader') write(pen, term && room > 100 ? `leads, term ${term}` : 'leads', left + 12, middle, room);
    else if (room >= 4 * CHARACTER) {
      paint(pen, theme.panel, left + 10, lane.y + 4, 4 * CHARACTER + 4, lane.height - 9, 0.75);
      write(pen, 'down', left + 12, middle, room);
    }
  }
  drawLines(s, lane);
  pen.lineWidth = 1.6;
  let last = -99;
  for (const [time, , kind] of lane.events) {
    const x = toX(time);
    if (x < -5 || x > view.width + 5 || (kind === 'role' ? x - last < 1 : !Object.hasOwn(GLYPHS, kind))) continue;
    if (kind === 'role') { last = x; paint(pen, theme.dim, x - 0.5, lane.y + 5, 1, lane.height - 11); continue; }
    pen.strokeStyle = kind === 'panic' || kind === 'exit' ? theme.anomaly : theme.ink;
    pen.translate(x, middle);
    pen.stroke(new Path2D(GLYPHS[kind]));
    pen.translate(-x, -middle);
  }
}

function drawTrace(s) { // the pinned operation's steps in the lanes of the nodes that took them, and its own time above and below
  const steps = run.traces[view.pin], { pen } = s;
  if (!steps) return;
  const its = new Map(lanes.filter((lane) => lane.kind === 'node').map((lane) => [lane.name, lane]));
  for (const [from, to, node] of steps) {
    const lane = its.get(node), x = toX(from), width = Math.max(toX(to) - x, 2.5);
    if (!lane || x > view.width || x + width < 0) continue;
    paint(pen, theme.ok, x - 1, lane.y + 2, width, lane.height - 5);
    paint(pen, theme.ink, x - 1, lane.y + 2, width, 1.5);
  }
}

// Dense columns by rank: colour, top and height within the lane. Heights differ, so that they do not rest on colour.
const DENSE = [null, ['fail', 0.5, 0.42], ['ok', 0.24, 0.52], ['info', 0.06, 0.88], ['anomaly', 0, 1]];

function drawProcess(s, lane) {
  const { list, y, height } = lane, { start, shownEnd, rank, process, type } = ops, scale = view.width / (view.to - view.from), width = Math.ceil(view.width);
  const worst = lane.worst?.length === width ? lane.worst.fill(0) : (lane.worst = new Uint8Array(width)), boxes = [];
  const one = view.key >= 0;
  let first = -1, last = -1;
  if (coarse()) {
    const { bins } = run, ranks = bins.worst[lane.index], wide = bins.width * scale;
    for (let k = binAt(view.from); k <= binAt(view.to); k++) {
      if (!ranks[k]) continue;
      const x0 = (bins.from + k * bins.width - view.from) * scale, stop = Math.min(x0 + wide, width - 1) | 0;
      for (let x = Math.max(x0 | 0, 0); x <= stop; x++) if (worst[x] < ranks[k]) worst[x] = ranks[k];
    }
  }
  for (let k = Math.max(lowerBound(list.length, (j) => start[list[j]], view.from) - 1, 0); k < list.length; k++) {
    const i = list[k], x0 = (start[i] - view.from) * scale, x1 = (shownEnd[i] - view.from) * scale;
    if (x0 > width) break;
    if (x1 < 0) continue;
    if (first < 0) first = process[i];
    last = process[i];
    if (one && hidden(i)) continue;
    if (x1 - x0 >= 4 && height > 9) { boxes.push(i); continue; }
    const stop = Math.min(type[i] === INFO ? x0 + 2 : x1, width - 1) | 0;
    for (let x = Math.max(x0 | 0, 0); x <= stop; x++) if (worst[x] < rank[i]) worst[x] = rank[i];
  }
  const inside = height - (height > 9 ? 3 : 1);
  for (let x = 0; x < width;) { // equal neighbours are one rectangle
    const what = worst[x], began = x;
    while (x < width && worst[x] === what) x++;
    if (what) paint(s.pen, theme[DENSE[what][0]], began, y + DENSE[what][1] * inside + 1, x - began, DENSE[what][2] * inside);
  }
  for (const i of boxes) drawBox(s, i, lane);
  const name = first < 0 ? '' : `${first === last ? first : `${first}…${last}`}${nodeName(list[0]) === null ? '' : ` → ${nodeName(list[0])}`}`;
  const words = `${view.gutter > 120 && first === last ? 'process ' : ''}${name || lane.index}`;
  if (lane.words !== words) lane.words = lane.title.textContent = lane.title.title = words;
}

function drawBox(s, i, lane) {
  const { pen } = s, kind = outcome(i), y = lane.y + 2, h = lane.height - 5;
  const a = Math.max(toX(ops.start[i]), -3), b = Math.min(toX(ops.shownEnd[i]), view.width + 8), w = Math.max(b - a, 2), open = Number.isNaN(ops.end[i]);
  if (kind === 'ok') { paint(pen, theme['ok-soft'], a, y, w, h); paint(pen, theme.ok, a, y, 2, h); }
  if (kind === 'anomaly') paint(pen, theme.anomaly, a, y - 1, w, h + 2);
  if (kind === 'info' || (open && kind === 'anomaly')) { // the right side stays open: it may take effect later
    const fade = Math.min(w, 5);
    paint(pen, theme['info-soft'], a, y, w - fade, h);
    paint(pen, s.textures.info, a, y, w - fade, h);
    paint(pen, theme.info, a, y, 2, h);
    pen.fillStyle = theme.info;
    pen.fill(new Path2D(`M${b - fade} ${y}l${fade} ${h / 2}l${-fade} ${h / 2}z`));
  }
  if (kind === 'fail') { // hollow: it did not happen
    pen.strokeStyle = theme.fail;
    pen.lineWidth = 1;
    pen.setLineDash([3, 2]);
    pen.strokeRect(a + 0.5, y + 0.5, w - 1, h - 1);
    pen.setLineDash([]);
  }
  if (i === view.pin) { pen.strokeStyle = theme.ink; pen.lineWidth = 2; pen.strokeRect(a - 2, y - 2, w + 4, h + 4); }
  const room = w - 10, short = label(i), full = keyName(i) === null ? short : `${short} · ${keyName(i)}`, text = full.length * CHARACTER <= room ? full : short;
  if (room < Math.min(text.length, 10) * CHARACTER) return;
  if (kind === 'info') paint(pen, theme['info-soft'], a + 4, y + 1, Math.min(text.length * CHARACTER + 2, room), h - 2);
  write(pen, text, a + 6, y + h / 2 + 0.5, room, kind === 'anomaly' ? theme.panel : kind === 'fail' ? theme.dim : theme.ink);
}

function drawFlags(s) { // where words would lie over words they go a line down; what has no room there is in the story
  const ends = Array.from({ length: Math.min(run.flags.length, FLAGS) }, () => -1);
  const seen = run.flags.map(([row, text]) => [toX(ops.start[row]), text]).filter(([x]) => x >= -1 && x <= view.width + 1).sort(([a], [b]) => a - b);
  for (const [x] of seen) paint(s.pen, theme.anomaly, x - 1, 0, 2, s.height, 0.9);
  for (const [x, text] of seen) {
    const width = Math.min(text.length * CHARACTER + 12, 300, view.width), left = clamp(x + width > view.width ? x - width : x, 0, view.width - width);
    const line = ends.findIndex((end) => end <= left);
    if (line < 0) continue;
    ends[line] = left + width + 2;
    paint(s.pen, theme.anomaly, left, 16 * line, width, 15);
    write(s.pen, text, left + 6, 16 * line + 8, width - 10, theme.panel);
  }
}

function drawAxis() {
  const s = axisSheet, { step, found } = ticks(view.from, view.to, view.width / 95), digits = clamp(-Math.floor(Math.log10(step) + 1e-9), 0, 6);
  s.clear();
  for (const t of found) {
    paint(s.pen, theme.line, toX(t), 0, 1, s.height);
    const text = t.toFixed(digits);
    if (toX(t) + 5 + text.length * CHARACTER <= view.width) write(s.pen, text, toX(t) + 5, s.height / 2, 90, theme.dim);
  }
  const all = view.from <= whole.from + 1e-9 && view.to >= whole.to - 1e-9, span = view.to - view.from;
  $('range').textContent = all ? `whole run, ${seconds(run.to - run.from, 1)}` : `${Math.max(view.from, run.from).toFixed(digitsFor(span))} – ${seconds(view.to, digitsFor(span))}, ${lasted(span)} in view`;
}
