// A plot that moves: the last minute of one number, a point a second. Drawn as SVG, so it follows the theme.
// Knows nothing of what it shows.

import { h, s } from "./dom.js";

const POINTS = 60;
const WIDTH = 480;
const HEIGHT = 120;
const PAD = 6;

/** A figure with a name, the current value in words, and the line. `say` words a value; `least` is the least top. */
export function plot(name, say, { least = 1, note = "" } = {}) {
  const values = [];
  const now = h("strong.number", "–");
  const peak = h("span.peak");
  const area = s("path", { class: "area" });
  const line = s("path", { class: "line", "vector-effect": "non-scaling-stroke" });
  const group = s("g", { class: "moving" }, area, line);
  const picture = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": name }, group);
  const element = h("figure.card.plot", h("figcaption", h("span", name), now, h("small", note)), h("div.plotted", picture, peak));
  const push = (value) => {
    values.push(value);
    if (values.length > POINTS + 1) values.shift();
    const last = values.findLast((one) => one !== null) ?? null;
    now.textContent = last === null ? "–" : say(last);
    draw(values, least, area, line, peak, say);
    picture.setAttribute("aria-label", `${name}: ${now.textContent} now, at most ${peak.textContent} in a minute`);
    slide(group);
  };
  return { element, push };
}

function draw(values, least, area, line, peak, say) {
  const known = values.filter((value) => value !== null);
  const top = Math.max(least, ...known) * 1.25;
  const x = (place) => ((place - values.length + POINTS + 1) / POINTS) * WIDTH;
  const y = (value) => HEIGHT - PAD - (value / top) * (HEIGHT - 2 * PAD);
  // Where nothing was measured, the last value goes on.
  let held = known[0] ?? 0;
  const points = values.map((value, place) => {
    held = value ?? held;
    return `${x(place).toFixed(1)} ${y(held).toFixed(1)}`;
  });
  if (!points.length) return;
  line.setAttribute("d", `M${points.join("L")}`);
  area.setAttribute("d", `M${x(0).toFixed(1)} ${HEIGHT}L${points.join("L")}L${x(values.length - 1).toFixed(1)} ${HEIGHT}Z`);
  peak.textContent = known.length ? say(Math.max(...known)) : "";
}

/** From one point further right to its place, in the second until the next one. */
function slide(group) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  group.animate([{ transform: `translateX(0)` }, { transform: `translateX(${-WIDTH / POINTS}px)` }], { duration: 1000, easing: "linear", fill: "forwards" });
}
