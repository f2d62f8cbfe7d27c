// What a status means.

import { sorted } from "./dom.js";

// condition is a segment's health and state in a word, with a sign and its gravity.
export function condition(segment) {
	if (segment.state === "stopped") {
		return { sign: "■", word: "stopped", gravity: "bad" };
	}
	if (!segment.health.healthy) {
		return { sign: "✕", word: "unhealthy", gravity: "bad" };
	}
	if (segment.state === "draining") {
		return { sign: "◐", word: "draining", gravity: "warn" };
	}
	return { sign: "✓", word: segment.health.checked ? "healthy" : "active", gravity: "good" };
}

// linkOf is the condition of a bridge's NIC.
export function linkOf(bridge) {
	if (!bridge.up) {
		return { sign: "✕", word: "link down", gravity: "bad" };
	}
	if (bridge.gateways?.some(({ silent }) => silent)) {
		return { sign: "✕", word: "gateway silent", gravity: "bad" };
	}
	if (bridge.gateways?.some(({ mac }) => !mac)) {
		return { sign: "◐", word: "gateway not resolved", gravity: "warn" };
	}
	return { sign: "✓", word: "link up", gravity: "good" };
}

// roleOf is whether a bridge that fails over, or is announced, has its addresses; none for others.
export function roleOf({ failover, announce }) {
	const role = failover ?? announce;
	if (!role) {
		return [];
	}
	const roles = {
		active: { sign: "✓", word: "active", gravity: "good" },
		standby: { sign: "◌", word: "stands by", gravity: "" },
		draining: { sign: "◐", word: "draining", gravity: "warn" },
	};
	const unfit = role.unfit ? [{ sign: "✕", word: `not fit: ${role.unfit}`, gravity: "bad" }] : [];
	return [roles[role.state], ...unfit];
}

// gatewaysOf names a bridge's gateways, one of each family.
export const gatewaysOf = (bridge) => bridge.gateways ? `gateway ${bridge.gateways.map(({ address }) => address).join(" ")}` : "no gateway";

// refusalsOf are the families of which no segment takes new flows now.
export const refusalsOf = (bridge) => sorted(bridge.candidates)
	.filter(([, segments]) => segments.length === 0)
	.map(([family]) => ({ sign: "✕", word: `no segment for ${family === "ipv6" ? "IPv6" : "IPv4"}`, gravity: "bad" }));

export const takesNewFlows = (segment) => segment.state === "active" && segment.health.healthy;

export const policyOf = (bridge) => bridge.lb_policy ? [bridge.lb_policy.policy, ...bridge.lb_policy.segments].join(" ") : "steer only";

export const chooses = (bridge, segment) => bridge.lb_policy?.segments.includes(segment) ?? false;

export const steers = (bridge, segment) => bridge.steer?.some((rule) => segmentsOf(rule).includes(segment)) ?? false;

// segmentsOf are the segments that a steer rule can give.
export const segmentsOf = (rule) => rule.lb_policy?.segments ?? [rule.segment];

// ruleOf is a steer rule as the Caddyfile has it.
export function ruleOf({ segment, lb_policy: policy, sites, clients, names, ports, protocols }) {
	if (sites) {
		return "steer sites";
	}
	const matchers = [["client", clients], ["name", names], ["port", ports], ["protocol", protocols]].filter(([, values]) => values);
	return ["steer", segment ?? ["lb_policy", policy.policy, ...policy.segments].join(" "), ...matchers.map(([what, values]) => [what, ...values].join(" "))].join(" ");
}

// isMany tells whether there are more segments than cards can show at a glance.
export const isMany = (status) => Object.keys(status.segments).length > 6;

// droppedBy is how many packets of a device were dropped.
export const droppedBy = ({ drops }) => Object.values(drops).reduce((sum, n) => sum + n, 0);

// segmentsInOrder are the segments' names, those of the first bridge first.
export function segmentsInOrder(status) {
	const bridges = sorted(status.bridges).map(([, bridge]) => bridge);
	const first = (name) => {
		const i = bridges.findIndex((b) => chooses(b, name) || steers(b, name));
		return i < 0 ? bridges.length : i;
	};
	return Object.keys(status.segments).sort((a, b) => first(a) - first(b) || (a < b ? -1 : 1));
}
