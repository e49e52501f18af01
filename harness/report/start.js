// All together.
const PAPER = 880; // pixels of height that a printed page has for the charts
let settled = 0;

function drawAll() {
  cancelAnimationFrame(frame);
  frame = 0;
  if (!view.width) return;
  const began = performance.now(), a = mapX(view.from), b = mapX(view.to);
  drawAxis();
  drawLanes();
  drawLatency();
  drawRate();
  drawClocks();
  slide($('brush'), a, Math.max(b - a, 4));
  setCursor(view.cursor);
  clearTimeout(settled);
  settled = setTimeout(drawTable, 60); // the table follows when the picture has come to rest
  performance.measure('redraw', { start: began, end: performance.now() });
}

function resize() {
  const width = Math.floor($('lanes').clientWidth);
  if (!width) return;
  view.width = width;
  view.gutter = $('lanes').offsetLeft;
  $('lanes').style.setProperty('height', `${lanesSheet.total}px`);
  const sheets = [axisSheet, lanesSheet, latencySheet, rateSheet, mapSheet], heights = sheets.map((s) => s.host.clientHeight);
  sheets.forEach((s, k) => s.fit(heights[k])); // all were measured first: to change and measure in turn lays the page out each time
  drawMap();
  drawAll();
}

async function start() {
  await readRun();
  const span = run.to - run.from;
  Object.assign(whole, { from: nanoseconds(run.from - 0.01 * span), to: nanoseconds(run.to + 0.01 * span) });
  Object.assign(view, whole);
  readTheme();
  document.body.classList.add('drawn');
  [axisSheet, lanesSheet, latencySheet, rateSheet, mapSheet] = ['axis', 'lanes', 'latency', 'rate', 'map'].map(sheet);
  $('cursor').hidden = $('drag').hidden = true;
  layLogs();
  layLanes();
  layLatency();
  layClocks();
  listenStack();
  listenMap();
  listenKeys();
  listenChoice();
  listenCopy();
  listenTable();
  resize();
  drawTable();
  loadHash(location.hash);
  performance.mark('drawn');
  requestAnimationFrame(() => setTimeout(() => performance.mark('painted'), 0));
  new ResizeObserver(() => { if (Math.floor($('lanes').clientWidth) !== view.width) resize(); }).observe($('lanes'));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { readTheme(); resize(); });
  addEventListener('hashchange', (event) => loadHash(new URL(event.newURL).hash)); // by now `saveHash` may have written another
  const paper = (on) => {
    document.documentElement.classList.toggle('paper', on);
    $('stack').style.setProperty('zoom', on ? clamp(PAPER / $('stack').offsetHeight, 0.4, 1) : 1); // a picture over two pages is none
    readTheme();
    resize();
  };
  addEventListener('beforeprint', () => paper(true));
  addEventListener('afterprint', () => paper(false));
}

start();
