// The nodes' log lines on the time axis, and the ways between a mark and its line in the section of logs.
const LINES_TOLD = 4, LINE_TOLD = 240; // in a card
const WEDGE = new Path2D('M-4 0H4L0 7z'); // a line that tells of trouble

function layLogs() { // times in seconds; a line without one of its own is where the one before it is
  for (const log of run.logs) {
    let clock = 0, last = null;
    log.own = log.at.map((step) => step !== null);
    log.at = log.at.map((step) => (step === null ? last : (last = (clock += step) / 1e6)));
    log.loud = new Set(log.loud);
    $(log.id).addEventListener('toggle', () => fillLog(log), { once: true });
  }
}

const logText = (log) => (log.text ??= $(log.id).querySelector('pre').textContent.split('\n').map((line) => line.slice(log.lead)));

function drawLines({ pen }, { log, y }) { // from the top of a lane: the more lines on a pixel, the longer the mark
  if (!log) return;
  const counts = new Uint16Array(Math.ceil(view.width) + 1), wedges = new Set();
  log.at.forEach((t, k) => {
    const x = Math.round(toX(t));
    if (t === null || x < 0 || x > view.width) return;
    counts[x]++;
    if (log.loud.has(k)) wedges.add(x);
  });
  counts.forEach((n, x) => { if (n) paint(pen, theme.ink, x, y + 1, 1, 3 + Math.min(Math.log2(n), 5), 0.75); });
  pen.fillStyle = theme.ink;
  for (const x of wedges) {
    pen.translate(x + 0.5, y + 1);
    pen.fill(WEDGE);
    pen.translate(-x - 0.5, -y - 1);
  }
}

function linesNear(log, t, reach) { // the lines at a moment; null where there are none
  const lines = log ? log.at.flatMap((at, k) => (at !== null && Math.abs(at - t) <= reach ? [k] : [])) : [];
  return lines.length ? { log, lines } : null;
}

function describeLines({ log, lines }) {
  const text = logText(log), rest = lines.length - LINES_TOLD;
  return [['log of', log.node], ...lines.slice(0, LINES_TOLD).map((k) => [log.own[k] ? seconds(log.at[k]) : '', text[k].length > LINE_TOLD ? `${text[k].slice(0, LINE_TOLD)}…` : text[k]]), rest > 0 && ['', `and ${grouped(rest)} more`]];
}

function fillLog(log) { // its lines become places to go to, and their times links to the timeline
  const host = $(log.id).querySelector('pre'), text = logText(log);
  if (host.firstElementChild) return;
  const leads = host.textContent.split('\n').map((line) => line.slice(0, log.lead));
  host.replaceChildren(...text.flatMap((line, k) => {
    const t = log.at[k], moves = log.own[k] && t >= run.from && t <= run.to;
    const time = moves ? make('a', { tabindex: -1, href: `#t=${Math.max(t - 1, run.from).toFixed(6)}..${Math.min(t + 1, run.to).toFixed(6)}`, 'aria-label': `${leads[k].trim()}, show in the timeline`, click: (event) => { event.preventDefault(); visitTime(t); } }, leads[k]) : leads[k];
    return [make('span', { id: `${log.id}-${k}`, tabindex: -1, class: log.loud.has(k) && 'loud' }, time, line), k + 1 < text.length ? '\n' : ''];
  }));
  const times = [...host.querySelectorAll('a')];
  if (times.length) times[0].tabIndex = 0; // one stop for the Tab key, whatever the number of lines
  host.addEventListener('keydown', (event) => {
    const k = times.indexOf(document.activeElement), next = times[k + { ArrowDown: 1, ArrowUp: -1 }[event.key]];
    if (k < 0 || !next) return;
    event.preventDefault();
    [times[k].tabIndex, next.tabIndex] = [-1, 0];
    next.focus();
  });
}

function visitLine({ log, lines }) { // of several, the first that tells of trouble
  const k = lines.find((line) => log.loud.has(line)) ?? lines[0];
  $(log.id).open = true;
  fillLog(log);
  document.querySelector('.log .found')?.classList.remove('found');
  const line = $(`${log.id}-${k}`);
  line.classList.add('found');
  line.scrollIntoView({ block: 'center' });
  line.focus({ preventScroll: true });
}

function visitTime(t) { // a moment in the middle, as wide as it was but two seconds at most
  const half = Math.min((view.to - view.from) / 2, 1);
  $('timeline').scrollIntoView();
  $('stack').focus({ preventScroll: true });
  view.cursor = t;
  show(t - half, t + half);
}
