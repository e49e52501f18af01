// The history: columns out of byte planes, texts out of their tables. `columns.py` says how they are packed.
const OK = 0, FAIL = 1, INFO = 2;
const RANK = [2, 1, 3], ANOMALY = 4; // by outcome: the worst wins a pixel, and a plain failure (it did not happen) ranks below ok
let run;
const ops = {};

async function inflate(id, text = $(id).textContent) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const unzigzag = (z) => (z % 2 ? -(z + 1) / 2 : z / 2);

async function readRun() {
  run = JSON.parse(new TextDecoder().decode(await inflate('drawing')));
  let last = 0;
  run.values = run.values.map((shown) => (typeof shown === 'number' ? (last += shown) : shown));
  const n = run.count, block = n ? await inflate('columns') : [];
  let at = 0;
  for (const [name, width] of run.layout) {
    const column = new Float64Array(n);
    for (let plane = 0, scale = 1; plane < width; plane++, scale *= 256, at += n) for (let i = 0; i < n; i++) column[i] += block[at + i] * scale;
    ops[name] = column;
  }
  decode(n);
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

function decode(n) {
  const { start, lasted: took, index, lane, process, node, key, value, result, type } = ops;
  const end = new Float64Array(n), decades = new Float32Array(n), rank = new Uint8Array(n);
  const members = Array.from({ length: run.lanes }, () => []), lastProcess = members.map(() => 0), lastNode = members.map(() => 0), near = run.keys.map(() => 0);
  for (let i = 0, clock = 0, number = 0; i < n; i++) {
    const l = lane[i], k = key[i];
    clock += unzigzag(start[i]);
    start[i] = clock / 1e6;
    index[i] = number += unzigzag(index[i]);
    process[i] = lastProcess[l] += unzigzag(process[i]);
    node[i] = lastNode[l] += unzigzag(node[i]);
    end[i] = took[i] ? (clock + took[i] - 1) / 1e6 : NaN; // NaN: nobody knows
    decades[i] = took[i] ? Math.log10(Math.max(took[i] - 1, 1)) - 6 : NaN; // of the latency in seconds
    if (value[i]) near[k] = value[i] = near[k] + unzigzag(value[i] - 1);
    if (result[i]) near[k] = result[i] = result[i] === 1 ? value[i] : near[k] + unzigzag(result[i] - 2);
    rank[i] = RANK[type[i]];
    members[l].push(i);
  }
  for (const [row] of run.flags) rank[row] = ANOMALY;
  members.forEach((list, lane) => { members[lane] = Uint32Array.from(list); });
  const shownEnd = Float64Array.from(end); // an unknown outcome is drawn to where its lane goes on
  for (const list of members) list.forEach((i, k) => {
    if (!Number.isNaN(end[i])) return;
    const next = k + 1 < list.length ? start[list[k + 1]] : run.to; // of a lane whose operations are not all here nobody knows the next
    shownEnd[i] = run.bins ? Math.min(next, start[i] + run.bins.width) : next;
  });
  const trouble = [];
  for (let i = 0; i < n; i++) if (rank[i] !== RANK[OK]) trouble.push(i);
  Object.assign(ops, { n, end, shownEnd, decades, rank, members, trouble });
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
