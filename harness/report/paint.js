// Painting: colours of the theme, textures so that nothing rests on colour, one canvas per chart.
const FAMILIES = ['partition', 'link', 'pause', 'clock', 'kill', 'resource', 'own'];
const TEXTURES = {
  partition: 'M0 8L8 0M-2 2L2 -2M6 10L10 6', link: 'M2 2h1M6 6h1', pause: 'M2 0V8M6 0V8', clock: 'M0 2H8M0 6H8', kill: 'M0 0L8 8M0 8L8 0', resource: 'M4 0V8M1 4h6', own: 'M1 5h4',
  info: 'M0 0L8 8M-2 6L2 10M6 -2L10 2',
};
const FONT = '11.5px ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace', CHARACTER = 7;
const theme = {};

function readTheme() {
  const css = getComputedStyle(document.documentElement), probe = make('canvas', { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true });
  for (const name of ['ink', 'dim', 'line', 'panel', 'sunk', 'ok', 'ok-soft', 'fail', 'fail-soft', 'info', 'info-soft', 'anomaly', ...FAMILIES]) theme[name] = css.getPropertyValue(`--${name}`).trim();
  for (const name of ['ok', 'fail']) { // the same as pixels, for the scatter
    probe.fillStyle = theme[name];
    probe.fillRect(0, 0, 1, 1);
    const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
    theme[`${name}-pixel`] = (b << 16) | (g << 8) | r;
  }
  for (const [name, path] of Object.entries(TEXTURES)) {
    const tile = make('canvas', { width: 8, height: 8 }), pen = tile.getContext('2d');
    pen.strokeStyle = theme[name];
    pen.globalAlpha = name === 'info' ? 0.9 : 0.5;
    pen.lineWidth = name === 'info' ? 1.6 : 1;
    pen.stroke(new Path2D(path));
    theme[`${name}-texture`] = tile;
  }
}

function sheet(id) { // a canvas that fills its plot
  const host = $(id), canvas = host.querySelector('canvas'), pen = canvas.getContext('2d');
  return {
    host, canvas, pen, height: 0,
    fit(height) {
      const ratio = Math.min(devicePixelRatio || 1, 2);
      this.height = height;
      canvas.width = Math.round(view.width * ratio);
      canvas.height = Math.round(this.height * ratio);
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.font = FONT;
      pen.textBaseline = 'middle';
      this.textures = Object.fromEntries(Object.keys(TEXTURES).map((name) => [name, pen.createPattern(theme[`${name}-texture`], 'repeat')]));
    },
    clear() { pen.clearRect(0, 0, view.width, this.height); },
  };
}

function paint(pen, color, x, y, width, height, alpha = 1) {
  const left = Math.max(x, -4), right = Math.min(x + width, view.width + 4);
  if (right <= left) return;
  pen.globalAlpha = alpha;
  pen.fillStyle = color;
  pen.fillRect(left, y, right - left, height);
  pen.globalAlpha = 1;
}

function write(pen, text, x, y, room, color = theme.ink) { // cut with an ellipsis where it does not fit
  const fits = Math.floor(room / CHARACTER);
  if (fits < 3) return;
  pen.fillStyle = color;
  pen.fillText(text.length > fits ? `${text.slice(0, fits - 1)}…` : text, x, y);
}

function slide(node, x, width) {
  node.style.setProperty('transform', `translate(${x.toFixed(1)}px, 0)`);
  if (width !== undefined) node.style.setProperty('width', `${width.toFixed(1)}px`);
}

function paintTints(s) { // the faults in force, behind every chart
  for (const fault of run.faults) {
    if (fault.start === null) continue;
    const a = toX(fault.start), b = Math.max(toX(fault.end ?? whole.to), a + 1);
    if (b < 0 || a > view.width) continue;
    paint(s.pen, theme[fault.family], a, 0, b - a, s.height, 0.09);
    paint(s.pen, theme[fault.family], a, 0, 1, s.height, 0.35);
    if (fault.end !== null) paint(s.pen, theme[fault.family], b - 1, 0, 1, s.height, 0.35);
  }
}
