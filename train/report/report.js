'use strict';

const data = JSON.parse(document.getElementById('data').textContent);
const runs = data.runs;
const dashes = ['', '6 3', '2 3', '9 3 2 3'];
const numColors = 8;

// Elements.

function make(tag, attributes = {}, ...children) {
  const svg = ['svg', 'path', 'line', 'text', 'rect', 'circle', 'g', 'clipPath', 'defs'].includes(tag);
  const node = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (value !== false && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function color(i) { return `var(--c${i % numColors})`; }

// Numbers.

function short(value) {
  if (value === null || value === undefined || !isFinite(value)) return '–';
  const size = Math.abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-4)) return String(Number(value.toPrecision(3)).toExponential()).replace('e+', 'e');
  for (const [unit, name] of [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e4, 'k']]) {
    if (size >= unit) return trim((value / (name === 'k' ? 1e3 : unit)).toPrecision(4)) + name;
  }
  return Number.isInteger(value) ? String(value) : trim(value.toPrecision(5));
}

function finite(value) {
  return Math.max(-Number.MAX_VALUE, Math.min(Number.MAX_VALUE, value));
}

function trim(text) {
  return text.includes('.') && !text.includes('e') ? text.replace(/\.?0+$/, '') : text;
}

function count(value) { return Math.round(value).toLocaleString('en-US').replace(/,/g, '\u202f'); }

function bytes(value) {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; ++unit; }
  return (unit === 0 ? value : trim(value.toPrecision(3))) + ' ' + units[unit];
}

function duration(seconds) {
  if (seconds < 120) return trim(seconds.toPrecision(3)) + ' s';
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return minutes + ' min';
  const hours = Math.round(minutes / 60);
  return hours < 72 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function date(seconds) {
  return new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
}

// Data: the points of a curve, and the means of its parts where it was thinned out.

function sums(deltas) {
  let sum = 0;
  return deltas.map((delta) => (sum += delta));
}

for (const run of runs) {
  run.byName = {};
  for (const curve of run.curves) {
    curve.x = sums(curve.steps);
    curve.y = curve.values;
    curve.thinned = Boolean(curve.means);
    curve.meanX = curve.thinned ? sums(curve.mean_steps) : curve.x;
    curve.meanY = curve.thinned ? curve.means : curve.y;
    curve.counts = curve.thinned ? curve.counts : curve.x.map(() => 1);
    run.byName[curve.chart + '/' + curve.name] = curve;
  }
  run.clocks = { tokens: clock(run.byName['tokens/']), hours: clock(run.byName['seconds/'], 3600) };
}

// Labels leave out the folders that all runs are in.
const folders = runs.map((run) => run.name.split('/'));
while (folders.every((parts) => parts.length > 1 && parts[0] === folders[0][0])) folders.forEach((parts) => parts.shift());
runs.forEach((run, r) => { run.label = folders[r].join('/'); });

// A table from steps to what was reached after them.
function clock(curve, unit = 1) {
  const table = { x: [0], y: [0] };
  if (!curve) return table;
  let sum = 0;
  curve.meanX.forEach((step, i) => {
    const previous = table.x[table.x.length - 1];
    sum += (curve.meanY[i] || 0) * curve.counts[i] / unit;
    // The middle of a part stands half of its steps before its end.
    const end = curve.thinned ? Math.max(previous, step + (curve.counts[i] - 1) / 2) : step;
    table.x.push(end);
    table.y.push(sum);
  });
  return table;
}

function below(list, value) {  // the number of elements <= value
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] <= value) low = middle + 1; else high = middle;
  }
  return low;
}

function reached(run, step) {
  if (view.axis === 'steps') return step;
  const table = run.clocks[view.axis];
  const i = Math.min(below(table.x, step), table.x.length - 1);
  if (i === 0) return 0;
  const span = table.x[i] - table.x[i - 1];
  const part = span > 0 ? (step - table.x[i - 1]) / span : 1;
  return table.y[i - 1] + Math.min(1, part) * (table.y[i] - table.y[i - 1]);
}

// An average over the steps around each, whose weights fall by 1/e every `length` steps.
function smooth(xs, ys, counts, length) {
  const forwards = weigh(xs, ys, counts, length, 0, 1), backwards = weigh(xs, ys, counts, length, xs.length - 1, -1);
  return ys.map((y, i) => {
    const own = y === null ? 0 : counts[i];  // counted in both directions
    const weight = forwards.weights[i] + backwards.weights[i] - own;
    const mean = weight > 0 ? (forwards.sums[i] + backwards.sums[i] - own * y) / weight : NaN;
    return isFinite(mean) ? mean : null;
  });
}

function weigh(xs, ys, counts, length, begin, stride) {
  const sums = new Array(xs.length), weights = new Array(xs.length);
  let sum = 0, weight = 0;
  for (let i = begin; i >= 0 && i < xs.length; i += stride) {
    const decay = i === begin || length <= 0 ? 0 : Math.exp(-Math.abs(xs[i] - xs[i - stride]) / length);
    sum = sum * decay + (ys[i] === null ? 0 : ys[i] * counts[i]);
    weight = weight * decay + (ys[i] === null ? 0 : counts[i]);
    sums[i] = sum;
    weights[i] = weight;
  }
  return { sums, weights };
}

// What is shown: shared by all charts.

const view = { axis: 'steps', logX: false, smoothing: 30, from: null, to: null, hover: null };
const charts = [];

function fullRange() {
  let low = Infinity, high = -Infinity;
  for (const chart of charts) {
    for (const series of chart.series) {
      if (series.curve.x.length === 0) continue;
      low = Math.min(low, series.px[0]);
      high = Math.max(high, series.px[series.px.length - 1]);
    }
  }
  if (!(high > low)) high = low + 1;
  if (view.logX && low <= 0) low = high / 1e4;
  return [low, high];
}

function prepare(series) {
  const curve = series.curve, run = series.run;
  series.px = curve.x.map((step) => reached(run, step));
  series.mx = curve.thinned ? curve.meanX.map((step) => reached(run, step)) : series.px;
  const last = curve.x[curve.x.length - 1] || 1;
  const length = series.smooth ? last * Math.pow(view.smoothing / 100, 2) / 8 : 0;
  series.sy = series.smooth && (length > 0.3 || curve.thinned)
      ? smooth(curve.meanX, curve.meanY, curve.counts, length) : null;
}

function update() {
  for (const chart of charts) chart.series.forEach(prepare);
  draw();
}

function draw() { charts.forEach((chart) => chart.draw()); }

function setRange(from, to) {
  const [low, high] = fullRange();
  if (from !== null) {
    from = Math.max(low, from);
    to = Math.min(high, to);
    if (!(to - from > (high - low) * 1e-6)) return;
    if (from <= low && to >= high) from = to = null;
  }
  view.from = from;
  view.to = to;
  draw();
}

// Scales. A run that diverges has values of 1e308, whose differences and ratios are not finite.

function niceTicks(low, high, number) {
  const raw = high / number - low / number;
  const power = Math.pow(10, Math.floor(Math.log10(raw)));
  const step = [1, 2, 2.5, 5, 10].map((x) => x * power).find((x) => x >= raw * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= finite(high + step * 1e-9); ++i) ticks.push(i * step);
  return ticks.map((tick) => Number(tick.toPrecision(12)));
}

function logTicks(low, high, number) {
  const decades = Math.log10(high) - Math.log10(low);
  if (decades < 0.8) return niceTicks(low, high, number);
  const factors = decades < 2 ? [1, 2, 5] : [1];
  const stride = Math.max(1, Math.ceil(decades / number));
  const ticks = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); ++e) {
    if (e % stride !== 0) continue;
    for (const factor of factors) {
      const tick = Number((factor * Math.pow(10, e)).toPrecision(12));
      if (tick > 0 && tick >= low * 0.9999 && tick <= finite(high * 1.0001)) ticks.push(tick);
    }
  }
  return ticks;
}

function scale(low, high, from, to, log) {
  const f = log ? Math.log : (x) => x / 2;
  const a = f(low), b = f(high);
  const place = (value) => from + (f(value) - a) / (b - a) * (to - from);
  place.invert = (pixel) => {
    const value = a + (pixel - from) / (to - from) * (b - a);
    return log ? Math.exp(value) : 2 * value;
  };
  return place;
}

// A chart.

class Chart {
  constructor(title, unit, series, wide) {
    Object.assign(this, { series, wide, logY: false, hidden: new Set(), crowded: series.length > 2, id: charts.length });
    this.logButton = make('button', {
      'aria-pressed': 'false', title: 'logarithmic scale', onclick: () => {
        this.logY = !this.logY;
        this.logButton.setAttribute('aria-pressed', String(this.logY));
        this.draw();
      } }, 'log');
    this.svg = make('svg', { role: 'img', 'aria-label': title });
    this.tip = make('div', { class: 'tip', hidden: '' });
    this.plot = make('div', { class: 'plot', tabindex: '0' }, this.svg, this.tip);
    this.node = make('section', { class: 'card' + (wide ? ' wide' : '') },
        make('div', { class: 'head' }, make('h3', {}, title + ' ', make('span', { class: 'unit' }, unit)), this.logButton),
        this.legend(), this.plot);
    this.listen();
    charts.push(this);
  }

  legend() {
    if (this.series.length === 1 && runs.length === 1) return '';
    return make('div', { class: 'legend' }, ...this.series.map((series) => make('button', {
      title: 'show or hide', onclick: (event) => {
        const off = !this.hidden.delete(series);
        if (off) this.hidden.add(series);
        event.currentTarget.classList.toggle('off', off);
        this.draw();
      } }, sample(series), series.label)));
  }

  shown() { return this.series.filter((series) => !this.hidden.has(series) && series.px.length > 0); }

  range() {
    const full = fullRange();
    return view.from === null ? full : [view.from, view.to];
  }

  // The lowest and the highest value between two places.
  extent(from, to) {
    let low = Infinity, high = -Infinity;
    const take = (y) => {
      if (y === null || (this.logY && y <= 0)) return;
      if (y < low) low = y;
      if (y > high) high = y;
    };
    for (const series of this.shown()) {
      const begin = Math.max(0, below(series.px, from) - 1), end = Math.min(series.px.length, below(series.px, to) + 1);
      for (let i = begin; i < end; ++i) take(series.curve.y[i]);
    }
    if (low > high) return this.logY ? [0.1, 1] : [0, 1];
    if (this.logY) {
      const factor = low === high ? 2 : Math.exp((Math.log(high) - Math.log(low)) * 0.04);
      return [Math.max(Number.MIN_VALUE, low / factor), finite(high * factor)];
    }
    const margin = (high / 2 - low / 2 || Math.abs(high) / 2 || 0.5) * 0.1;
    return [low >= 0 && low - margin < 0 ? 0 : finite(low - margin), finite(high + margin)];
  }

  draw() {
    const width = this.plot.clientWidth || 600;
    const height = this.wide ? Math.max(230, Math.min(340, width * 0.45)) : 210;
    const [from, to] = this.range();
    const [low, high] = this.extent(from, to);
    const box = { left: 52, right: width - 10, top: 8, bottom: height - 24 };
    this.box = box;
    this.x = scale(from, to, box.left, box.right, view.logX);
    this.y = scale(low, high, box.bottom, box.top, this.logY);
    const clip = 'clip' + this.id;
    const area = make('rect', { x: box.left, y: box.top - 2, width: box.right - box.left + 4, height: box.bottom - box.top + 4 });
    const grid = make('g'), curves = make('g', { 'clip-path': `url(#${clip})` });
    const yTicks = (this.logY ? logTicks : niceTicks)(low, high, 5);
    for (const tick of yTicks) {
      const y = this.y(tick);
      grid.append(make('line', { class: 'grid', x1: box.left, x2: box.right, y1: y, y2: y }),
          make('text', { x: box.left - 8, y: y + 4, 'text-anchor': 'end' }, short(tick)));
    }
    const xTicks = (view.logX ? logTicks : niceTicks)(from, to, Math.max(4, Math.floor(width / 110)));
    for (const tick of xTicks) {
      grid.append(make('text', { x: this.x(tick), y: height - 7, 'text-anchor': 'middle' }, short(tick)));
    }
    grid.append(make('line', { class: 'axis', x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
    for (const series of this.shown()) this.drawSeries(curves, series, from, to);
    this.cross = make('line', { class: 'cross', y1: box.top, y2: box.bottom, visibility: 'hidden' });
    this.dots = make('g');
    this.pick = make('rect', { class: 'pick', y: box.top, height: box.bottom - box.top, visibility: 'hidden' });
    this.svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.svg.setAttribute('height', height);
    this.svg.replaceChildren(make('defs', {}, make('clipPath', { id: clip }, area)), grid, curves, this.pick, this.cross, this.dots);
    this.hover();
  }

  drawSeries(group, series, from, to) {
    const style = { stroke: series.color, 'stroke-dasharray': series.dash };
    const number = below(series.px, to) - below(series.px, from);
    if (series.sy !== null) {
      const crowded = this.crowded ? ' crowded' : '';
      group.append(number > 2 * (this.box.right - this.box.left)
          ? make('path', { class: 'band' + crowded, fill: series.color, d: this.band(series.px, series.curve.y, from, to) })
          : make('path', { class: 'raw' + crowded, stroke: series.color, d: this.path(series.px, series.curve.y, from, to) }));
      group.append(make('path', { class: 'curve', ...style, d: this.path(series.mx, series.sy, from, to) }));
    } else {
      group.append(make('path', { class: 'curve', ...style, d: this.path(series.px, series.curve.y, from, to) }));
    }
    if (!series.dots || series.px.length > 60) return;
    series.px.forEach((x, i) => {
      const y = series.curve.y[i];
      if (y === null || (this.logY && y <= 0) || x < from || x > to) return;
      group.append(make('circle', { cx: this.x(x), cy: this.y(y), r: 2.6, fill: series.color }));
    });
  }

  // The area from the lowest to the highest value of each pixel's width.
  band(xs, ys, from, to) {
    const parts = [];
    let columns = [];
    const finish = () => {
      if (columns.length === 0) return;
      columns.push({ ...columns[columns.length - 1], x: columns[columns.length - 1].x + 1 });
      const edge = (key) => columns.map((column) => column.x + ' ' + this.y(column[key]).toFixed(1));
      parts.push('M' + [...edge('high'), ...edge('low').reverse()].join('L') + 'Z');
      columns = [];
    };
    for (let i = Math.max(0, below(xs, from) - 2); i < Math.min(xs.length, below(xs, to) + 2); ++i) {
      const y = ys[i];
      if (y === null || (this.logY && y <= 0) || (view.logX && xs[i] <= 0)) { finish(); continue; }
      const x = Math.round(this.x(xs[i])), column = columns[columns.length - 1];
      if (!column || column.x !== x) columns.push({ x, low: y, high: y });
      else Object.assign(column, { low: Math.min(column.low, y), high: Math.max(column.high, y) });
    }
    finish();
    return parts.join('');
  }

  path(xs, ys, from, to) {
    const begin = Math.max(0, below(xs, from) - 2), end = Math.min(xs.length, below(xs, to) + 2);
    const parts = [];
    let pen = 'M';
    for (let i = begin; i < end; ++i) {
      const y = ys[i];
      if (y === null || (this.logY && y <= 0) || (view.logX && xs[i] <= 0)) { pen = 'M'; continue; }
      parts.push(pen + this.x(xs[i]).toFixed(1) + ' ' + this.y(y).toFixed(1));
      pen = 'L';
    }
    return parts.join('');
  }

  // The cross at view.hover, with the values nearest to it.
  hover() {
    const x = view.hover === null ? null : this.x(view.hover);
    const visible = x !== null && x >= this.box.left - 1 && x <= this.box.right + 1;
    this.tip.hidden = !(visible && view.over === this);
    this.dots.replaceChildren();
    this.cross.setAttribute('visibility', visible ? 'visible' : 'hidden');
    if (!visible) return;
    this.cross.setAttribute('x1', x);
    this.cross.setAttribute('x2', x);
    const rows = this.shown().map((series) => this.value(series)).filter(Boolean);
    for (const row of rows) {
      const y = this.y(row.y);
      if (y >= this.box.top - 2 && y <= this.box.bottom + 2) {
        this.dots.append(make('circle', { cx: this.x(row.x), cy: y, r: 3.5, fill: row.series.color, stroke: 'var(--card)' }));
      }
    }
    if (view.over === this) this.showTip(x, rows);
  }

  value(series) {
    const list = series.px;
    let i = below(list, view.hover);
    if (i === list.length || (i > 0 && view.hover - list[i - 1] <= list[i] - view.hover)) --i;
    let y = series.curve.y[i];
    if (y === null || (this.logY && y <= 0)) return null;
    const row = { series, x: list[i], y, step: series.curve.x[i], smoothed: null };
    if (series.sy !== null) {
      row.smoothed = series.sy[Math.max(0, below(series.mx, list[i]) - 1)];
    }
    return row;
  }

  showTip(x, rows) {
    const smoothed = rows.some((row) => row.smoothed !== null);
    const table = make('table', {}, ...rows.map((row) => make('tr', {},
        make('td', {}, make('i', { style: 'background:' + row.series.color }), row.series.label),
        make('td', {}, make('b', {}, precise(row.y))),
        ...(smoothed ? [make('td', { style: 'color:var(--soft)' }, row.smoothed === null ? '' : '~ ' + precise(row.smoothed))] : []),
        make('td', { style: 'color:var(--soft)' }, 'step ' + count(row.step)))));
    this.tip.replaceChildren(table);
    const width = this.tip.offsetWidth, room = this.plot.clientWidth;
    const left = x + 14 + width <= room ? x + 14 : Math.max(0, Math.min(x - 14 - width, room - width));
    this.tip.style.left = left + 'px';
    this.tip.style.top = (x + 14 + width > room && x - 14 - width < 0 ? this.box.bottom + 24 : this.box.top) + 'px';
  }

  listen() {
    let start = null;
    const place = (event) => {
      const box = this.plot.getBoundingClientRect();
      return Math.max(this.box.left, Math.min(this.box.right, event.clientX - box.left));
    };
    const hover = (value) => {
      view.hover = value;
      view.over = value === null ? null : this;
      charts.forEach((chart) => chart.hover());
    };
    this.plot.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      start = place(event);
      this.plot.setPointerCapture(event.pointerId);
    });
    this.plot.addEventListener('pointermove', (event) => {
      const now = place(event);
      hover(this.x.invert(now));
      const picking = start !== null && Math.abs(now - start) > 4;
      this.pick.setAttribute('visibility', picking ? 'visible' : 'hidden');
      if (!picking) return;
      this.pick.setAttribute('x', Math.min(start, now));
      this.pick.setAttribute('width', Math.abs(now - start));
    });
    this.plot.addEventListener('pointerup', (event) => {
      const now = place(event), from = start;
      start = null;
      this.pick.setAttribute('visibility', 'hidden');
      if (from !== null && Math.abs(now - from) > 4) {
        setRange(this.x.invert(Math.min(from, now)), this.x.invert(Math.max(from, now)));
      }
    });
    this.plot.addEventListener('pointercancel', () => { start = null; hover(null); });
    this.plot.addEventListener('pointerleave', () => { if (start === null) hover(null); });
    this.plot.addEventListener('dblclick', () => setRange(null, null));
    // Without a key the wheel scrolls the page, until a chart was clicked.
    this.plot.addEventListener('wheel', (event) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== this.plot) return;
      event.preventDefault();
      const factor = Math.exp(event.deltaY * 0.002), x = place(event);
      setRange(this.x.invert(x - (x - this.box.left) * factor), this.x.invert(x + (this.box.right - x) * factor));
    }, { passive: false });
    this.plot.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') setRange(null, null);
    });
  }
}

function precise(value) {
  const size = Math.abs(value);
  if (size >= 1e5) return short(value);
  return size > 0 && size < 1e-3 ? value.toExponential(4) : trim(value.toPrecision(6));
}

function sample(series) {
  return make('svg', { width: 20, height: 10 }, make('line', {
    x1: 0, x2: 20, y1: 5, y2: 5, stroke: series.color, 'stroke-width': 2.5, 'stroke-dasharray': series.dash }));
}

// What charts there are.

const kinds = [
  { id: 'loss', title: 'Loss', unit: 'nats per token, and its smoothed course', wide: true },
  { id: 'validation', title: 'Validation loss', unit: 'nats per token' },
  { id: 'sources', title: 'Training loss of sources', unit: 'nats per token' },
  { id: 'bits_per_byte', title: 'Validation', unit: 'bits per byte of text' },
  { id: 'tasks', title: 'Tasks', unit: 'part of answers that are right' },
  { id: 'lr', title: 'Learning rate', unit: '' },
  { id: 'grad_norm', title: 'Gradient norm', unit: 'before clipping' },
  { id: 'tokens_per_second', title: 'Speed', unit: 'tokens per second' },
  { id: 'mfu', title: 'Model FLOPs utilization', unit: 'part of the peak' },
];
const smoothed = new Set(['loss', 'sources', 'grad_norm', 'tokens_per_second', 'mfu']);

function seriesOf(kind) {
  const all = [], names = [];
  runs.forEach((run, r) => {
    for (const curve of run.curves) {
      if (curve.chart !== kind.id || curve.x.length === 0) continue;
      if (!names.includes(curve.name)) names.push(curve.name);
      const n = names.indexOf(curve.name), alone = runs.length === 1;
      const validates = curve.name.startsWith('validation');
      all.push({ run, curve, color: color(alone ? n : r), dash: dashes[alone ? Math.floor(n / numColors) % 4 : n % 4],
        label: alone ? curve.name || kind.title : curve.name ? `${run.label}, ${curve.name}` : run.label,
        smooth: smoothed.has(kind.id) && !validates,
        dots: ['validation', 'bits_per_byte', 'tasks'].includes(kind.id) || validates });
    }
  });
  return all;
}

function chartNodes() {
  return kinds.map((kind) => {
    const series = seriesOf(kind);
    return series.length > 0 ? new Chart(kind.title, kind.unit, series, kind.wide).node : '';
  });
}

// The page.

function theme(name) {
  document.documentElement.dataset.theme = name;
}

function lastTime(run) { return run.time === undefined ? '' : `last step on ${date(run.time)}`; }

function header() {
  const title = runs.length === 1 ? runs[0].name : `${runs.length} runs`;
  const sub = runs.length === 1
      ? [runs[0].model, runs[0].data, runs[0].machine, lastTime(runs[0])].filter(Boolean).join(' · ')
      : runs.map((run) => run.name).join(', ');
  return make('header', {}, make('div', {}, make('h1', {}, title), make('p', { class: 'sub' }, sub)),
      make('button', { title: 'light or dark', 'aria-label': 'light or dark', onclick: () => {
        theme(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark');
      } }, '◐'));
}

function lastOf(curve) {
  for (let i = curve ? curve.y.length - 1 : -1; i >= 0; --i) if (curve.y[i] !== null) return curve.y[i];
  return null;
}

function best(curve) {
  let at = -1;
  curve.y.forEach((y, i) => { if (y !== null && (at < 0 || y < curve.y[at])) at = i; });
  return at < 0 ? null : { value: curve.y[at], step: curve.x[at] };
}

// The smoothed loss at the end, which says more than that of the last batch.
function lossNow(run) {
  const curve = run.byName['loss/training'];
  if (!curve || curve.x.length === 0) return null;
  const values = smooth(curve.meanX, curve.meanY, curve.counts, curve.x[curve.x.length - 1] / 100);
  return values[values.length - 1];
}

function ofSteps(run) { return run.steps > 0 ? `, of ${count(run.steps)} steps` : ''; }

function summary(run) {
  const rows = [];
  const end = (table) => table.y[table.y.length - 1];
  const done = run.steps > 0 ? Math.min(1, run.step / run.steps) : 1;
  rows.push([run.state + ofSteps(run), count(run.step), done]);
  rows.push(['training loss, smoothed', short(lossNow(run))]);
  for (const curve of run.curves) {
    const lowest = curve.chart === 'loss' && curve.name === 'validation' || curve.chart === 'validation' ? best(curve) : null;
    if (lowest) rows.push([`lowest ${curve.chart === 'loss' ? 'validation loss' : 'loss of ' + curve.name}, step ${count(lowest.step)}`, short(lowest.value)]);
  }
  rows.push(['tokens', short(end(run.clocks.tokens))]);
  if (run.epoch !== undefined) rows.push(['epochs', short(run.epoch)]);
  const hours = end(run.clocks.hours);
  if (hours > 0) {
    rows.push(['time in steps', duration(hours * 3600)]);
    rows.push(['tokens per second, mean', short(end(run.clocks.tokens) / hours / 3600)]);
  }
  const mfu = lastOf(run.byName['mfu/']);
  if (mfu !== null) rows.push(['MFU', trim((100 * mfu).toPrecision(3)) + ' %']);
  return rows;
}

function tiles() {
  if (runs.length > 1) return overview();
  return make('div', { class: 'tiles' }, ...summary(runs[0]).map(([label, value, part]) =>
      make('div', { class: 'tile' }, make('b', {}, value), make('span', {}, label),
          part === undefined ? '' : make('div', { class: 'bar' }, make('i', { style: `width:${100 * part}%` })))));
}

// Runs side by side: their results, and what differs between their settings.
function overview() {
  const results = runs.map((run) => new Map(summary(run).map(([label, value], i) =>
      [i === 0 ? 'steps' : label.replace(/, step .*/, ''), i === 0 ? `${value} ${ofSteps(run).slice(2) || 'steps'}, ${run.state}` : value])));
  const labels = [...new Set(results.flatMap((map) => [...map.keys()]))];
  const rows = labels.map((label) => row(label, results.map((map) => map.get(label) || '–')));
  const differing = settings().filter(({ differs }) => differs).map(({ key, values }) => row(key, values, true));
  return make('section', { class: 'card scroll', style: 'margin-top:20px' }, make('table', { class: 'facts' },
      heading('What differs'), ...(differing.length > 0 ? differing : [row('settings', ['the same'])]),
      heading('Results'), ...rows));
}

function heading(text) {
  return make('tr', {}, make('th', {}, text), ...runs.map((run, r) => make('th', {},
      make('span', { class: 'swatch', style: 'background:' + color(r) }), run.label)));
}

function row(label, values, differs) {
  return make('tr', { class: differs ? 'differs' : '' }, make('td', {}, label), ...values.map((value) => make('td', {}, value)));
}

function flatten(json, prefix, map) {
  for (const [key, value] of Object.entries(json || {})) {
    if (value !== null && typeof value === 'object' && !Array.isArray(value)) flatten(value, prefix + key + '.', map);
    else map.set(prefix + key, value === '' ? '' : typeof value === 'string' ? value : JSON.stringify(value));
  }
  return map;
}

function settings() {
  const maps = runs.map((run) => flatten(run.config, '', new Map()));
  const keys = [...new Set(maps.flatMap((map) => [...map.keys()]))];
  return keys.map((key) => {
    const values = maps.map((map) => map.has(key) ? map.get(key) || '(empty)' : '–');
    return { key, values, differs: key !== 'out' && values.some((value) => value !== values[0]) };
  });
}

function toolbar() {
  const axis = make('select', { 'aria-label': 'horizontal axis', onchange: (event) => {
    view.axis = event.target.value;
    view.from = view.to = view.hover = null;
    update();
  } }, make('option', { value: 'steps' }, 'steps'), make('option', { value: 'tokens' }, 'tokens'), make('option', { value: 'hours' }, 'hours of training'));
  const log = make('button', { 'aria-pressed': 'false', onclick: () => {
    view.logX = !view.logX;
    log.setAttribute('aria-pressed', String(view.logX));
    setRange(null, null);
  } }, 'log');
  const smoothing = make('input', { type: 'range', min: 0, max: 100, value: view.smoothing, oninput: (event) => {
    view.smoothing = Number(event.target.value);
    update();
  } });
  return make('div', { class: 'tools' }, make('label', {}, 'across', axis), log, make('label', {}, 'smoothing', smoothing),
      make('button', { onclick: () => setRange(null, null) }, 'whole run'),
      make('span', {}, 'Drag to zoom, Ctrl and the wheel (or the wheel after a click) too; a double click shows all.'));
}

function section(title, ...nodes) {
  const filled = nodes.filter(Boolean);
  return filled.length > 0 ? [make('h2', {}, title), ...filled] : [];
}

function named(run, r) {
  return runs.length === 1 ? '' : make('h3', { style: 'margin-bottom:8px' }, make('span', { class: 'swatch', style: 'background:' + color(r) }), run.label);
}

// Samples as they developed: one at a time, by a slider.
function samplesOf(run, r) {
  if (!run.samples || run.samples.length === 0) return null;
  const step = make('span', { class: 'unit' }), text = make('p', { class: 'sample' });
  const show = (i) => {
    const one = run.samples[i];
    step.textContent = `after step ${count(one.step)}`;
    text.replaceChildren(make('u', {}, one.prompt), one.continuation);
  };
  const last = run.samples.length - 1;
  show(last);
  const slider = make('input', { type: 'range', min: 0, max: last, value: last, 'aria-label': 'sample', style: 'width:180px;accent-color:var(--accent)',
    oninput: (event) => show(Number(event.target.value)) });
  return make('section', { class: 'card' }, named(run, r), make('div', { class: 'head' }, step, last > 0 ? slider : ''), text);
}

function memoryOf(run, r) {
  if (!run.memory) return null;
  const parts = run.memory.filter((part) => part.bytes > 0);
  const total = parts.reduce((sum, part) => sum + part.bytes, 0);
  return make('section', { class: 'card' }, named(run, r),
      make('h3', {}, 'Memory ', make('span', { class: 'unit', style: 'color:var(--soft);font-weight:400' }, 'of the first rank, planned')),
      make('div', { class: 'stack' }, ...parts.map((part, i) => make('div', { title: part.name, style: `background:${color(i)};flex:${part.bytes}` }))),
      make('table', { class: 'facts' }, ...parts.map((part, i) => make('tr', {},
          make('td', {}, make('span', { class: 'swatch', style: 'background:' + color(i) }), part.name), make('td', { class: 'num' }, bytes(part.bytes)))),
          make('tr', {}, make('td', {}, 'planned, in all'), make('td', { class: 'num' }, bytes(total))),
          ...(run.observed_ranks > 1 ? [make('tr', {}, make('td', {}, `planned, of ${run.observed_ranks} ranks`), make('td', { class: 'num' }, bytes(total * run.observed_ranks)))] : []),
          ...(run.observed ? [make('tr', {}, make('td', {}, run.observed), make('td', { class: 'num' }, bytes(run.observed_bytes)))] : [])));
}

// Three digits, or all before the point.
function digits(value) {
  if (!isFinite(value)) return '–';
  return Math.abs(value) >= 100 && Math.abs(value) < 1e15 ? count(value) : trim(value.toPrecision(3));
}

function milliseconds(seconds) { return digits(seconds * 1e3); }

function percent(part, whole) { return digits(100 * part / whole) + ' %'; }

// A bar of the time of an op, whose darker part is its limit.
function opBar(one, longest) {
  const width = (seconds) => (100 * seconds / longest).toFixed(1) + '%';
  return make('div', { class: 'opbar' }, make('i', { class: 'time', style: 'width:' + width(one.seconds) }),
      one.limit > 0 ? make('i', { class: 'limit', style: 'width:' + width(Math.min(one.limit, longest)) }) : '');
}

// The ops, longest first; those of little time as one.
function longestOps(run) {
  const ops = [...run.ops].sort((a, b) => b.seconds - a.seconds);
  const isSmall = (one) => one.seconds < 0.003 * run.ops_seconds, small = ops.filter(isSmall);
  if (small.length < 2) return ops;
  const sum = (key) => small.reduce((all, one) => all + one[key], 0);
  return [...ops.filter((one) => !isSmall(one)),
    { op: `${small.length} others`, pass: '', seconds: sum('seconds'), limit: sum('limit'), flops: 0, bytes: sum('bytes') }];
}

// The ops of a step beside the time that their operations and bytes take at least.
function opsOf(run, r) {
  if (!run.ops || run.ops.length === 0) return null;
  const ops = longestOps(run), step = run.ops_seconds;
  const outside = Math.max(0, step - ops.reduce((sum, one) => sum + one.seconds, 0));
  const longest = Math.max(ops[0].seconds, outside) || 1;
  const cells = (one) => [milliseconds(one.seconds), percent(one.seconds, step),
    one.limit > 0 ? milliseconds(one.limit) : '', one.limit > 0 && one.seconds > 0 ? percent(one.limit, one.seconds) : '',
    one.flops > 0 && one.seconds > 0 ? short(one.flops / one.seconds) : '', one.bytes > 0 && one.seconds > 0 ? short(one.bytes / one.seconds) : ''];
  const line = (name, pass, one) => make('tr', {}, make('td', {}, name), make('td', {}, pass), make('td', { class: 'opcell' }, opBar(one, longest)),
      ...cells(one).map((text) => make('td', { class: 'num' }, text)));
  return make('section', { class: 'card scroll' }, named(run, r),
      make('h3', { style: 'margin-bottom:8px' }, 'Ops ', make('span', { class: 'unit', style: 'color:var(--soft);font-weight:400' }, `of the first rank in step ${count(run.ops_step)}, which took ${milliseconds(step)} ms`)),
      make('table', { class: 'facts ops' }, make('tr', {}, ...['op', 'pass', '', 'ms', 'of the step', 'limit, ms', 'of the limit', 'FLOP/s', 'bytes/s'].map((text, i) => make('th', { class: i > 2 ? 'num' : '' }, text))),
          ...ops.map((one) => line(one.op.replace(/_/g, ' '), one.pass, one)),
          line('outside of ops', '', { seconds: outside, limit: 0, flops: 0, bytes: 0 })),
      make('p', { class: 'note' }, 'The limit, the dark part of a bar, is what an op\'s operations take at the rate of arithmetic, or its bytes at that of memory, whichever is longer. An op whose data stay in the caches may be faster. Its time includes waits for other ranks.'));
}

// The formula and the count of a step, by axis and collective.
function countedOf(run) {
  const sums = new Map();
  const take = (rows, at) => rows.forEach((one) => {
    const key = `${one.axis}, ${one.collective}`;
    if (!sums.has(key)) sums.set(key, [0, 0, 0, 0]);
    sums.get(key)[at] += one.calls;
    sums.get(key)[at + 1] += one.bytes;
  });
  take(run.collectives || [], 0);
  take(run.communicated, 2);
  return [...sums].map(([key, [calls, size, countedCalls, countedSize]]) => make('tr', {}, make('td', {}, key),
      ...[count(calls), count(countedCalls), bytes(size), bytes(countedSize), calls !== countedCalls ? 'differs' : size === countedSize ? 'equal' : (countedSize > size ? '+' : '−') + bytes(Math.abs(countedSize - size))]
          .map((text) => make('td', { class: 'num' }, text))));
}

function communicatedOf(run, r) {
  if (!run.communicated) return null;
  return make('section', { class: 'card scroll' }, named(run, r),
      make('h3', { style: 'margin-bottom:8px' }, 'Formula and count ', make('span', { class: 'unit', style: 'color:var(--soft);font-weight:400' }, `as the first rank counted in step ${count(run.communicated_step)}`)),
      make('table', { class: 'facts' }, make('tr', {}, ...['collective', 'calls', 'counted', 'bytes', 'counted', ''].map((text, i) => make('th', { class: i > 0 ? 'num' : '' }, text))),
          ...countedOf(run)));
}

function collectivesOf(run, r) {
  if (!run.collectives || run.collectives.length === 0) return null;
  return make('section', { class: 'card scroll' }, named(run, r),
      make('h3', { style: 'margin-bottom:8px' }, 'Communication ', make('span', { class: 'unit', style: 'color:var(--soft);font-weight:400' }, 'of the first rank, per step, by its formula')),
      make('table', { class: 'facts' }, make('tr', {}, ...['phase', 'axis', 'collective', 'calls', 'bytes', 'sent in a ring'].map((text, i) => make('th', { class: i > 2 ? 'num' : '' }, text))),
          ...run.collectives.map((one) => make('tr', {}, make('td', {}, one.phase), make('td', {}, `${one.axis}, ${one.ranks} ranks`), make('td', {}, one.collective),
              ...[count(one.calls), bytes(one.bytes), bytes(one.ring_bytes)].map((text) => make('td', { class: 'num' }, text))))));
}

const eventColors = { started: 2, resumed: 0, stopped: 4, finished: 2, warning: 1, note: 6 };

function eventsOf(run, r) {
  if (!run.events || run.events.length === 0) return null;
  return make('section', { class: 'card scroll events' }, named(run, r), make('table', { class: 'facts' }, ...run.events.map((event) => make('tr', {},
      make('td', {}, make('i', { style: 'background:' + color(eventColors[event.kind] ?? 6) }), event.kind),
      make('td', {}, event.step === undefined ? '' : 'step ' + count(event.step)),
      make('td', {}, event.time ? date(event.time) : ''), make('td', {}, event.text || '')))));
}

function factsOf(run, r) {
  const facts = [['model', run.model], ['data', run.data], ['layout', run.layout], ['machine', run.machine], ['version', run.version]].filter((fact) => fact[1]);
  return facts.length === 0 ? null : make('section', { class: 'card' }, named(run, r),
      make('table', { class: 'facts' }, ...facts.map(([label, text]) => row(label, [text]))));
}

function configuration() {
  const all = settings();
  if (all.length === 0) return null;
  const rows = all.filter(({ values }) => values.some((value) => value !== '(empty)')).map(({ key, values, differs }) => row(key, values, runs.length > 1 && differs));
  return make('details', { class: 'card' }, make('summary', {}, `All ${rows.length} settings`), make('div', { class: 'scroll' }, make('table', { class: 'facts', style: 'margin-top:10px' }, ...(runs.length > 1 ? [heading('')] : []), ...rows)));
}

function grid(nodes) {
  const filled = nodes.filter(Boolean);
  return filled.length > 0 ? make('div', { class: filled.length > 1 ? 'two' : '' }, ...filled) : null;
}

function build() {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  theme(dark.matches ? 'dark' : 'light');
  dark.addEventListener('change', (event) => theme(event.matches ? 'dark' : 'light'));
  const nodes = chartNodes();
  document.getElementById('page').replaceChildren(header(), tiles(), toolbar(), make('div', { class: 'charts' }, ...nodes),
      ...section('Samples', grid(runs.map(samplesOf))),
      ...section('Time', ...runs.map(opsOf)),
      ...section('Memory and communication', grid([...runs.flatMap((run, r) => [memoryOf(run, r), communicatedOf(run, r), collectivesOf(run, r)])])),
      ...section('Events', ...runs.map(eventsOf)),
      ...section('Settings', grid(runs.map(factsOf)), configuration()));
  update();
}

build();

let width = innerWidth;
addEventListener('resize', () => {
  if (innerWidth !== width) draw();
  width = innerWidth;
});
// Paper is white.
let screenTheme = null;
addEventListener('beforeprint', () => {
  screenTheme = document.documentElement.dataset.theme;
  theme('light');
  draw();
});
addEventListener('afterprint', () => {
  if (screenTheme !== null) theme(screenTheme);
  draw();
});
