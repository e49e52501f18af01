// Latency and rate on the same axis, and the whole run above all.
const BUCKETS = 160, UNKNOWN = 16; // buckets of the latency histogram; height of the strip of unknown outcomes
let latencySheet, rateSheet, mapSheet, pixels = null, LOW = -4, HIGH = 1;
const latencyY = (decades) => UNKNOWN + (HIGH - clamp(decades, LOW, HIGH)) / (HIGH - LOW) * (latencySheet.height - UNKNOWN - 3);

function layLatency() { // whole decades that hold every latency
  const { n, decades } = ops;
  let low = Infinity, high = -Infinity;
  for (let i = 0; i < n; i++) { const d = decades[i]; if (d < low) low = d; if (d > high) high = d; }
  if (run.bins) for (const t of run.bins.quantiles.flat()) if (t >= 0) { const d = Math.log10(Math.max(t, 1)) - 6; low = Math.min(low, d); high = Math.max(high, d); }
  if (low <= high) { LOW = Math.max(Math.floor(low + 1e-6), -6); HIGH = Math.max(Math.ceil(high), LOW + 2); }
  const bucket = ops.bucket = new Uint8Array(n), scale = BUCKETS / (HIGH - LOW);
  for (let i = 0; i < n; i++) bucket[i] = clamp((decades[i] - LOW) * scale | 0, 0, BUCKETS - 1);
}

function scaleNames(id, names) {
  const key = names.map((pair) => pair.join()).join();
  if ($(id).dataset.shown === key) return;
  $(id).dataset.shown = key;
  $(id).replaceChildren(...names.map(([top, text]) => {
    const node = make('div', { class: 'name scale' }, text);
    node.style.setProperty('top', `${top}px`);
    return node;
  }));
}

function drawLatency() {
  const s = latencySheet, { pen } = s, first = firstAt(view.from), last = firstAt(view.to), names = [[2, 'unknown']];
  s.clear();
  const shown = countShown(first, last), marks = drawDots(s, first, last, shown);
  pen.globalCompositeOperation = 'destination-over';
  paintTints(s);
  pen.globalCompositeOperation = 'source-over';
  for (let d = LOW; d <= HIGH; d++) {
    paint(pen, theme.line, 0, latencyY(d), view.width, 0.5);
    names.push([clamp(latencyY(d) - 7, 0, s.height - 14), d >= 0 ? `${10 ** d} s` : d >= -3 ? `${10 ** (d + 3)} ms` : `${10 ** (d + 6)} µs`]);
  }
  if (coarse()) drawCountedLatency(pen); else drawQuantiles(pen, first, last, shown);
  drawMarks(pen, marks);
  scaleNames('latency-names', names.filter(([top], k) => k < 1 || top > 15));
}

function drawDots({ pen, canvas, height }, first, last, shown) { // straight into pixels; returns what deserves a shape of its own
  const { start, decades, rank, type } = ops, W = canvas.width, H = canvas.height, marks = [];
  if (pixels?.width !== W || pixels.height !== H) pixels = new ImageData(W, H);
  const grid = new Uint32Array(pixels.data.buffer).fill(0), across = W / (view.to - view.from), ratio = H / height;
  const [dot, ink] = shown > 30000 ? [1, 90] : shown > 3000 ? [2, 130] : shown > 400 ? [3, 190] : [4, 200], size = Math.round(dot * ratio);
  if (ops.yFor !== H) { // a row of pixels for each operation, once per size
    const y = ops.y = new Int16Array(ops.n), top = latencyY(HIGH) * ratio, unit = (latencyY(LOW) * ratio - top) / (HIGH - LOW);
    for (let i = 0; i < y.length; i++) y[i] = top + clamp(HIGH - decades[i], 0, HIGH - LOW) * unit;
    ops.yFor = H;
  }
  const { y: heights } = ops, { from, key } = view, good = theme['ok-pixel'], bad = theme['fail-pixel'];
  for (let i = first; i < last; i++) {
    if (key >= 0 && hidden(i)) continue;
    if (rank[i] > RANK[OK] || (type[i] === FAIL && shown < 1500)) { marks.push(i); continue; }
    const x = (start[i] - from) * across | 0, y = heights[i], color = type[i] === OK ? good : bad;
    for (let dy = 0; dy < size; dy++) for (let dx = 0; dx < size && x + dx < W; dx++) { // overlapping points grow opaque
      const at = (y + dy) * W + x + dx;
      grid[at] = (color | (Math.min((grid[at] >>> 24) + ink, 235) << 24)) >>> 0;
    }
  }
  pen.putImageData(pixels, 0, 0);
  return marks;
}

function drawQuantiles(pen, first, last, shown) { // from a histogram of the logarithm per column
  const step = clamp(view.width * 40 / Math.max(shown, 1), 8, view.width / 8), bins = Math.ceil(view.width / step), scale = view.width / (view.to - view.from) / step;
  const totals = new Uint32Array(bins), histogram = new Uint32Array(bins * BUCKETS);
  const { start, type, bucket: buckets } = ops, { from, key } = view;
  for (let i = first; i < last; i++) {
    if (type[i] !== OK || (key >= 0 && hidden(i))) continue;
    const bin = Math.min((start[i] - from) * scale | 0, bins - 1);
    histogram[bin * BUCKETS + buckets[i]]++;
    totals[bin]++;
  }
  for (const [share, enough, dash, width] of [[0.5, 3, [], 1.8], [0.95, 10, [6, 3], 1.3]]) {
    const line = new Path2D();
    for (let bin = 0, open = false; bin < bins; bin++) {
      if (totals[bin] < enough) { open = false; continue; }
      let bucket = 0, seen = histogram[bin * BUCKETS];
      while (seen < share * totals[bin]) seen += histogram[bin * BUCKETS + ++bucket];
      line[open ? 'lineTo' : 'moveTo']((bin + 0.5) * step, latencyY(LOW + (bucket + 0.5) / BUCKETS * (HIGH - LOW)));
      open = true;
    }
    pen.strokeStyle = theme.ink;
    pen.lineWidth = width;
    pen.setLineDash(dash);
    pen.stroke(line);
  }
  pen.setLineDash([]);
}

function drawCountedLatency(pen) { // of operations that are only counted: a bar from the median to the slowest, lines as ever
  const { bins } = run, from = binAt(view.from), to = binAt(view.to), width = bins.width / (view.to - view.from) * view.width;
  const lines = [[0, [], 1.8], [1, [6, 3], 1.3]].map(([q, dash, weight]) => ({ q, dash, weight, path: new Path2D(), open: false }));
  const each = Math.max(Math.round(3 / width), 1), height = (t) => latencyY(Math.log10(Math.max(t, 1)) - 6);
  for (let k = from; k <= to; k += each) { // stretches narrower than 3 pixels are put together: the largest of each
    const worst = bins.quantiles.map((column) => { let top = -1; for (let j = k; j < Math.min(k + each, to + 1); j++) if (column[j] > top) top = column[j]; return top; });
    if (worst[3] < 0) { for (const line of lines) line.open = false; continue; }
    const x = toX(bins.from + k * bins.width);
    paint(pen, theme.ok, x, height(worst[3]), Math.max(width * each - 0.5, 1), height(worst[0]) - height(worst[3]) + 1, 0.3);
    for (const line of lines) { line.path[line.open ? 'lineTo' : 'moveTo'](x + width * each / 2, height(worst[line.q])); line.open = true; }
  }
  pen.strokeStyle = theme.ink;
  for (const { path, dash, weight } of lines) { pen.setLineDash(dash); pen.lineWidth = weight; pen.stroke(path); }
  pen.setLineDash([]);
}

function drawMarks(pen, marks) { // × failed, △ unknown, ◆ anomaly
  const cross = new Path2D(), triangle = new Path2D(), diamond = new Path2D();
  for (const i of marks) {
    const x = toX(ops.start[i]), y = Number.isNaN(ops.decades[i]) ? UNKNOWN / 2 : latencyY(ops.decades[i]), kind = outcome(i);
    if (kind === 'fail') { cross.moveTo(x - 3, y - 3); cross.lineTo(x + 3, y + 3); cross.moveTo(x + 3, y - 3); cross.lineTo(x - 3, y + 3); }
    if (kind === 'info') { triangle.moveTo(x, y - 4.5); triangle.lineTo(x + 4, y + 3); triangle.lineTo(x - 4, y + 3); triangle.closePath(); }
    if (kind === 'anomaly') { diamond.moveTo(x, y - 7); diamond.lineTo(x + 7, y); diamond.lineTo(x, y + 7); diamond.lineTo(x - 7, y); diamond.closePath(); }
  }
  pen.lineWidth = 1.3;
  pen.strokeStyle = theme.fail; pen.stroke(cross);
  pen.strokeStyle = theme.info; pen.stroke(triangle);
  pen.fillStyle = theme.anomaly; pen.fill(diamond);
}

function countBins(add) { // each stretch in view: outcome, its middle, how many
  const { bins } = run;
  for (let k = binAt(view.from); k <= binAt(view.to); k++) bins.counts.forEach((column, kind) => { if (column[k]) add(kind, bins.from + (k + 0.5) * bins.width, column[k]); });
}

function drawRate() {
  const s = rateSheet, first = firstAt(view.from), last = firstAt(view.to), step = coarse() ? Math.max(6, Math.ceil(run.bins.width / (view.to - view.from) * view.width)) : Math.round(clamp(view.width * 8 / Math.max(countShown(first, last), 1), 6, 40));
  const bins = Math.ceil(view.width / step), scale = view.width / (view.to - view.from) / step, tally = [OK, FAIL, INFO].map(() => new Uint32Array(bins));
  if (coarse()) countBins((k, t, n) => { tally[k][clamp((t - view.from) * scale | 0, 0, bins - 1)] += n; });
  else {
    const { start, type } = ops, { from, key } = view;
    for (let i = first; i < last; i++) if (key < 0 || !hidden(i)) tally[type[i]][Math.min((start[i] - from) * scale | 0, bins - 1)]++;
  }
  let top = 0;
  for (let k = 0; k < bins; k++) top = Math.max(top, tally[0][k] + tally[1][k] + tally[2][k]);
  s.clear();
  paintTints(s);
  const unit = (s.height - 4) / Math.max(top, 1), base = new Float64Array(bins);
  tally.forEach((bars, kind) => {
    const color = [theme.ok, theme['fail-soft'], theme.info][kind];
    for (let k = 0; k < bins; k++) {
      if (bars[k]) paint(s.pen, color, k * step, s.height - (base[k] + bars[k]) * unit, step - 1, bars[k] * unit);
      base[k] += bars[k];
    }
  });
  const rate = top * scale;
  scaleNames('rate-names', [[0, top ? `${rate >= 10 ? grouped(Math.round(rate)) : Number(rate.toPrecision(2))}/s` : ''], [s.height - 14, '0']]);
  const inView = tally.reduce((sum, column) => sum + column.reduce((a, b) => a + b, 0), 0), of = view.key < 0 ? '' : `, those of key ${run.keys[view.key]}${run.bins ? ' that are not only counted' : ''},`;
  $('rate-says').textContent = `operations invoked per second, by outcome, ${lasted(1 / scale)} a bar; ${grouped(inView)} of ${grouped(run.total)} operations${of} in view`;
}

const mapX = (t) => (t - whole.from) / (whole.to - whole.from) * view.width;

function drawMap() { // once per size: zooming only moves the brush
  const s = mapSheet, { pen } = s, bins = Math.ceil(view.width / 2), tally = new Uint32Array(bins), unknown = new Uint8Array(bins);
  s.clear();
  for (const fault of run.faults) {
    if (fault.start === null) continue;
    const a = mapX(fault.start), width = Math.max(mapX(fault.end ?? whole.to) - a, 2);
    paint(pen, theme[fault.family], a, 0, width, s.height, 0.16);
    paint(pen, theme[fault.family], a, 0, width, 3);
  }
  if (run.bins && view.key < 0) {
    run.bins.counts.forEach((column, kind) => column.forEach((count, j) => {
      const k = mapX(run.bins.from + (j + 0.5) * run.bins.width) / 2 | 0;
      tally[k] += count;
      if (count && kind === INFO) unknown[k] = 1;
    }));
  } else {
    const { n, start, type } = ops, { from } = whole, scale = mapX(whole.to) / (whole.to - from) / 2, { key } = view;
    for (let i = 0; i < n; i++) if (key < 0 || !hidden(i)) { const k = (start[i] - from) * scale | 0; tally[k]++; if (type[i] === INFO) unknown[k] = 1; }
  }
  const top = tally.reduce((a, b) => Math.max(a, b), 1);
  tally.forEach((n, k) => { if (n) paint(pen, theme.ok, k * 2, s.height - n / top * (s.height - 8), 2, n / top * (s.height - 8)); });
  unknown.forEach((is, k) => { if (is) paint(pen, theme.info, k * 2, s.height - 6, 2, 6); });
  for (const [row] of run.flags) {
    const x = mapX(ops.start[row]);
    paint(pen, theme.anomaly, x - 1, 0, 2, s.height);
    pen.fill(new Path2D(`M${x} 0l6 6l-6 6l-6 -6z`));
  }
}
