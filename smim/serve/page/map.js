// Draws the map into `element`: props.points and props.marks are JSON (see page_map.py), props.column colours the points.
// Sentences reach the page as text nodes only.
const SVG = 'http://www.w3.org/2000/svg';
const COLOURS = ['#4e79a7', '#f28e2b', '#59a14f', '#b07aa1', '#e15759', '#76b7b2', '#edc948', '#9c755f', '#ff9da7',
  '#6b8f23', '#8cd17d', '#d37295'];
const OTHER = '#9a9a9a', SIZE = 1000, EDGE = 30, REACH = 18;

function make(name, attributes, text) {
  const node = name.startsWith('svg:') ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

const at = place => place.map((value, axis) => EDGE + (axis ? 1 - value : value) * (SIZE - 2 * EDGE));

function coloursOf(values) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) || 0) + 1);
  const most = [...counts].sort((one, other) => other[1] - one[1]).slice(0, COLOURS.length).map(([value]) => value).sort();
  return new Map(most.map((value, i) => [value, COLOURS[i]]));
}

function drawMap() {
  const root = element.querySelector('.smim-map') || element;
  const points = JSON.parse(props.points || 'null'), marks = JSON.parse(props.marks || 'null');
  if (!points) return;
  const values = (points.labels || {})[props.column] || [];
  const colours = coloursOf(values);
  const svg = make('svg:svg', {viewBox: `0 0 ${SIZE} ${SIZE}`, role: 'img',
    'aria-label': `Map of ${points.texts.length} sentences` + (marks ? `, with the ${marks.texts.length - 1} hits of “${marks.texts[0]}” marked` : '')});
  const shown = [];  // what the pointer can meet: place and sentence
  points.places.forEach((place, i) => {
    const [x, y] = at(place);
    svg.append(make('svg:circle', {cx: x, cy: y, r: 5, fill: values.length ? colours.get(values[i]) || OTHER : COLOURS[0],
      class: 'smim-point'}));
    shown.push([x, y, points.texts[i], values[i]]);
  });
  if (marks) {
    const places = marks.places.map(at);
    places.slice(1).forEach(([x, y]) => svg.append(make('svg:line', {x1: places[0][0], y1: places[0][1], x2: x, y2: y,
      class: 'smim-ray'})));
    places.slice(1).forEach(([x, y], i) => {
      svg.append(make('svg:circle', {cx: x, cy: y, r: 11, class: 'smim-hit'}));
      shown.push([x, y, marks.texts[i + 1], `hit ${i + 1}`]);
    });
    const [x, y] = places[0];
    svg.append(make('svg:path', {d: `M${x},${y - 20}L${x + 20},${y}L${x},${y + 20}L${x - 20},${y}Z`, class: 'smim-query'}));
    shown.push([x, y, marks.texts[0], 'the search']);
  }
  const tip = make('div', {class: 'smim-tip', hidden: ''});
  svg.addEventListener('pointermove', event => showTip(event, svg, tip, shown));
  svg.addEventListener('pointerdown', event => showTip(event, svg, tip, shown));
  svg.addEventListener('pointerleave', () => { tip.hidden = true; });

  const legend = make('ul', {class: 'smim-legend'});
  const entry = (text, colour, kind) => {
    const item = make('li', {});
    item.append(make('span', {class: kind, style: colour ? `background:${colour}` : ''}), make('span', {}, text));
    legend.append(item);
  };
  if (marks) { entry('the search', '', 'smim-key-query'); entry('its hits', '', 'smim-key-hit'); }
  colours.forEach((colour, value) => entry(value, colour, 'smim-key'));
  if (values.some(value => !colours.has(value))) entry('others', OTHER, 'smim-key');

  const plot = make('div', {class: 'smim-plot'});
  plot.append(svg, tip);
  root.replaceChildren(legend, plot);
}

// The sentence nearest to the pointer; of several at one place the one drawn last, which lies on top.
function showTip(event, svg, tip, shown) {
  const box = svg.getBoundingClientRect(), scale = SIZE / box.width;
  const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
  let best = null, least = REACH * Math.max(1, scale);
  for (const each of shown) {
    const distance = Math.hypot(each[0] - x, each[1] - y);
    if (distance <= least) { best = each; least = distance; }
  }
  tip.hidden = !best;
  if (!best) return;
  tip.replaceChildren(make('span', {}, best[2]));
  if (best[3]) tip.append(make('small', {}, best[3]));
  const right = best[0] > SIZE / 2;
  tip.style.left = right ? '' : `${(best[0] + 14) / SIZE * 100}%`;
  tip.style.right = right ? `${(SIZE - best[0] + 14) / SIZE * 100}%` : '';
  tip.style.top = `${Math.min(best[1], SIZE * 0.85) / SIZE * 100}%`;
}

watch(['points', 'marks', 'column'], drawMap);
drawMap();
