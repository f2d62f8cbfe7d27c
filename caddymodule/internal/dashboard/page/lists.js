// Clients, drops and events.

import { html, sorted } from "./dom.js";
import { bytes, clock, count, idle, perSecond } from "./format.js";

// show replaces what differs, so that a selection stays where it is.
function show(place, ...children) {
	const fresh = html("div", {}, ...children);
	if (fresh.textContent !== place.textContent) {
		place.replaceChildren(...fresh.childNodes);
	}
}

const empty = (text) => html("p", { class: "empty" }, text);

// table has the columns [heading, isNumber].
const table = (columns, rows) => html("table", {},
	html("thead", {}, html("tr", {}, ...columns.map(([heading, number]) => html("th", { scope: "col", class: number ? "number" : "" }, heading)))),
	html("tbody", {}, ...rows.map((cells) => html("tr", {}, ...cells.map((cell, i) => html("td", { class: columns[i][1] ? "number" : "" }, cell))))));

export function showClients(place, { clients }) {
	show(place, clients.length === 0 ? empty("No flows.") : table(
		[["Client"], ["Segments"], ["Flows", true], ["Bytes", true], ["Last", true]],
		clients.map((c) => [c.address, c.segments.join(" "), count(c.flows), bytes(c.bytes.from_client + c.bytes.from_server), idle(c.idle_seconds)])));
}

// Drops remembers what was counted before, for the rates.
export class Drops {
	#last;

	show(place, status, time) {
		const rows = [];
		for (const [kind, devices] of [["bridge", status.bridges], ["segment", status.segments]]) {
			for (const [name, device] of sorted(devices)) {
				for (const [reason, n] of sorted(device.drops)) {
					rows.push({ from: `${kind} ${name}`, reason, n });
				}
			}
		}
		const before = this.#last;
		this.#last = { time, counts: new Map(rows.map((r) => [r.from + " " + r.reason, r.n])) };
		rows.sort((a, b) => b.n - a.n);
		const rate = ({ from, reason, n }) => before
			? perSecond(Math.max(0, n - (before.counts.get(from + " " + reason) ?? 0)) / ((time - before.time) / 1000))
			: "–";
		show(place, rows.length === 0 ? empty("Nothing was dropped.") : table(
			[["Reason"], ["From"], ["Packets", true], ["Now", true]],
			rows.map((r) => [r.reason, r.from, count(r.n), rate(r)])));
	}
}

export function showBans(place, { total, bans }) {
	const more = total > bans.length ? html("p", { class: "empty" }, `and ${count(total - bans.length)} others`) : "";
	show(place, total === 0 ? empty("Nobody is banned.") : table(
		[["Network"], ["Bridge"], ["Until"]],
		bans.map((b) => [b.network, b.bridge ?? "all", b.configured ? "another configuration" : b.until ? clock(b.until) : "unban"])), more);
}

export function showEvents(place, { events }) {
	show(place, events.length === 0 ? empty("Nothing has happened yet.") : html("ol", { class: "events", tabindex: 0, "aria-label": "Events, the latest first" },
		...events.toReversed().map(({ time, level, message, attributes }) => html("li", {},
			html("time", { datetime: time }, clock(time)),
			html("span", { class: `level ${level.toLowerCase()}` }, level.toLowerCase()),
			html("div", {}, message, " ", html("span", { class: "attributes" }, sorted(attributes).map(([name, value]) => `${name}=${value}`).join(" ")))))));
}
