// Clients, drops, host names, bans and events.

import { ask, operate } from "./actions.js";
import { get } from "./api.js";
import { button, html, show, sorted } from "./dom.js";
import { bytes, clock, count, idle, perSecond } from "./format.js";
import { segmentsOf } from "./model.js";
import { reasons } from "./reasons.js";

export const empty = (text) => html("p", { class: "empty" }, text);

// table has the columns [heading, isNumber].
export const table = (columns, rows) => html("table", {},
	html("thead", {}, html("tr", {}, ...columns.map(([heading, number]) => html("th", { scope: "col", class: number ? "number" : undefined }, heading)))),
	html("tbody", {}, ...rows.map((cells) => html("tr", {}, ...cells.map((cell, i) => html("td", { class: columns[i][1] ? "number" : undefined }, cell))))));

// showClients shows the clients with the most flows. flowsOf shows those of one.
export function showClients(place, { clients }, bridges, flowsOf) {
	show(place, clients.length === 0 ? empty("No flows.") : table(
		[["Client"], ["Segments"], ["Flows", true], ["Bytes", true], ["Last", true], ["Ban", true]],
		clients.map((c) => [
			button(c.address, `Flows of ${c.address}`, () => flowsOf(c.address), { class: "link" }),
			c.segments.join(" "), count(c.flows), bytes(c.bytes.from_client + c.bytes.from_server), idle(c.idle_seconds),
			button("Ban…", `Ban ${c.address}`, () => ban(bridges, c.address), { class: "small" }),
		])));
}

// Rates tell what has been counted in a second, as text.
class Rates {
	#last;

	// since returns the rate of each count since the last call.
	since(counts, time) {
		const before = this.#last;
		this.#last = { counts, time };
		return (what) => before
			? perSecond(Math.max(0, counts.get(what) - (before.counts.get(what) ?? 0)) / ((time - before.time) / 1000))
			: "–";
	}
}

export class Drops {
	#rates = new Rates();

	show(place, status, time) {
		const rows = [];
		for (const [kind, devices] of [["bridge", status.bridges], ["segment", status.segments]]) {
			for (const [name, device] of sorted(devices)) {
				for (const [reason, n] of sorted(device.drops)) {
					rows.push({ from: `${kind} ${name}`, reason, n });
				}
			}
		}
		const what = ({ from, reason }) => `${from} ${reason}`;
		const rate = this.#rates.since(new Map(rows.map((r) => [what(r), r.n])), time);
		rows.sort((a, b) => b.n - a.n);
		show(place, rows.length === 0 ? empty("Nothing was dropped.") : table(
			[["Reason"], ["From"], ["Packets", true], ["Now", true]],
			rows.map((r) => [
				html("span", {}, html("span", { class: "name" }, r.reason), " ", html("span", { class: "why" }, reasons[r.reason] ?? "")),
				r.from, count(r.n), rate(what(r)),
			])));
	}
}

const mostNames = 20;

// Names show how many flows each steer rule with names has chosen the segment of.
export class Names {
	#rates = new Rates();

	show(place, status, time) {
		const rows = new Map();
		const add = (bridge, name, segments, n) => {
			const what = `${bridge} ${name}`;
			const row = rows.get(what) ?? { what, bridge, name, segments: new Set(), n };
			rows.set(what, row);
			segments.forEach((segment) => row.segments.add(segment));
		};
		for (const [bridge, { steer, flows_by_name: flows = {} }] of sorted(status.bridges)) {
			const named = (steer ?? []).filter((rule) => rule.names);
			named.forEach((rule) => add(bridge, rule.names[0], segmentsOf(rule), flows[rule.names[0]] ?? 0));
			if (named.length > 0) {
				add(bridge, "no such name", [], flows[""] ?? 0);
			}
		}
		place.parentElement.hidden = rows.size === 0;
		const rate = this.#rates.since(new Map([...rows].map(([what, { n }]) => [what, n])), time);
		const most = [...rows.values()].sort((a, b) => b.n - a.n).slice(0, mostNames);
		const more = rows.size > most.length ? empty(`and ${count(rows.size - most.length)} others`) : "";
		show(place, table(
			[["Name"], ["Bridge"], ["Segments"], ["Flows", true], ["Now", true]],
			most.map((r) => [r.name, r.bridge, [...r.segments].join(" "), count(r.n), rate(r.what)])), more);
	}
}

export function showBans(place, { total, bans }, bridges) {
	const more = total > bans.length ? empty(`and ${count(total - bans.length)} others`) : "";
	show(place,
		total === 0 ? empty("Nobody is banned.") : table(
			[["Network"], ["At"], ["Until"], ["End", true]],
			bans.map((b) => [b.network, b.segment ? `segment ${b.segment}` : b.bridge ?? "all", b.configured ? "another configuration" : b.until ? clock(b.until) : "unban", b.configured ? "" : unban(b)])),
		more,
		html("div", { class: "actions" }, button("Ban…", "Ban a client or a network", () => ban(bridges, ""))));
}

const unban = ({ network, bridge, segment }) => button("Unban", `Unban ${network}`,
	() => operate(`${network} is no longer banned.`, "DELETE", "/vnic/bans", { networks: [network], bridge, segment }), { class: "small" });

// ban asks for how long, and bans a client or a network. Whoever looks at the page by SSH is not
// banned: the dashboard knows from where that is.
async function ban(bridges, network) {
	const wanted = await ask({
		title: network ? `Ban ${network}?` : "Ban a client or a network",
		text: "It reaches nothing, from the next packet on, and its flows end at once.",
		yes: "Ban",
		fields: [
			{ name: "network", label: "Address or network", value: network, placeholder: "203.0.113.7 or 10.20.0.0/16", required: true },
			{ name: "for", label: "For", options: [["10m", "10 minutes"], ["1h", "1 hour"], ["24h", "1 day"], ["", "until somebody ends it"]] },
			...bridges.length > 0 ? [{ name: "bridge", label: "At bridge", options: [["", "all"], ...bridges.map((name) => [name, name])] }] : [],
		],
	});
	if (wanted) {
		operate(`${wanted.network} is banned.`, "POST", "/vnic/bans", {
			networks: [wanted.network], for: wanted.for || undefined, bridge: wanted.bridge || undefined, own: (await get("/session")).own,
		});
	}
}

export function showEvents(place, { events }) {
	show(place, events.length === 0 ? empty("Nothing has happened yet.") : html("ol", { class: "events", tabindex: 0, "aria-label": "Events, the latest first" },
		...events.toReversed().map(({ time, level, message, attributes }) => html("li", {},
			html("time", { datetime: time }, clock(time)),
			html("span", { class: `level ${level.toLowerCase()}` }, level.toLowerCase()),
			html("div", {}, message, " ", html("span", { class: "attributes" }, sorted(attributes).map(([name, value]) => `${name}=${value}`).join(" ")))))));
}
