// The table of operations: every one can be reached, only the rows on screen exist.
const ROW = 24, HEADS = ['#', 'invoked', 'process', 'node', 'key', 'operation', 'outcome', 'lasted', 'error'];
const rows = { from: 0, to: 0, found: null, words: '', pool: [] };
const rowAt = (k) => (rows.found ? rows.found[rows.from + k] : rows.from + k);

function cells(i) {
  return [`#${ops.index[i]}`, seconds(ops.start[i], 6), String(ops.process[i]), nodeName(i) ?? '', keyName(i) ?? '', label(i) + (ops.final[i] ? ' (final)' : ''), outcome(i),
    Number.isNaN(ops.end[i]) ? 'unknown' : lasted(ops.end[i] - ops.start[i]), errorText(i)];
}

function find() { // of the chosen key; every word must be a cell, or part of the operation or the error
  rows.words = $('find').value.trim();
  const words = rows.words.split(/\s+/).filter(Boolean), found = [];
  const all = !words.length && view.key < 0;
  for (let i = 0; !all && i < ops.n; i++) {
    if (hidden(i)) continue;
    const row = words.length ? cells(i) : [];
    if (words.every((word) => row.some((cell, c) => (c === 5 || c === 8 ? cell.includes(word) : cell === word)))) found.push(i);
  }
  rows.found = all ? null : found;
  drawTable();
}

function drawTable() {
  const all = rows.found ? rows.found.length : ops.n, time = rows.found ? (k) => ops.start[rows.found[k]] : (k) => ops.start[k], limit = $('in-view').checked;
  rows.from = limit ? lowerBound(all, time, view.from) : 0;
  rows.to = limit ? lowerBound(all, time, view.to) : all;
  const n = rows.to - rows.from, of = rows.found ? ` that match, of ${grouped(ops.n)}` : '';
  const rest = run.total > ops.n ? `; ${grouped(run.total)} in the run, the others are only counted` : '';
  $('table-says').textContent = (n < all ? `${grouped(n)} in view of ${grouped(all)}${of}` : `${grouped(all)}${of}`) + rest;
  $('table-space').style.setProperty('height', `${n * ROW}px`);
  $('table-body').parentNode.setAttribute('aria-rowcount', n + 1);
  drawRows();
}

function drawRows() {
  const host = $('table-body'), first = Math.max(Math.floor(host.scrollTop / ROW) - 4, 0), visible = clamp(rows.to - rows.from - first, 0, Math.ceil(host.clientHeight / ROW) + 8);
  while (rows.pool.length < visible) rows.pool.push($('table-space').appendChild(make('div', { role: 'row' }, ...HEADS.map(() => make('span', { role: 'cell' })))));
  rows.pool.forEach((row, k) => {
    row.hidden = k >= visible;
    if (row.hidden) return;
    const i = rowAt(first + k);
    row.dataset.op = i;
    row.className = `${outcome(i)}${i === view.pin ? ' pinned' : ''}`;
    row.setAttribute('aria-rowindex', first + k + 2);
    row.style.setProperty('transform', `translate(0, ${(first + k) * ROW}px)`);
    cells(i).forEach((text, c) => { row.children[c].textContent = text; });
  });
}

function listenTable() {
  $('operations').hidden = !ops.n;
  if (ops.n < 15) $('table-body').style.setProperty('height', `${Math.max(ops.n, 3) * ROW}px`);
  $('table-head').append(make('div', { role: 'row' }, ...HEADS.map((name) => make('span', { role: 'columnheader' }, name))));
  $('table-body').addEventListener('scroll', drawRows, { passive: true });
  $('table-body').addEventListener('click', (event) => { const row = event.target.closest('[data-op]'); if (row) visit(Number(row.dataset.op)); });
  $('in-view').addEventListener('change', drawTable);
  $('find').addEventListener('input', find);
}
