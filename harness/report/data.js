// The history: columns out of byte planes, texts out of their tables. `columns.py` says how they are packed.
const OK = 0, FAIL = 1, INFO = 2;
const RANK = [2, 1, 3], ANOMALY = 4; // by outcome: the worst wins a pixel, and a plain failure (it did not happen) ranks below ok
let run;
const ops = {};

function bytesOf(text) { // of base64
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

async function inflate(id, text = $(id).textContent) {
  const { readable, writable } = new DecompressionStream('deflate'), pen = writable.getWriter();
  pen.write(bytesOf(text)).catch(() => {}); // what is wrong is told where it is read
  pen.close().catch(() => {});
  return new Uint8Array(await new Response(readable).arrayBuffer());
}

const unzigzag = (z) => (z < 2 ** 32 ? (z >>> 1) ^ -(z & 1) : z % 2 ? -(z + 1) / 2 : z / 2);

function column(block, at, n, width) { // out of its byte planes, the lowest first
  if (width < 2) return block.subarray(at, at + n);
  const found = new (width < 3 ? Uint16Array : width < 5 ? Uint32Array : Float64Array)(n);
  for (let plane = 0, scale = 1; plane < width; plane++, scale *= 256, at += n) for (let i = 0; i < n; i++) found[i] += block[at + i] * scale;
  return found;
}

async function readRun() {
  const [drawing, block] = await Promise.all([inflate('drawing'), inflate('columns')]);
  run = JSON.parse(new TextDecoder().decode(drawing));
  let last = 0, at = 0;
  run.values = run.values.map((shown) => (typeof shown === 'number' ? (last += shown) : shown));
  for (const [name, width] of run.layout) {
    ops[name] = column(block, at, run.count, width);
    at += width * run.count;
  }
  decode(run.count);
  if (run.bins) await readBins(run.bins);
}

async function readBins(bins) { // what stands for the operations that are only counted
  const worst = await inflate(null, bins.lanes), n = bins.counts[0].length;
  bins.n = n;
  bins.worst = Array.from({ length: run.lanes }, (_, lane) => worst.subarray(lane * n, (lane + 1) * n));
}
// Whether the view shows operations that are only counted: then the charts draw the counts. Those tell no key.
const coarse = () => Boolean(run.bins) && view.key < 0 && !run.exact.some(([a, b]) => a <= view.from && view.to <= b);
const binAt = (t) => clamp(Math.floor((t - run.bins.from) / run.bins.width), 0, run.bins.n - 1);

function decode(n) { // differences become numbers; each lane has its own operations side by side, for its drawing to run along them
  const { lasted: took, lane, key, type } = ops, { start: later, index: further, process: other, node: elsewhere, value: asked, result: got } = ops;
  const start = new Float64Array(n), end = new Float64Array(n), decades = new Float32Array(n), rank = new Uint8Array(n);
  const index = new Float64Array(n), process = new Float64Array(n), node = new Int32Array(n), value = new Int32Array(n), result = new Int32Array(n);
  const lastProcess = new Float64Array(run.lanes), lastNode = new Int32Array(run.lanes), near = new Int32Array(run.keys.length), sizes = new Uint32Array(run.lanes), trouble = [];
  for (let i = 0, clock = 0, number = 0; i < n; i++) {
    const l = lane[i], k = key[i], t = took[i];
    clock += unzigzag(later[i]);
    start[i] = clock / 1e6;
    index[i] = number += unzigzag(further[i]);
    process[i] = lastProcess[l] += unzigzag(other[i]);
    node[i] = lastNode[l] += unzigzag(elsewhere[i]);
    end[i] = t ? (clock + t - 1) / 1e6 : NaN; // NaN: nobody knows
    decades[i] = t ? Math.log10(Math.max(t - 1, 1)) - 6 : NaN; // of the latency in seconds
    if (asked[i]) near[k] = value[i] = near[k] + unzigzag(asked[i] - 1);
    if (got[i]) near[k] = result[i] = got[i] === 1 ? value[i] : near[k] + unzigzag(got[i] - 2);
    rank[i] = RANK[type[i]];
    sizes[l]++;
  }
  for (const [row] of run.flags) rank[row] = ANOMALY;
  const members = Array.from(sizes, (size) => new Uint32Array(size)), shownEnd = Float64Array.from(end);
  for (let i = n - 1; i >= 0; i--) { // backwards: what comes next in a lane is there already
    const list = members[lane[i]], k = --sizes[lane[i]];
    list[k] = i;
    if (rank[i] !== RANK[OK]) trouble.push(i);
    if (took[i]) continue;
    const next = k + 1 < list.length ? start[list[k + 1]] : run.to; // an unknown outcome is drawn to where its lane goes on;
    shownEnd[i] = run.bins ? Math.min(next, start[i] + run.bins.width) : next; // of a lane whose operations are not all here nobody knows where
  }
  Object.assign(ops, { n, start, end, shownEnd, decades, rank, index, process, node, value, result, members, trouble: trouble.reverse() });
}

const valueText = (f, shown) => (shown === null ? 'nil' : Array.isArray(shown) ? (f === 'cas' || f === 'rmw' ? shown.join('→') : `[${shown.join(', ')}]`) : String(shown));

function argument(i) { // as text.py's `argument`
  const f = run.fs[ops.f[i]], value = ops.value[i], result = ops.result[i], text = (code) => valueText(f, run.values[code]);
  if (ops.type[i] !== OK || !result) return !value && ops.type[i] !== OK && run.reads.includes(f) ? '?' : text(value);
  return !value || value === result || run.wholes.includes(f) ? text(result) : `${text(value)} ⇒ ${text(result)}`;
}
const label = (i) => `${run.fs[ops.f[i]]} ${argument(i)}`;
const keyName = (i) => run.keys[ops.key[i]];
const nodeName = (i) => run.nodes[ops.node[i]];
const errorText = (i) => run.errors[ops.error[i]] || '';
const outcome = (i) => (ops.rank[i] === ANOMALY ? 'anomaly' : run.types[ops.type[i]]);
const hidden = (i) => view.key >= 0 && ops.key[i] !== view.key;
function countShown(first, last) {
  if (view.key < 0) return last - first;
  let n = 0;
  for (let i = first; i < last; i++) if (!hidden(i)) n++;
  return n;
}
const firstAt = (t) => lowerBound(ops.n, (i) => ops.start[i], t);
const inForce = (fault, t) => fault.start !== null && fault.start <= t && (fault.end === null || t <= fault.end);
