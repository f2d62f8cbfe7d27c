// A chart of the last minutes. The drawing is stretched to its place; all text is
// beside it.

import { html, setText, svg } from "./dom.js";
import { interval, span } from "./history.js";

const width = 300, height = 100;

// series are {field, label}, the first one an area, the second a dashed line.
export class Chart {
	#series;
	#format;
	#least;
	#title;
	#drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img" });
	#scale = html("span");

	// least is the least that the scale goes to.
	constructor(title, series, format, least, low) {
		this.#title = title;
		this.#series = series;
		this.#format = format;
		this.#least = least;
		const legend = html("span", { class: "legend" }, ...series.map(({ label }, i) =>
			html("span", {}, sample(i), label)));
		this.element = html("figure", { class: low ? "chart low" : "chart" }, html("figcaption", {}, legend, this.#scale), this.#drawing);
	}

	draw(history, now) {
		const points = history.points.filter((p) => p.time >= now - span - interval);
		const top = ceiling(Math.max(this.#least, ...points.flatMap((p) => this.#series.map(({ field }) => p[field]))));
		const x = (p) => (width * (1 - (now - p.time) / span)).toFixed(2);
		const y = (p, field) => (height - (height - 4) * p[field] / top).toFixed(2);
		const shapes = [svg("path", { class: "grid", d: `M0 4H${width}M0 ${height / 2 + 2}H${width}` })];
		this.#series.forEach(({ field }, i) => {
			for (const run of runs(points)) {
				const line = run.map((p) => `${x(p)} ${y(p, field)}`).join("L");
				if (i === 0) {
					shapes.push(svg("path", { class: "area", d: `M${x(run[0])} ${height}L${line}L${x(run.at(-1))} ${height}Z` }));
				}
				shapes.push(svg("path", { class: `line ${i === 0 ? "first" : "second"}`, d: `M${line}` }));
			}
		});
		this.#drawing.replaceChildren(...shapes);
		this.#drawing.setAttribute("aria-label", this.#describe(points));
		setText(this.#scale, `to ${this.#format(top)}`);
	}

	#describe(points) {
		if (points.length === 0) {
			return `${this.#title}: no measurements yet`;
		}
		return `${this.#title}, last 5 minutes: ` + this.#series.map(({ field, label }) =>
			`${label} now ${this.#format(points.at(-1)[field])}, most ${this.#format(Math.max(...points.map((p) => p[field])))}`).join("; ");
	}
}

const sample = (i) => svg("svg", { width: 16, height: 8, "aria-hidden": "true" },
	...(i === 0 ? [svg("path", { class: "area", d: "M0 3H16V8H0Z" })] : []),
	svg("path", { class: `line ${i === 0 ? "first" : "second"}`, d: "M0 3H16" }));

// runs are the points between gaps.
function runs(points) {
	const all = [];
	for (const p of points) {
		if (all.length === 0 || p.gap) {
			all.push([]);
		}
		all.at(-1).push(p);
	}
	return all;
}

// ceiling is the next round number.
function ceiling(n) {
	const power = 10 ** Math.floor(Math.log10(n));
	return power * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((m) => n <= m * power);
}
