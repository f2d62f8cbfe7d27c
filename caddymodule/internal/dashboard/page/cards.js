// A card for each bridge and segment: what it carries, and what one can do with it.
// Cards are made once and then changed, so that the focus stays where it is.

import { operate } from "./actions.js";
import { capture } from "./capture.js";
import { Chart } from "./chart.js";
import { button, html, setText, show, sorted } from "./dom.js";
import { bits, count, perSecond } from "./format.js";
import { chooses, condition, gatewaysOf, linkOf, policyOf, refusalsOf, roleOf, ruleOf } from "./model.js";

// Cards are those of one kind of device.
export class Cards {
	#place;
	#make;
	#cards = new Map();

	constructor(place, make) {
		this.#place = place;
		this.#make = make;
	}

	// update shows devices as a status has them, except the cards that are not to be shown. view is
	// what somebody looks at: {now, span}.
	update(devices, status, histories, view, shown = () => true) {
		const names = Object.keys(devices).sort();
		if (names.join() !== [...this.#cards.keys()].join()) {
			this.#cards = new Map(names.map((name) => [name, this.#cards.get(name) ?? this.#make(name)]));
			this.#place.replaceChildren(...[...this.#cards.values()].map((card) => card.element));
		}
		for (const [name, card] of this.#cards) {
			card.element.hidden = !shown(name);
			if (!card.element.hidden) {
				card.update(devices[name], status, histories(name), view);
			}
		}
	}
}

// Card is what bridges and segments have in common.
class Card {
	#badges = html("span", { class: "group" });
	#facts = html("p", { class: "facts" });
	#figures;
	#charts;
	#times = html("span");

	constructor(kind, name, figures, charts) {
		const id = `${kind}-${name}`;
		this.#figures = figures.map(([label, value]) => ({ value, shown: html("dd"), label }));
		this.#charts = charts;
		this.actions = html("div");
		this.element = html("article", { class: "card", "aria-labelledby": id },
			html("header", {}, html("h3", { id }, name), this.#badges, html("span", { class: "kind" }, kind)),
			this.#facts,
			html("dl", { class: "figures" }, ...this.#figures.map(({ label, shown }) => html("div", {}, html("dt", {}, label), shown))),
			...charts.map((chart) => chart.element),
			html("p", { class: "times", "aria-hidden": "true" }, this.#times, html("span", {}, "now")),
			this.actions);
		this.capture = button("Capture…", `Capture ${kind} ${name}`, () => capture(kind, name));
	}

	show(badges, facts, device, history, { now, span }) {
		show(this.#badges, ...badges.map(({ sign, word, gravity }) => html("span", { class: `badge ${gravity}` }, `${sign} ${word}`)));
		setText(this.#facts, facts.filter(Boolean).join(" · "));
		for (const { value, shown } of this.#figures) {
			setText(shown, value(device, history.latest));
		}
		const points = history.points(span.ms, now);
		for (const chart of this.#charts) {
			chart.draw(points, now, span);
		}
		setText(this.#times, `${span.label} ago`);
	}
}

const rate = (format, field) => (_, latest) => (latest ? format(latest[field]) : "–");

const figures = (first, firstField, second, secondField) => [
	["Flows", (device) => count(device.flows)],
	["New flows", rate(perSecond, "newFlows")],
	[first, rate(bits, firstField)],
	[second, rate(bits, secondField)],
];

const charts = (name, out, outField, into, intoField) => [
	new Chart(`Throughput of ${name}`, [{ label: out, field: outField }, { label: into, field: intoField }], bits, 1000),
	new Chart(`Flows of ${name}`, [{ label: "flows", field: "flows" }], count, 10, true),
];

export class BridgeCard extends Card {
	#name;
	#choices = html("div", { class: "group" });
	#choosing = "";
	#steers = html("summary");
	#rules = html("ul");

	constructor(name) {
		super("bridge", name, figures("To network", "bitsTo", "From network", "bitsFrom"), charts(`bridge ${name}`, "to network", "bitsTo", "from network", "bitsFrom"));
		this.#name = name;
		this.#choices.setAttribute("role", "group");
		this.#choices.setAttribute("aria-label", `New flows of bridge ${name} go to`);
		this.actions.className = "actions";
		this.actions.append(html("span", { class: "label", "aria-hidden": "true" }, "New flows to"), this.#choices);
		this.actions.before(html("details", { class: "steers" }, this.#steers, this.#rules));
		this.actions.after(html("div", { class: "actions" }, this.capture));
	}

	update(bridge, _, history, view) {
		const badges = [linkOf(bridge), ...roleOf(bridge), ...refusalsOf(bridge)];
		if (bridge.switched_to) {
			badges.push({ sign: "⇄", word: `switched to ${bridge.switched_to}`, gravity: "warn" });
		}
		this.show(badges, [bridge.nic, bridge.addresses.join(" "), bridge.gateways && gatewaysOf(bridge)], bridge, history, view);
		const rules = (bridge.steer ?? []).map(ruleOf);
		this.#steers.parentElement.hidden = rules.length === 0;
		setText(this.#steers, rules.length === 1 ? "1 steer rule" : `${rules.length} steer rules`);
		show(this.#rules, ...rules.map((rule) => html("li", {}, rule)));
		this.#offer(bridge);
	}

	// offer lets one choose among the policy and its segments.
	#offer(bridge) {
		this.actions.hidden = !bridge.lb_policy;
		if (!bridge.lb_policy) {
			return;
		}
		const choosing = policyOf(bridge);
		if (choosing !== this.#choosing) {
			this.#choosing = choosing;
			const path = `/vnic/bridges/${this.#name}/switch`;
			this.#choices.replaceChildren(
				button(bridge.lb_policy.policy, `lb_policy ${choosing}`, () => operate(`Bridge ${this.#name} follows lb_policy.`, "DELETE", path), { value: "" }),
				...bridge.lb_policy.segments.map((segment) =>
					button(segment, `switch to ${segment}`, () => operate(`Bridge ${this.#name} is switched to ${segment}.`, "POST", path, { segment }), { value: segment })));
		}
		for (const choice of this.#choices.children) {
			choice.setAttribute("aria-pressed", String(choice.value === (bridge.switched_to ?? "")));
		}
	}
}

// limitsOf says what a segment may have at most, and how many packets that has refused.
function limitsOf({ limits = {}, refused }) {
	const most = [[limits.flows, "flows"], [limits.flows_per_client, "flows of a client"], [limits.new, "new flows/s"]]
		.filter(([n]) => n).map(([n, what]) => `${count(n)} ${what}`);
	if (limits.rate) {
		most.unshift(`${bits(limits.rate)} each way`);
	}
	return most.length > 0 && `at most ${most.join(", ")}` + (refused > 0 ? ` (${count(refused)} refused)` : "");
}

// placeOf says where a segment's server is.
function placeOf(segment) {
	if (segment.device) {
		return "its server is behind this device";
	}
	return segment.netns ? `netns ${segment.netns}` : "host's namespace";
}

// The operations that make sense in each state.
const operations = { active: ["drain", "stop"], draining: ["activate", "stop"], stopped: ["start"] };
const done = { drain: "is draining", activate: "is active", stop: "is stopped", start: "has started" };

export class SegmentCard extends Card {
	#name;
	#reason = html("p", { class: "reason" });
	#buttons;
	#weight;
	#configured = html("span", { class: "label" });
	#reset;
	#weighed;

	constructor(name) {
		super("segment", name, figures("Out of it", "bitsFrom", "Into it", "bitsTo"), charts(`segment ${name}`, `out of ${name}`, "bitsFrom", `into ${name}`, "bitsTo"));
		this.#name = name;
		this.element.querySelector(".facts").after(this.#reason);
		this.#buttons = Object.fromEntries(Object.keys(done).map((what) => [what, this.#operation(what)]));
		this.#weight = html("input", { type: "number", min: 1, max: 256, required: "", "aria-label": `Weight of segment ${name}`, onkeydown: (e) => e.key === "Enter" && this.#weigh() });
		this.#reset = button("Undo", `Undo weight of segment ${name}`, () => operate(`Segment ${name} has its configured weight.`, "DELETE", this.#path("weight")));
		this.actions.append(
			html("div", { class: "actions" }, ...Object.values(this.#buttons), this.capture),
			html("div", { class: "actions" }, html("span", { class: "label", "aria-hidden": "true" }, "Weight"), this.#weight,
				button("Set", `Set weight of segment ${name}`, () => this.#weigh()), this.#reset, this.#configured));
	}

	#path(what) {
		return `/vnic/segments/${this.#name}/${what}`;
	}

	#operation(what) {
		const text = what[0].toUpperCase() + what.slice(1);
		const question = what !== "stop" ? undefined : {
			title: `Stop segment ${this.#name}?`,
			text: "Its listeners close. What is being answered is finished; new flows go to other segments, or are refused.",
			yes: `Stop ${this.#name}`,
		};
		return button(question ? text + "…" : text, `${text} segment ${this.#name}`,
			() => operate(`Segment ${this.#name} ${done[what]}.`, "POST", this.#path(what), undefined, question), question ? { class: "grave" } : {});
	}

	#weigh() {
		if (this.#weight.reportValidity()) {
			const weight = this.#weight.valueAsNumber;
			operate(`Segment ${this.#name} has the weight ${weight}.`, "POST", this.#path("weight"), { weight });
		}
	}

	update(segment, status, history, view) {
		this.show([condition(segment)], [
			segment.addresses.join(" "), segment.interface, placeOf(segment),
			segment.client_ip === "preserve" && "client_ip preserve", segment.reach && `may reach ${segment.reach.join(", ")}`, limitsOf(segment),
		], segment, history, view);
		setText(this.#reason, segment.health.reason ?? "");
		this.#reason.hidden = !segment.health.reason;
		this.#offer(segment.state);
		if (this.#weighed !== segment.weight) {
			this.#weighed = segment.weight;
			this.#weight.value = segment.weight;
		}
		this.#reset.hidden = segment.weight === segment.configured_weight;
		setText(this.#configured, this.#reset.hidden ? "" : `configured: ${segment.configured_weight}`);
		const weighty = sorted(status.bridges).some(([, b]) => chooses(b, this.#name) && !["first", "round_robin"].includes(b.lb_policy.policy));
		this.#weight.parentElement.hidden = !weighty && this.#reset.hidden;
	}

	// offer shows the buttons of a state. The focus goes to another one when its own
	// is gone.
	#offer(state) {
		const had = document.activeElement;
		for (const [what, b] of Object.entries(this.#buttons)) {
			b.hidden = !operations[state].includes(what);
		}
		if (had?.hidden && Object.values(this.#buttons).includes(had)) {
			this.#buttons[operations[state][0]].focus();
		}
	}
}
