// The list of flows, and what it is filtered by.

import { get, Lost, query } from "./api.js";
import { byId, html, setText, show, sorted } from "./dom.js";
import { bytes, count, idle } from "./format.js";
import { empty, table } from "./lists.js";

const limit = 50;

export class Flows {
	#form = byId("flows-form");
	#asked = 0;

	constructor() {
		this.#form.onsubmit = (e) => {
			e.preventDefault();
			this.look().catch(() => {}); // the next look tells
		};
		this.#form.onchange = () => this.#form.requestSubmit();
	}

	// offer offers the segments, bridges and names that there are.
	offer(status) {
		const names = Object.values(status.bridges).flatMap(({ steer }) => (steer ?? []).filter((rule) => rule.names).map((rule) => rule.names[0]));
		choose(this.#form.elements.segment, sorted(status.segments).map(([name]) => name));
		choose(this.#form.elements.bridge, sorted(status.bridges).map(([name]) => name));
		choose(this.#form.elements.name, [...new Set(names)].sort());
	}

	// of lists the flows of a client, and goes there.
	of(client) {
		this.#form.reset();
		this.#form.elements.client.value = client;
		this.#form.requestSubmit();
		byId("flows-title").scrollIntoView();
		byId("flows-client").focus({ preventScroll: true });
	}

	// look asks for the flows. A filter that cannot be is told beside the form.
	async look() {
		const asked = ++this.#asked;
		const filters = Object.fromEntries([...new FormData(this.#form)].map(([name, value]) => [name, value.trim()]));
		try {
			const list = await get(query("/vnic/flows", { ...filters, limit }));
			if (asked === this.#asked) { // else somebody has asked for something else since
				this.#show(list);
			}
		} catch (e) {
			if (e instanceof Lost) {
				throw e;
			}
			setText(byId("flows-count"), e.message);
			show(byId("flows"));
		}
	}

	#show({ matched, flows }) {
		const listed = matched > flows.length ? `, the latest ${flows.length} of them here` : "";
		setText(byId("flows-count"), `${count(matched)} ${matched === 1 ? "flow" : "flows"}${listed}`);
		show(byId("flows"), flows.length === 0 ? empty("No flows.") : table(
			[["Client"], ["To"], ["Segment"], ["Server"], ["State"], ["Name"], ["Bytes", true], ["Last", true]],
			flows.map((f) => [f.client, f.destination, path(f), f.server, `${f.protocol} ${f.state.replace("_", "-")}`, f.name ?? "", bytes(f.bytes.from_client + f.bytes.from_server), idle(f.idle_seconds)])));
	}
}

// path says between which networks a flow is.
const path = ({ direction, segment, bridge, peer }) =>
	direction === "egress" ? `${segment} → ${bridge}` : direction === "reach" ? `${peer} → ${segment}` : segment;

// choose offers names in a select, and any. One that offers nothing is not shown.
function choose(select, names) {
	select.parentElement.hidden = names.length === 0;
	const had = select.value;
	show(select, html("option", { value: "" }, "any"), ...names.map((name) => html("option", { value: name }, name)));
	select.value = names.includes(had) ? had : "";
}
