// The nodes' clocks over the same time axis, as SVG: a line per process in its node's look, a shape for how it was seen.
const CLOCK_COLOURS = 8, EDGE = 8; // pixels above and below
const clocks = { low: 0, high: 1, height: 0, unit: 's', factor: 1, lines: new Map() };
const clockY = (offset) => EDGE + (clocks.high - offset) / (clocks.high - clocks.low) * (clocks.height - 2 * EDGE);
const look = (node) => `k${node % CLOCK_COLOURS}`;

function shape(tag, props) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, typeof value === 'number' ? value.toFixed(1) : value);
  return node;
}

function offsetText(offset, error) { // as text.py's `offset_text`
  const size = Math.abs(offset), sign = offset < 0 ? '-' : '+', about = error >= 5e-8 ? ` ± ${lasted(error)}` : '';
  if (size < 5e-7) return `0 µs${about}`;
  return `${sign}${size >= 0.9995 ? `${size.toFixed(3)} s` : size >= 0.9995e-3 ? `${(size * 1e3).toFixed(3)} ms` : `${Math.round(size * 1e6)} µs`}${about}`;
}

function layClocks() { // one scale for the whole run, zero always in it
  if (!$('clocks')) return;
  let low = 0, high = 0;
  for (const [, , offset, error] of run.clocks.readings) { low = Math.min(low, offset - error); high = Math.max(high, offset + error); }
  const room = Math.max((high - low) * 0.08, 1e-6), largest = Math.max(-low, high);
  Object.assign(clocks, { low: low - room, high: high + room });
  [clocks.unit, clocks.factor] = largest >= 0.9995 ? ['s', 1] : largest >= 0.9995e-3 ? ['ms', 1e3] : ['µs', 1e6];
  const direct = new Set(run.clocks.readings.filter(([, , , , how]) => how !== 'asked').map(([, node]) => node));
  run.clocks.readings.forEach((reading, k) => { // where a process was looked at itself, the target's coarser word is no line
    const [, node, , , how, pid] = reading;
    if (how === 'asked' && direct.has(node)) return;
    const key = `${node} ${pid}`;
    if (!clocks.lines.has(key)) clocks.lines.set(key, []);
    clocks.lines.get(key).push(k);
  });
}

const readingAt = (t) => lowerBound(run.clocks.readings.length, (k) => run.clocks.readings[k][0], t);

function drawClocks() {
  const host = $('clocks');
  if (!host) return;
  clocks.height = host.clientHeight;
  const svg = host.firstElementChild, nodes = [], { low, high, factor, unit, height } = clocks;
  svg.setAttribute('width', view.width);
  svg.setAttribute('height', height);
  for (const fault of run.faults) {
    if (fault.start === null) continue;
    const a = clamp(toX(fault.start), -4, view.width + 4), b = clamp(toX(fault.end ?? whole.to), a + 1, view.width + 5);
    if (b > 0 && a < view.width) nodes.push(shape('rect', { x: a, y: 0, width: b - a, height, class: `${fault.family === 'clock' ? 'band' : 'tint'} ${fault.family}` }));
  }
  const { step, found } = ticks(low * factor, high * factor, 4), digits = clamp(-Math.floor(Math.log10(step) + 1e-9), 0, 6), names = [];
  for (const value of found) {
    const y = clockY(value / factor), zero = Math.abs(value) < step / 2;
    nodes.push(shape('line', { x1: 0, x2: view.width, y1: y, y2: y, class: zero ? 'rail zero' : 'rail' }));
    names.push([clamp(y - 7, 0, height - 14), `${zero ? '' : value > 0 ? '+' : '-'}${Math.abs(value).toFixed(digits)} ${unit}`]);
  }
  scaleNames('clocks-names', names);
  for (const line of clocks.lines.values()) nodes.push(drawClockLine(line));
  const { readings, shapes, gaps } = run.clocks, marks = [], last = new Map(), reach = 5 / view.width * (view.to - view.from);
  for (let k = readingAt(view.from - reach); k < readings.length && readings[k][0] <= view.to + reach; k++) {
    const [t, node, offset, error, how] = readings[k], x = toX(t), y = clockY(offset), key = `${node} ${how}`, [px, py] = last.get(key) ?? [-99, -99];
    if (x - px < 3 && Math.abs(y - py) < 1) continue; // no difference to be seen
    last.set(key, [x, y]);
    const above = clockY(offset + error), below = clockY(offset - error);
    if (below - above > 9) marks.push(shape('path', { d: `M${x.toFixed(1)} ${above.toFixed(1)}V${below.toFixed(1)}m-3 0h6M${(x - 3).toFixed(1)} ${above.toFixed(1)}h6`, class: `give ${look(node)}` }));
    marks.push(shape('path', { d: shapes[how], transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, class: `look ${how.replace(' ', '-')} ${look(node)}` }));
  }
  for (const [t, node] of gaps) {
    const x = toX(t);
    if (x > -5 && x < view.width + 5) marks.push(shape('path', { d: `M${x.toFixed(1)} ${height - 9}l5 9h-10zv-14`, class: `gap ${look(node)}` }));
  }
  svg.replaceChildren(...nodes, ...marks);
}

function drawClockLine(line) { // what is out of view only as far as the line comes in from there
  const time = (k) => run.clocks.readings[line[k]][0];
  const first = Math.max(lowerBound(line.length, time, view.from) - 1, 0), end = Math.min(lowerBound(line.length, time, view.to) + 1, line.length);
  let d = '', [, node] = run.clocks.readings[line[0]];
  for (let k = first; k < end; k++) {
    const [t, , offset] = run.clocks.readings[line[k]];
    d += `${d ? 'L' : 'M'}${clamp(toX(t), -1e5, 1e5).toFixed(1)} ${clockY(offset).toFixed(1)}`;
  }
  return shape('path', { d, class: `clockline ${look(node)}` });
}

function clockAt(x, y) { // the reading or gap nearest to a point of the plot, in words
  let best = 64, found = null;
  const { nodes, readings, gaps, hows } = run.clocks;
  for (let k = readingAt(toTime(x - 9)); k < readings.length && readings[k][0] <= toTime(x + 9); k++) {
    const [t, node, offset, error, how, pid] = readings[k], distance = (toX(t) - x) ** 2 + (clockY(offset) - y) ** 2;
    if (distance < best) {
      best = distance;
      found = [['clock of', nodes[node]], ['at', seconds(t, 6)], ['offset', offsetText(offset, error)], [how, hows[how]], pid !== null && ['process id', String(pid)]];
    }
  }
  for (const [t, node, words] of gaps) {
    const distance = (toX(t) - x) ** 2 + Math.max(clocks.height - 9 - y, 0) ** 2;
    if (distance < best) { best = distance; found = [['clock of', nodes[node]], ['at', seconds(t, 6)], ['the true time was read', words]]; }
  }
  return found;
}
