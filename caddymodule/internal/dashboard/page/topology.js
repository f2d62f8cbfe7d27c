// The network as a picture: NICs, bridges, segments, and who reaches whom. On a wide
// page it goes from left to right, on a narrow one from top to bottom.

import { svg, sorted } from "./dom.js";
import { bits, count } from "./format.js";
import { chooses, condition, gatewaysOf, isMany, linkOf, policyOf, segmentsInOrder, steers, takesNewFlows } from "./model.js";

const narrow = 640; // px
const nodeHeight = 66, gap = 16, arcs = 44;
const lineHeight = 30, lineGap = 8; // of segments that have one line

export function drawTopology(place, status, histories) {
	const width = Math.max(place.clientWidth, 240);
	const picture = width < narrow ? fromTop(status, width) : fromLeft(status, width);
	const edges = picture.edges.map((edge) => svg("path", { class: `edge ${edge.kind}`, d: edge.d }));
	const reaches = reachArcs(status, picture);
	const nodes = [
		...sorted(status.bridges).flatMap(([name, b]) => [nicNode(b, picture.nics[name]), bridgeNode(name, b, picture.bridges[name])]),
		...Object.entries(picture.segments).map(([name, box]) => segmentNode(name, status.segments[name], histories.of("segments", name).latest, box)),
	];
	place.replaceChildren(svg("svg", { width, height: picture.height, role: "img", "aria-label": describe(status) }, ...edges, ...reaches, ...nodes));
}

function fromLeft(status, width) {
	const names = segmentsInOrder(status);
	const reach = names.some((name) => status.segments[name].reach) ? arcs : 0;
	const free = width - reach;
	const [nicWidth, bridgeWidth, segmentWidth] = [0.24, 0.3, 0.32].map((part) => Math.min(part * free, 330));
	const space = (free - nicWidth - bridgeWidth - segmentWidth) / 2;
	const p = { nics: {}, bridges: {}, segments: {}, edges: [] };
	const [height, below] = sizeOf(status);
	names.forEach((name, i) => {
		p.segments[name] = box(free - segmentWidth, 2 + i * (height + below), segmentWidth, height);
	});
	let bottom = 2;
	for (const [name, bridge] of sorted(status.bridges)) {
		const own = names.filter((s) => chooses(bridge, s) || steers(bridge, s)).map((s) => middle(p.segments[s]));
		const y = Math.max(bottom, (Math.min(...own) + Math.max(...own) - nodeHeight) / 2);
		bottom = y + nodeHeight + gap;
		const nic = p.nics[name] = box(0, y, nicWidth);
		const b = p.bridges[name] = box(nicWidth + space, y, bridgeWidth);
		p.edges.push({ kind: "link", d: `M${nic.x + nic.width} ${middle(nic)}H${b.x}` });
		for (const [segment, s] of Object.entries(p.segments)) {
			const [from, to, bend] = [b.x + b.width, s.x, space / 2];
			edgeTo(p, status, bridge, segment, `M${from} ${middle(b)}C${from + bend} ${middle(b)} ${to - bend} ${middle(s)} ${to} ${middle(s)}`);
		}
	}
	p.arcs = reach;
	p.height = Math.max(bottom - gap, 2 + names.length * (height + below) - below) + 2;
	return p;
}

function fromTop(status, width) {
	const names = segmentsInOrder(status);
	const bridges = sorted(status.bridges);
	const reach = names.some((name) => status.segments[name].reach) ? 26 : 0;
	const indent = 10 + 12 * bridges.length;
	const p = { nics: {}, bridges: {}, segments: {}, edges: [] };
	const [height, below] = sizeOf(status);
	let y = 2;
	for (const [name] of bridges) {
		const nic = p.nics[name] = box(indent, y, width - indent - reach);
		const b = p.bridges[name] = box(indent, y += nodeHeight + gap, width - indent - reach);
		p.edges.push({ kind: "link", d: `M${nic.x + 24} ${nic.y + nodeHeight}V${b.y}` });
		y += nodeHeight + gap;
	}
	for (const name of names) {
		p.segments[name] = box(indent + 14, y, width - indent - 14 - reach, height);
		y += height + below;
	}
	bridges.forEach(([name, bridge], i) => {
		const b = p.bridges[name];
		const spine = indent - 12 * (i + 1);
		for (const [segment, s] of Object.entries(p.segments)) {
			edgeTo(p, status, bridge, segment, `M${b.x} ${middle(b)}H${spine + 8}Q${spine} ${middle(b)} ${spine} ${middle(b) + 8}V${middle(s) - 8}Q${spine} ${middle(s)} ${spine + 8} ${middle(s)}H${s.x}`);
		}
	});
	p.arcs = reach;
	p.height = y - below + 2;
	return p;
}

const box = (x, y, width, height = nodeHeight) => ({ x, y, width, height });
const middle = (b) => b.y + b.height / 2;

// sizeOf is the height of the segments, and the gap below each: many have one line each.
const sizeOf = (status) => (isMany(status) ? [lineHeight, lineGap] : [nodeHeight, gap]);

function edgeTo(picture, status, bridge, segment, d) {
	if (!chooses(bridge, segment) && !steers(bridge, segment)) {
		return;
	}
	const kind = !takesNewFlows(status.segments[segment]) ? "away" : chooses(bridge, segment) ? "" : "steer";
	picture.edges.push({ kind, d });
}

// reachArcs go from a segment to those that it may reach, on the right.
function reachArcs(status, picture) {
	const shapes = [];
	for (const [name, s] of Object.entries(picture.segments)) {
		const targets = (status.segments[name].reach ?? []).map((to) => picture.segments[to]).filter(Boolean);
		targets.sort((a, b) => Math.abs(a.y - s.y) - Math.abs(b.y - s.y)).forEach((t, i) => {
			const down = t.y > s.y ? 1 : -1;
			const [x, y0, y1] = [s.x + s.width, middle(s) + down * (12 - 9 * i), middle(t) - 8 * down];
			const out = x + Math.min(picture.arcs, picture.arcs * (i + 3) / 4); // the nearest is the innermost
			shapes.push(svg("path", { class: "edge reach", d: `M${x} ${y0}C${out} ${y0} ${out} ${y1} ${x + 6} ${y1}` }));
			shapes.push(svg("path", { class: "tip", d: `M${x + 8} ${y1 - 4}L${x} ${y1}L${x + 8} ${y1 + 4}Z` }));
		});
	}
	return shapes;
}

function nicNode(bridge, b) {
	const { sign, word, gravity } = linkOf(bridge);
	return node("nic", b, bridge.nic, "NIC", gravity, [`${sign} ${word}`, gravity], [gatewaysOf(bridge)]);
}

function bridgeNode(name, bridge, b) {
	return node("bridge", b, name, "bridge", "", [bridge.addresses.join(" ")], [bridge.switched_to ? `switched to ${bridge.switched_to}` : policyOf(bridge)]);
}

function segmentNode(name, segment, latest, b) {
	const { sign, word, gravity } = condition(segment);
	const rate = latest ? ` · ${bits(latest.bitsFrom + latest.bitsTo)}` : "";
	const carried = `${count(segment.flows)} flows${rate}`;
	if (b.height === lineHeight) {
		return line(b, name, gravity, `${sign} ${word}`, carried);
	}
	return node("segment", b, name, segment.addresses.join(" "), gravity, [`${sign} ${word}`, gravity], [carried]);
}

// node is a box with a name, what it is, and two lines.
function node(kind, b, name, what, gravity, ...lines) {
	const inner = b.width - 24;
	return svg("g", { class: `node ${kind} ${gravity === "good" ? "" : gravity}`, transform: `translate(${b.x} ${b.y})` },
		svg("title", {}, `${what} ${name}`),
		svg("rect", { width: b.width, height: b.height, rx: 10 }),
		svg("text", { class: "name", x: 12, y: 22 }, fit(name, inner * 0.55, 8.5)),
		svg("text", { class: "kind", x: b.width - 12, y: 22 }, fit(what, inner - Math.min(8.5 * name.length, inner * 0.55) - 6, 6.3)),
		...lines.map(([text, tone], i) => svg("text", { class: tone ?? "", x: 12, y: 40 + 16 * i }, fit(text, inner, 6.6))));
}

// line is a segment in one line: its name, its condition, and what it carries.
function line(b, name, gravity, condition, carried) {
	const third = (b.width - 24) / 3;
	return svg("g", { class: `node segment ${gravity === "good" ? "" : gravity}`, transform: `translate(${b.x} ${b.y})` },
		svg("title", {}, `segment ${name}`),
		svg("rect", { width: b.width, height: b.height, rx: 8 }),
		svg("text", { class: "name", x: 12, y: 20 }, fit(name, third - 4, 8.5)),
		svg("text", { class: gravity, x: 12 + third, y: 20 }, fit(condition, third * 0.8, 6.6)),
		svg("text", { class: "kind", x: b.width - 12, y: 20 }, fit(carried, third * 1.2, 6.3)));
}

// fit cuts a text to a width, at so many pixels a letter.
function fit(text, width, letter) {
	const room = Math.max(1, Math.floor(width / letter));
	return text.length <= room ? text : text.slice(0, room - 1) + "…";
}

// describe is the picture in words.
function describe(status) {
	const bridges = sorted(status.bridges).map(([name, bridge]) => {
		const segments = Object.keys(status.segments).filter((s) => chooses(bridge, s) || steers(bridge, s)).sort();
		return `Bridge ${name} on NIC ${bridge.nic}, ${linkOf(bridge).word}, to ` + segments.map((s) => `segment ${s}, ${condition(status.segments[s]).word}`).join("; ");
	});
	const reaches = sorted(status.segments).filter(([, s]) => s.reach).map(([name, s]) => `Segment ${name} may reach ${s.reach.join(" and ")}`);
	return [...bridges, ...reaches].join(". ") + ".";
}
