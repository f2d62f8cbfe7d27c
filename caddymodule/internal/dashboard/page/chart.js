// A chart of the last minutes. The drawing is stretched to its place; all text is
// beside it.

import { html, setText, svg } from "./dom.js";
import { clock } from "./format.js";

const width = 300, height = 100;

// series are {field, label}, the first one an area, the second a dashed line.
export class Chart {
	#series;
	#format;
	#least;
	#title;
	#drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img" });
	#scale = html("span");
	#values = html("p", { class: "values", "aria-hidden": "true", hidden: "" });
	#plot = html("div", { class: "plot" }, this.#drawing, this.#values);
	#pointer; // where the pointer is, from 0 at the left to 1
	#drawn;   // {points, now, span}

	// least is the least that the scale goes to.
	constructor(title, series, format, least, low) {
		this.#title = title;
		this.#series = series;
		this.#format = format;
		this.#least = least;
		const legend = html("span", { class: "legend" }, ...series.map(({ label }, i) =>
			html("span", {}, sample(i), label)));
		this.element = html("figure", { class: low ? "chart low" : "chart" }, html("figcaption", {}, legend, this.#scale), this.#plot);
		this.#plot.addEventListener("pointermove", (e) => {
			const place = this.#plot.getBoundingClientRect();
			this.#point((e.clientX - place.left) / place.width);
		});
		this.#plot.addEventListener("pointerleave", () => this.#point(undefined));
	}

	draw(points, now, span) {
		this.#drawn = { points, now, span };
		const top = ceiling(Math.max(this.#least, ...points.flatMap((p) => this.#series.map(({ field }) => p[field]))));
		const y = (p, field) => (height - (height - 4) * p[field] / top).toFixed(2);
		const shapes = [svg("path", { class: "grid", d: `M0 4H${width}M0 ${height / 2 + 2}H${width}` })];
		this.#series.forEach(({ field }, i) => {
			for (const run of runs(points)) {
				const line = run.map((p) => `${this.#x(p).toFixed(2)} ${y(p, field)}`).join("L");
				if (i === 0) {
					shapes.push(svg("path", { class: "area", d: `M${this.#x(run[0]).toFixed(2)} ${height}L${line}L${this.#x(run.at(-1)).toFixed(2)} ${height}Z` }));
				}
				shapes.push(svg("path", { class: `line ${i === 0 ? "first" : "second"}`, d: `M${line}` }));
			}
		});
		this.#drawing.replaceChildren(...shapes);
		this.#drawing.setAttribute("aria-label", this.#describe(points, span));
		setText(this.#scale, `to ${this.#format(top)}`);
		this.#point(this.#pointer);
	}

	#x({ time }) {
		const { now, span } = this.#drawn;
		return width * (1 - (now - time) / span.ms);
	}

	// point shows the values of the point that is nearest to the pointer.
	#point(pointer) {
		this.#pointer = pointer;
		this.#drawing.querySelector(".cursor")?.remove();
		const points = this.#drawn?.points ?? [];
		this.#values.hidden = pointer === undefined || points.length === 0;
		if (this.#values.hidden) {
			return;
		}
		const away = (p) => Math.abs(this.#x(p) - pointer * width);
		const nearest = points.reduce((a, b) => (away(b) < away(a) ? b : a));
		const x = Math.min(Math.max(this.#x(nearest), 0), width);
		this.#drawing.append(svg("path", { class: "cursor", d: `M${x.toFixed(2)} 0V${height}` }));
		setText(this.#values, [clock(nearest.time), ...this.#series.map(({ field, label }) => `${label} ${this.#format(nearest[field])}`)].join(" · "));
		const room = this.#plot.clientWidth - this.#values.offsetWidth; // beside the line, within the chart
		this.#values.style.left = `${Math.max(0, Math.min(room, x / width * this.#plot.clientWidth + 8))}px`;
	}

	#describe(points, span) {
		if (points.length === 0) {
			return `${this.#title}: no measurements yet`;
		}
		return `${this.#title}, last ${span.words}: ` + this.#series.map(({ field, label }) =>
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
